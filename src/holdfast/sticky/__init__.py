"""Jobs that follow their key: the router's flow, and workers as its pods."""

from holdfast.sticky.router import Route, Router, RouterOptions

__all__ = ["Route", "Router", "RouterOptions"]
