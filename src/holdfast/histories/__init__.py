"""The adapters of the history ports. Only `holdfast.connect` chooses one."""
