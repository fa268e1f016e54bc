"""The scheduler: looks at the store's schedules, fires what is due, sleeps until the next one.

Any number of them may run over one store, one in each worker process as a rule: a tick belongs to whoever moves the
schedule's `next_run_at` on, in the same step that stores its jobs. Nobody is elected, so nothing waits for a leader that
died; between tick and job there is no moment at which a kill could lose one of the two. Time is the store's.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import TaskInactive, UnknownTask
from holdfast.job.model import Overlap, Schedule, ScheduleStatus
from holdfast.schedule.jobs import job_of
from holdfast.schedule.plan import next_of, step_of
from holdfast.worker.hooks import Alarm
from holdfast.worker.timing import LoopTiming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Self

    from holdfast.clock import Clock
    from holdfast.job.model import Definition
    from holdfast.schedule.plan import Step
    from holdfast.store import Store
    from holdfast.worker.hooks import OnError
    from holdfast.worker.timing import Timing

#: The longest sleep, in seconds, where the store tells of changes: a look behind it all the same.
POLL: Final = 30.0
#: The longest where it does not: with what chance adds, a change made elsewhere is seen within five seconds.
POLL_UNTOLD: Final = 4.0
#: The shortest sleep, in seconds: so often at most is a store asked that lets nobody have a tick.
_NAP: Final = 0.01
#: How many steps of one schedule follow each other before the others have their turn.
_STEPS: Final = 20


class Fired(msgspec.Struct, frozen=True):
    """What one look did: the jobs that it made, and when to look again (store time; None: nothing is planned)."""

    jobs: tuple[str, ...]
    next_at: float | None


class Scheduler:
    """Fires the schedules of a store: `await run_once()`, or `async with scheduler:` to do so until its end."""

    def __init__(
        self,
        store: Store,
        *,
        new_id: Callable[[], str],
        alarm: Alarm,
        timing: Timing,
        draw: Callable[[], float],
        monotonic: Callable[[], float],
        poll: float | None = None,
    ) -> None:
        self._store, self._new_id, self._alarm = store, new_id, alarm
        self._timing, self._draw, self._monotonic, self._poll = timing, draw, monotonic, poll
        self._wake = asyncio.Event()
        self._unheard: Callable[[], None] = lambda: None  # ends the store's calls
        self._broken: dict[str, int] = {}  # schedule -> the revision that can not be read

    # --- the loop

    async def __aenter__(self) -> Self:
        """Begin to fire."""
        self._loop = asyncio.get_running_loop()
        push: Callable[[Callable[[], None]], Callable[[], None]] | None = getattr(self._store, "on_schedule", None)
        if push is not None:
            self._unheard = push(self._changed)
        self._running = self._loop.create_task(self._run(), name="holdfast-schedules")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Fire no more. A tick that is being stored is stored, or not: its job and its schedule move together."""
        self._unheard()
        self._running.cancel()
        await asyncio.wait((self._running,))

    def wake(self) -> None:
        """Look now: a schedule was changed. Call it in the loop."""
        self._wake.set()

    def _changed(self) -> None:
        """The store tells of a change, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _longest(self) -> float:
        told = getattr(self._store, "hears_schedules", False)
        poll = self._poll if self._poll is not None else POLL if told else POLL_UNTOLD
        return poll * (0.75 + self._draw() / 2)  # out of step with the other schedulers

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            rest = self._longest()
            try:
                fired = await self.run_once()
                if fired.next_at is not None:
                    rest = max(_NAP, min(rest, fired.next_at - self._store.now()))
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the next look may go well
                self._alarm("", None, error)
            timer = self._timing.call_at(self._monotonic() + rest, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    # --- one look

    async def run_once(self) -> Fired:
        """Fire all that is due, and say when something will be."""
        found = [one for one in await self._store.schedules() if one.status is ScheduleStatus.ACTIVE]
        made: list[str] = []
        next_times = [await self._fire(schedule, made) for schedule in found]
        return Fired(tuple(made), min((at for at in next_times if at is not None), default=None))

    async def _fire(self, schedule: Schedule, made: list[str]) -> float | None:
        """Fire what is due of one schedule; return when it comes next."""
        if self._broken.get(schedule.name) == schedule.revision:
            return None
        for _ in range(_STEPS):
            try:
                step = step_of(schedule, self._store.now())
            except Exception as error:  # noqa: BLE001 - one schedule that can not be read holds up no other
                self._broken[schedule.name] = schedule.revision
                self._alarm(schedule.queue, None, error)
                return None
            if step is None:
                return schedule.next_run_at
            moved = await self._take(schedule, step, made)
            if not isinstance(moved, Schedule):
                return moved
            schedule = moved
        return schedule.next_run_at

    async def _take(self, schedule: Schedule, step: Step, made: list[str]) -> Schedule | float | None:
        """Store a step; return the schedule behind it, or else when to look again."""
        assert schedule.next_run_at is not None
        definition = await self._definition(schedule.task)
        if definition is not None and not definition.runs:
            return None  # its ticks wait; when the task is active again, they are ticks that were missed
        ticks = await self._ticks(schedule, step)
        jobs = [job_of(schedule, definition, tick, self._new_id) for tick in ticks]
        following = next_of(schedule, step, len(jobs))
        try:
            if not await self._store.fire_schedule(schedule.name, schedule.next_run_at, jobs, following):
                return self._store.now()  # somebody else was first
        except TaskInactive:
            return None
        made += [job.id for job in jobs]
        return msgspec.structs.replace(
            schedule,
            next_run_at=following,
            count=schedule.count + len(jobs),
            last_job=jobs[-1].id if jobs else schedule.last_job,
        )

    async def _ticks(self, schedule: Schedule, step: Step) -> tuple[float, ...]:
        """Return the ticks that become jobs: none while the last job goes on, if jobs must not overlap."""
        if not step.ticks or schedule.overlap is not Overlap.SKIP:
            return step.ticks
        # Of several missed ticks the first would hold up the others: one is made of them.
        return () if await self._is_unfinished(schedule.last_job) else step.ticks[-1:]

    async def _is_unfinished(self, job_id: str) -> bool:
        if not job_id:
            return False
        [job] = await self._store.jobs([job_id])
        return job is not None and not job.final

    async def _definition(self, alias: str) -> Definition | None:
        try:
            return await self._store.definition(alias)
        except UnknownTask:
            return None


@asynccontextmanager
async def firing(
    store: Store,
    clock: Clock,
    new_id: Callable[[], str],
    on_error: OnError | None = None,
    *,
    once: bool = False,
) -> AsyncIterator[Scheduler]:
    """Fire the schedules of `store` while the body runs; `once`: what is due now, before it runs.

    on_error is told of what goes wrong; without it that is logged.
    """
    alarm = Alarm(on_error, asyncio.get_running_loop())
    timing = LoopTiming(clock)
    scheduler = Scheduler(
        store, new_id=new_id, alarm=alarm, timing=timing, draw=random.random, monotonic=clock.monotonic
    )
    try:
        if once:
            await scheduler.run_once()
            yield scheduler
        else:
            async with scheduler:
                yield scheduler
    finally:
        await alarm.drain()
