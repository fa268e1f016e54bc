"""The app: what users hold, and what runs it."""

from holdfast.app.holdfast import Holdfast
from holdfast.app.loading import load_app

__all__ = ["Holdfast", "load_app"]
