"""How scripts are run on each database. A driver is imported when its database is chosen."""
