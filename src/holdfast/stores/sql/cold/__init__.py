"""Scripts of what is done rarely: control, queues, definitions, schedules, workers, records."""
