"""What a handler decides. Returning a plain value means done with that value; raising means the attempt failed.

    return done({"sent": 3})
    return snooze("5m", update={"tries": 2}, reason="provider asks for patience")
    return cancel("the user is gone")
    return fail("no such account")          # final: no retry

Durations are seconds here; the functions `snooze` and friends in `holdfast` accept every form of a duration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class Done(msgspec.Struct, frozen=True):
    """The work is done. `update` is written in the same step (columns of a row, keys of `job.data`)."""

    result: Any = None
    update: Mapping[str, Any] | None = None


class Snooze(msgspec.Struct, frozen=True):
    """Run again after `delay` seconds; spends no failure."""

    delay: float
    update: Mapping[str, Any] | None = None
    reason: str = ""


class Cancel(msgspec.Struct, frozen=True):
    """End as canceled: there is nothing left to do."""

    reason: str = ""
    update: Mapping[str, Any] | None = None


class Fail(msgspec.Struct, frozen=True):
    """End as failed at once, whatever the retry policy says."""

    reason: str
    update: Mapping[str, Any] | None = None


Outcome = Done | Snooze | Cancel | Fail
