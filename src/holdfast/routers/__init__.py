"""Adapters of the router port."""
