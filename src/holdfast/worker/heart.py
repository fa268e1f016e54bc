"""The heart: beats for one worker's instance from a thread with a loop of its own, so that a handler that blocks the
worker's loop does not lose its jobs.

Beats go through `source.beat_source()` when the source has it (a connection for the thread's loop), else through the
source itself, whose `heartbeat` must then be safe to call from another thread. Answers are handed to the worker's loop.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.job.commands import Beat
from holdfast.worker.insist import pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.commands import Signals
    from holdfast.job.model import Instance
    from holdfast.store import Source
    from holdfast.worker.timing import Timing


class Body(Protocol):
    """What a heart beats for: a worker. What says nothing of threads is called in the worker's loop."""

    def describe(self) -> Instance:
        """The instance's record as of now. Called from the heart's thread."""
        ...

    def overdue_at(self) -> float | None:
        """When (monotonic) the first time limit of a running handler ends; None: none has one. Any thread may ask."""
        ...

    def beat_within(self) -> float:
        """How many seconds after a beat the next one must come, for the shortest lease that is held. Any thread may ask."""
        ...

    def beaten(self, signals: Signals, sent: float, received: float) -> None:
        """A beat was answered; the times are by the monotonic clock of this machine."""
        ...

    def beat_failed(self, error: BaseException) -> None:
        """A beat was not answered."""
        ...


class Heart(Protocol):
    """Something that beats for a worker: its own thread, or the parent of its process."""

    async def start(self, body: Body) -> None:
        """Begin; return when the first beat was answered or has failed."""
        ...

    def poke(self) -> None:
        """Beat now: the record has changed."""
        ...

    async def stop(self) -> None:
        """Beat once more, for the last record, and end."""
        ...


class ThreadHeart:
    """Beats from a daemon thread, each `every` seconds; sooner after a failure."""

    def __init__(
        self,
        source: Source[Any],
        *,
        lease: float,
        every: float,
        timing: Timing,
        monotonic: Callable[[], float],
    ) -> None:
        self._source, self._lease, self._every = source, lease, every
        self._timing, self._monotonic = timing, monotonic
        self._poke = threading.Event()
        self._stopping = False
        self._ended = threading.Event()

    async def start(self, body: Body) -> None:
        """Start the thread; return after the first beat."""
        self._body, self._loop = body, asyncio.get_running_loop()
        self._first: asyncio.Future[None] = self._loop.create_future()
        self._last: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._run, name="holdfast-heart", daemon=True).start()
        await self._first

    def poke(self) -> None:
        """Beat now."""
        self._poke.set()

    async def stop(self) -> None:
        """Send the last beat, and wait for it at most one interval."""
        self._stopping = True
        self._poke.set()
        async with asyncio.timeout(self._every):
            await self._last

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - a heart that stops must say so, whatever stopped it
            self._hand_over(self._body.beat_failed, error)
        finally:
            self._hand_over(_set, self._first)
            self._hand_over(_set, self._last)

    async def _live(self) -> None:
        make = getattr(self._source, "beat_source", None)
        source: Source[Any] = self._source if make is None else make()
        failures = 0
        is_last = False
        while not is_last:
            is_last = self._stopping
            sent = self._monotonic()
            failures = 0 if await self._beat(source, sent) else failures + 1
            self._hand_over(_set, self._first)
            if not is_last:
                every = min(self._every, self._body.beat_within())
                wait = min(every, pause(failures)) if failures else every
                # The thread has nothing else to do, so its loop may be blocked.
                self._timing.pause(self._poke, sent + wait)
        close = getattr(source, "close", None)
        if source is not self._source and close is not None:
            await close()

    async def _beat(self, source: Source[Any], sent: float) -> bool:
        try:
            # A beat that hangs must not keep the next one from being tried.
            async with asyncio.timeout(self._every):
                signals = await source.heartbeat(Beat(instance=self._body.describe(), lease=self._lease))
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it and the next beat must come
            self._hand_over(self._body.beat_failed, error)
            return False
        self._hand_over(self._body.beaten, signals, sent, self._monotonic())
        return True

    def _hand_over(self, call: Callable[..., None], *what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *what)
        except RuntimeError:
            self._stopping = True  # the worker's loop is closed: there is nobody to beat for


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
