"""A small shop: its orders are a task table on SQLite. `python -m examples.orders` places some, charges them and reports."""
