"""A chat server whose conversations live in three worker processes: `python -m examples.chat`."""
