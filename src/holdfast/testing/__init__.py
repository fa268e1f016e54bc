"""What users get for their tests: steered time, jobs that run at once, contract suites for those who write a store."""
