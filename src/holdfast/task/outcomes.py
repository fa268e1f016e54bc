"""The outcomes as functions, which take every form of a duration: what a handler returns when a plain value is not enough.

return done({"sent": 3}, update={"mails": 3})
return snooze("5m", update={"tries": 2}, reason="the provider asks for patience")
return cancel("the user is gone")
return fail("no such account")          # final: no retry
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.durations import Duration, seconds
from holdfast.job.outcome import Cancel, Done, Fail, Snooze

if TYPE_CHECKING:
    from collections.abc import Mapping


def done(result: Any = None, *, update: Mapping[str, Any] | None = None) -> Done:
    """The work is done with `result`. `update` is merged into the job's data in the same step."""
    return Done(result, update)


def snooze(delay: Duration, *, update: Mapping[str, Any] | None = None, reason: str = "") -> Snooze:
    """Run again after `delay`; spends no failure. Raises BadTime for what is no duration."""
    return Snooze(seconds(delay, "snooze delay"), update, reason)


def cancel(reason: str = "", *, update: Mapping[str, Any] | None = None) -> Cancel:
    """End as canceled: there is nothing left to do."""
    return Cancel(reason, update)


def fail(reason: str, *, update: Mapping[str, Any] | None = None) -> Fail:
    """End as failed at once, whatever the retry policy says."""
    return Fail(reason, update)
