"""The worker's side of the process executor: a pool of children, each running one job at a time."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import WorkerError
from holdfast.job.commands import Ending, Released
from holdfast.worker.process.attempt import Attempt, Ended, Listener, load
from holdfast.worker.process.frames import FromChild, Load, Result, Stop
from holdfast.worker.process.spawn import KILL_AFTER, Spawned, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.worker.context import Line
    from holdfast.worker.process.attempt import CancelSignal
    from holdfast.worker.program import ProcessCall

CHILD: Final = "holdfast.worker.process.child"
JOBS_PER_CHILD: Final = 1_000
CANCEL_GRACE: Final = 5.0
NO_PROCESS_DELAY: Final = 5.0  # seconds that a job waits when the machine refuses another process


class ChildResult(msgspec.Struct, frozen=True):
    """What became of an attempt. duration: seconds of it, the start of a fresh child not counted.

    stopped: it ended because it was cancelled (by itself or killed), or because the pool was closed.
    """

    ending: Ending
    duration: float
    stopped: bool = False


class _Child:
    """A child process, and what the pool knows of it."""

    def __init__(self, process: Spawned[FromChild], app: str) -> None:
        self.process = process
        self.app = app
        self.jobs = 0
        self.loaded = False
        self.cut_off = False  # killed because the pool was closed


class _Work(msgspec.Struct, frozen=True):
    call: ProcessCall
    time_limit: float | None
    listener: Listener
    cancel: CancelSignal
    cancel_grace: float


class ProcessPool:
    """Runs attempts in child processes: started on demand, used again, replaced when they are worn.

    max_children: how many jobs run at the same time. max_jobs_per_child: a child is replaced after so many. max_rss: bytes;
    a child that holds more after a job is replaced. Everything must be called in one event loop.
    """

    def __init__(
        self,
        max_children: int,
        *,
        clock: Clock,
        max_jobs_per_child: int = JOBS_PER_CHILD,
        max_rss: int | None = None,
    ) -> None:
        self._clock = clock
        self._max_children = max_children
        self._max_jobs = max_jobs_per_child
        self._max_rss = max_rss
        self._slots = asyncio.Semaphore(max_children)
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._none_busy = asyncio.Event()
        self._none_busy.set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The processes that run a job or wait for one."""
        return frozenset(child.process.pid for child in (*self._busy, *self._idle) if child.process.code is None)

    async def run(
        self,
        call: ProcessCall,
        *,
        time_limit: float | None,
        on_progress: Callable[[bytes, bytes | None], None],
        on_log: Callable[[Line], None],
        cancel: CancelSignal,
        cancel_grace: float = CANCEL_GRACE,
    ) -> ChildResult:
        """Run one attempt in a child, waiting for a free one; return what became of it, whatever it did to its process.

        time_limit: seconds; past them the child is killed and the attempt has timed out. cancel: asks the handler to stop;
        when it has not after `cancel_grace` seconds, the child is killed. Progress, data and log lines of the handler come
        through `on_progress` (value, update) and `on_log`, in this loop. Cancelling `run` itself kills the child.
        Raises WorkerError when the pool is closed.
        """
        self._refuse_if_closed()
        async with self._slots:
            if self._closed or cancel.is_set():
                return ChildResult(Released("stopped before it was started", counted=False), 0.0, stopped=True)
            try:
                child = self._take(call.app) or await self._start(call.app)
            except OSError as error:
                reason = f"the machine refuses another process: {error}"
                return ChildResult(Released(reason, delay=NO_PROCESS_DELAY), 0.0)
            return await self._use(child, _Work(call, time_limit, Listener(on_progress, on_log), cancel, cancel_grace))

    async def close(self, grace: float = 0.0) -> None:
        """Take no more jobs, wait `grace` seconds for those that run, kill what is left. Returns when no child lives."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._none_busy.wait()
        for child in self._busy:
            child.cut_off = True
            self._retire(child, politely=False)
        while self._idle:
            self._retire(self._idle.pop(), politely=True)
        await self._none_busy.wait()
        while self._retiring:
            await asyncio.wait(self._retiring)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise WorkerError("expected an open process pool, found a closed one. Run jobs before close().")

    # --- one job ---------------------------------------------------------------------------------------------------

    async def _use(self, child: _Child, work: _Work) -> ChildResult:
        self._busy.add(child)
        self._none_busy.clear()
        result: Result | None = None
        try:
            ended, duration = await self._attempt(child, work)
            result = ended.result
        finally:
            self._give_back(child, result)
        if child.cut_off and result is None:
            return ChildResult(Released("the worker stopped and killed its process"), duration, stopped=True)
        return ChildResult(ended.ending, duration, ended.stopped)

    async def _attempt(self, child: _Child, work: _Work) -> tuple[Ended, float]:
        if not child.loaded and (refused := await load(child.process, work.cancel)):
            return refused, 0.0
        child.loaded = True
        child.jobs += 1
        started = self._clock.monotonic()
        attempt = Attempt(child.process, work.call, work.listener)
        ended = await attempt.run(time_limit=work.time_limit, cancel=work.cancel, cancel_grace=work.cancel_grace)
        return ended, self._clock.monotonic() - started

    def _give_back(self, child: _Child, result: Result | None) -> None:
        self._busy.discard(child)
        if not self._busy:
            self._none_busy.set()
        if result is not None and not self._closed and self._fit(child, result):
            self._idle.append(child)
        elif not child.cut_off:
            self._retire(child, politely=result is not None)

    def _fit(self, child: _Child, result: Result) -> bool:
        fat = self._max_rss is not None and result.rss > self._max_rss
        return not (result.worn or fat or child.jobs >= self._max_jobs)

    # --- children --------------------------------------------------------------------------------------------------

    def _take(self, app: str) -> _Child | None:
        """Return an idle child of `app`, the last used one first; make room for a new one if there is none."""
        dead = [child for child in self._idle if child.process.code is not None]
        for child in dead:
            self._idle.remove(child)
            child.process.close()
        for child in reversed(self._idle):
            if child.app == app:
                self._idle.remove(child)
                return child
        if len(self._idle) + len(self._busy) >= self._max_children:
            self._retire(self._idle.pop(0), politely=True)
        return None

    async def _start(self, app: str) -> _Child:
        process: Spawned[FromChild] = await spawn(CHILD, FromChild)
        process.post(Load(app, tuple(sys.path)))
        return _Child(process, app)

    def _retire(self, child: _Child, *, politely: bool) -> None:
        """End a child while the pool goes on; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(_end(child.process, politely=politely), name="holdfast-retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _end(process: Spawned[FromChild], *, politely: bool) -> None:
    if politely:
        process.post(Stop())
        await process.exited(KILL_AFTER)
    await process.kill()
    process.close()
