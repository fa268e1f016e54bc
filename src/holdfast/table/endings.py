"""How a runner's words become endings of an attempt."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from holdfast.job.commands import ErrorInfo, Failed
from holdfast.job.content import ERROR_MAX, clean_text, safe_str

if TYPE_CHECKING:
    from holdfast.table.update import ColumnUpdate

_FRAMES_MAX: Final = 60


def failure(error: BaseException | str, *, retryable: bool, update: ColumnUpdate | None = None) -> Failed:
    """Return the ending of an attempt that failed with `error`."""
    if not isinstance(error, BaseException):
        return Failed(ErrorInfo("", clean_text(str(error), ERROR_MAX)), retryable=retryable, update=update)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    info = ErrorInfo(name, clean_text(safe_str(error), ERROR_MAX), _shown(error))
    return Failed(info, retryable=retryable, update=update)


def _shown(error: BaseException) -> str:
    try:
        lines = traceback.TracebackException(type(error), error, error.__traceback__, limit=-_FRAMES_MAX, compact=True)
        return clean_text("".join(lines.format()), ERROR_MAX)
    except Exception as fault:  # noqa: BLE001 - an exception of a user's may break while it is shown
        return f"[the traceback can not be shown: {type(fault).__name__}]"
