"""Crash simulation: what a handler leaves behind when its process dies in the middle, and whether the next run mends it.

A job runs at least once: a worker may die at any await, and the handler runs again from its start. `simulate_crashes`
makes that happen at each await in turn. The handler's coroutine is driven by hand; at the chosen suspension, once what it
waited for is there, it is dropped: no line of it runs any more, no `except`, no `finally`, as in a process that was
killed. Then the handler runs again, to its end, as the next attempt with a greater token, and the test looks at the
effects.

Only awaits that really suspend can be seen. A fake that never waits should `await asyncio.sleep(0)` where the real one
would talk to the world.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import msgspec

from holdfast.app.inline import begin, claim_of
from holdfast.clock import SystemClock
from holdfast.errors import UsageError
from holdfast.task import TaskProgram
from holdfast.worker.context import Context, enter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from holdfast.job.model import NewJob
    from holdfast.task import Task
    from holdfast.worker.context import Line

P = ParamSpec("P")
R = TypeVar("R")

SUSPENSIONS_MAX: Final = 10_000


class Crash(msgspec.Struct, frozen=True):
    """One simulated crash and the run after it.

    at: after which await the process died, from 1; 0: the first round, in which it did not. where: the line of the
    handler that waited there. result: what the run to the end returned.
    """

    at: int
    where: str
    result: Any


async def simulate_crashes(task: Task[P, Any], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Crash]:
    """Run the task once undisturbed, then once for each await with a crash behind it and a run to the end.

    After each round the caller asserts on the effects, and clears them:

        async for crash in simulate_crashes(charge, "order-1"):
            assert bank.charges == ["order-1"], crash
            bank.charges.clear()

    Raises what the handler raises; UsageError for tasks that are not async, and for one that never waits.
    """
    if task.policy.executor != "async":
        raise UsageError(
            f"simulate_crashes: expected an async task, found {task!r}. Threads can not be stopped in between."
        )
    job = task.job(*args, **kwargs)
    dropped: list[Coroutine[Any, Any, Any]] = []
    try:
        whole = await _drive(_begin(task, job, 1), None)
        if not whole.waits:
            raise UsageError(
                f"simulate_crashes: {task!r} never waited, so that there is no place to crash at. "
                "Let its fakes `await asyncio.sleep(0)` where the real thing would wait."
            )
        yield Crash(0, "", whole.value)
        for at in range(1, whole.waits + 1):
            work = _begin(task, job, 1)
            dropped.append(work)
            cut = await _drive(work, at)
            if not cut.crashed:
                return  # this round took another way, and had fewer awaits
            again = await _drive(_begin(task, job, 2), None)
            yield Crash(at, cut.where, again.value)
    finally:
        for work in dropped:
            _close(work)


def _begin(task: Task[P, Any], new: NewJob, attempt: int) -> Coroutine[Any, Any, Any]:
    host = _Host()
    job = begin(new, host.now(), attempt=attempt)
    claim = claim_of(job)
    ctx = Context(claim, host)
    enter(ctx)
    work: Coroutine[Any, Any, Any] = TaskProgram(task).bind(claim, ctx)()
    return work


class _Run(msgspec.Struct, frozen=True):
    """How far a drive went. waits: how many suspensions there were."""

    waits: int
    value: Any = None
    crashed: bool = False
    where: str = ""


async def _drive(work: Coroutine[Any, Any, Any], crash_at: int | None) -> _Run:
    """Do for `work` what a task of asyncio does, up to the end of suspension `crash_at`."""
    before = asyncio.all_tasks()
    waits = 0
    error: BaseException | None = None
    while True:
        try:
            waited_for = work.send(None) if error is None else work.throw(error)
        except StopIteration as stop:
            return _Run(waits, stop.value)
        waits += 1
        if waits > SUSPENSIONS_MAX:
            raise UsageError(f"simulate_crashes: more than {SUSPENSIONS_MAX:,} awaits. Give it less to do.")
        error = await _wait(waited_for)
        if waits == crash_at:
            where = _where(work)
            await _kill_children(asyncio.all_tasks() - before)
            return _Run(waits, crashed=True, where=where)


async def _wait(waited_for: Any) -> BaseException | None:
    """Wait until what a coroutine yielded is there; return a cancellation that came meanwhile."""
    try:
        if waited_for is None:
            await asyncio.sleep(0)
        else:
            # Whoever takes a future from a coroutine has to take this mark off, as asyncio's task does.
            waited_for._asyncio_future_blocking = False
            await asyncio.wait((waited_for,))
    except asyncio.CancelledError as cancelled:
        if waited_for is not None:
            waited_for.cancel()
        return cancelled
    return None


def _where(work: Coroutine[Any, Any, Any]) -> str:
    frame = getattr(work, "cr_frame", None)
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


async def _kill_children(tasks: set[asyncio.Task[Any]]) -> None:
    # They would have died with the process. Cancelling is as near to that as asyncio lets us come.
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _close(work: Coroutine[Any, Any, Any]) -> None:
    """Let go of a dropped coroutine, when all rounds are over. Its `finally` blocks run now; nobody waits for them."""
    try:
        work.close()
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - it is long dead; what its clean-up raises says nothing
        return


class _Host:
    """The contexts' host: time, and nobody who listens."""

    state: Any = None

    def __init__(self) -> None:
        clock = SystemClock()
        self.now, self.monotonic = clock.now, clock.monotonic

    def report(self, ctx: Context, value: bytes, update: bytes | None, line: Line | None) -> None:
        """Reports of a simulated run are for nobody."""
