"""Running all that waits, in a test, with time that the test owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.app.running import passes
from holdfast.errors import UsageError
from holdfast.job.state import State
from holdfast.worker.once import Pass

if TYPE_CHECKING:
    from holdfast import Holdfast
    from holdfast.clock import ManualClock

_PAGE: Final = 1_000
#: No test needs more; a job that snoozes for ever would.
ATTEMPTS_MAX: Final = 10_000


async def drain(app: Holdfast, clock: ManualClock | None = None, *, attempts_max: int = ATTEMPTS_MAX) -> Pass:
    """Run every job that is ready, and what those enqueue, until none is; return what became of them.

    With `clock`, which must be the app's, it is then moved to the time at which the next job is due, and so on until
    nothing waits: retries, snoozes and delays happen at once. Paused jobs and queues stay as they are. Raises UsageError
    after `attempts_max` attempts, because something goes on for ever.
    """
    if clock is not None and app.clock is not clock:
        raise UsageError("drain: expected the clock of the app, found another. Write Holdfast(…, clock=clock).")
    made: list[Pass] = []
    async with passes(app, None, {}) as make_pass:
        while True:
            made.append(await make_pass(attempts_max))
            if sum(one.total for one in made) > attempts_max:
                raise UsageError(
                    f"drain: more than {attempts_max:,} attempts. Does a job enqueue or snooze itself for ever?"
                )
            if made[-1].empty and not (clock is not None and await _move_to_next(app, clock)):
                return _joined(made)


async def _move_to_next(app: Holdfast, clock: ManualClock) -> bool:
    """Move the clock to when the next job is due; False if none waits for a time that is ahead."""
    due = await _next_due(app)
    if due is None or due <= clock.now():
        return False
    clock.advance(due - clock.now())
    return True


async def _next_due(app: Holdfast) -> float | None:
    due, cursor = None, ""
    while True:
        page = await app.jobs.list(states=[State.SCHEDULED, State.RETRYING], limit=_PAGE, cursor=cursor)
        for job in page.items:
            due = job.run_at if due is None else min(due, job.run_at)
        cursor = page.cursor
        if not cursor:
            return due


def _joined(made: list[Pass]) -> Pass:
    return Pass(**{name: tuple(one for p in made for one in getattr(p, name)) for name in Pass.__struct_fields__})
