"""Whether a worker process still deserves to be beaten for. Pure."""

from __future__ import annotations

from typing import Final

from holdfast.worker.supervisor.messages import Here

SILENT_LIMIT: Final = 600.0  # seconds
#: What a loop may be late for its own deadlines, in seconds, before it counts as blocked.
SLACK: Final = 5.0


def fault_of(sign: Here | None, heard_at: float, now: float, *, silent_limit: float, slack: float = SLACK) -> str:
    """Return why a process is to be killed; empty while it is not.

    `sign` is the last one, heard at `heard_at`; None while there was none. All times are by the monotonic clock, in seconds.
    """
    if now - heard_at >= silent_limit:
        return f"gave no sign of life for {silent_limit:g} s"
    if sign is None:
        return ""
    if now - sign.turned_at >= silent_limit:
        return f"its event loop was blocked for {silent_limit:g} s"
    due = sign.overdue_at
    if due is not None and sign.turned_at < due and heard_at > due + slack:
        return "its event loop was blocked beyond the time limit of a job"
    return ""
