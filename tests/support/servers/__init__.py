"""Private database servers for tests: made in a temporary folder, killed and restarted for real, gone at the end."""
