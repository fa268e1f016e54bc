"""The HTTP API. It knows ports alone: what it serves is given to it."""
