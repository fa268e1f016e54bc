"""The settings of a program: one frozen value from flags, environment, file and defaults, each with its origin."""

from holdfast.config.resolve import Resolved, Setting, resolve
from holdfast.config.settings import Settings

__all__ = ["Resolved", "Setting", "Settings", "resolve"]
