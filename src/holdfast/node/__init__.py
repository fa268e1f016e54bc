"""A node: store, worker, HTTP API and metrics in one process, on the journal of a data folder unless told otherwise."""
