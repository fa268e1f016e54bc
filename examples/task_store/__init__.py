"""A task store in five steps: set up, define, register, enqueue, process. See README.md."""
