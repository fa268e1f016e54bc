"""The adapters of the Store port. Only `holdfast.connect` chooses one."""
