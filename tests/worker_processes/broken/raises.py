"""An app module that does not import."""

raise RuntimeError("the settings file is missing")
