"""Metrics, tracing and logs: they listen at the front door of the store and to the worker. Adapters have none of them."""
