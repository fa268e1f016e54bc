"""Where a node or worker logs: to standard error, in a form for people on a terminal, as JSON otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from holdfast.telemetry.logs import set_up

if TYPE_CHECKING:
    from holdfast.config import Settings


def set_up_logs(settings: Settings) -> None:
    """Log as the settings say, for the rest of the process."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    set_up(sys.stderr, json=as_json, level=logging.getLevelNamesMapping()[settings.log_level.upper()])
