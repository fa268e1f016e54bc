"""Where a node or worker logs: to standard error, in a form for people on a terminal, as JSON otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from holdfast.telemetry.logs import set_up

if TYPE_CHECKING:
    from holdfast.config import Settings


def set_up_logs(settings: Settings) -> tuple[bool, int]:
    """Log as the settings say, for the rest of the process; return whether as JSON, and from which level on."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    set_up(sys.stderr, json=as_json, level=level)
    return as_json, level
