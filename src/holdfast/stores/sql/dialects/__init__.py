"""The words of each database."""
