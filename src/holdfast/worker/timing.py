"""Timers by the clock that is given, so that a test moves the time and waits for nothing.

`LoopTiming` asks the event loop and the operating system. `ManualTiming` fires when a test advances its ManualClock.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock, ManualClock


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None:
        """Let it not happen. Fine when it already did."""
        ...


class Timing(Protocol):
    """Waiting, by `Clock.monotonic()`."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in the loop when the clock shows `when` or later."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...

    def pause(self, poke: threading.Event, until: float) -> None:
        """Block this thread until `poke` is set or the clock shows `until`; `poke` is cleared."""
        ...


class LoopTiming:
    """Real time."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in the running loop when the clock shows `when`. It may come a little early: look again."""
        return asyncio.get_running_loop().call_later(max(0.0, when - self._monotonic()), callback)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def pause(self, poke: threading.Event, until: float) -> None:
        """Block until poked, or until the clock shows `until`."""
        poke.wait(max(0.0, until - self._monotonic()))
        poke.clear()


class ManualTiming:
    """Time that a test moves with `advance`. Timers fire in their order, each with the clock at its own time."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._order = count()
        self._timers: list[tuple[float, int, _ManualTimer]] = []

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in `advance`; at the next turn of the loop if `when` has come already."""
        loop = asyncio.get_running_loop()
        timer = _ManualTimer(callback, loop)
        with self._lock:
            if when <= self._clock.monotonic():
                loop.call_soon(timer.fire)
            else:
                heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock was advanced by `seconds`."""
        woken = asyncio.Event()
        timer = self.call_at(self._clock.monotonic() + seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    def pause(self, poke: threading.Event, until: float) -> None:
        """Block until poked, or until another thread has advanced the clock to `until`."""
        timer = _ManualTimer(poke.set)
        with self._lock:  # an advance between the look at the clock and the push would be missed
            if self._clock.monotonic() >= until:
                poke.set()
            else:
                heapq.heappush(self._timers, (until, next(self._order), timer))
        poke.wait()
        poke.clear()
        timer.cancel()

    def advance(self, seconds: float) -> None:
        """Move the clock on by `seconds` and fire what is due. From another thread, what belongs to a loop is left to it."""
        end = self._clock.monotonic() + seconds
        while (timer := self._next(end)) is not None:
            timer.fire()

    def _next(self, end: float) -> _ManualTimer | None:
        with self._lock:
            when, timer = end, None
            if self._timers and self._timers[0][0] <= end:
                when, _, timer = heapq.heappop(self._timers)
            self._clock.advance(max(0.0, when - self._clock.monotonic()))
            return timer


class _ManualTimer:
    def __init__(self, callback: Callable[[], None], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._callback: Callable[[], None] | None = callback
        self._loop, self._thread = loop, threading.get_ident()

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        if self._loop is not None and self._thread != threading.get_ident():
            self._loop.call_soon_threadsafe(self.fire)
            return
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
