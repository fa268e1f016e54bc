"""The only way to learn the time."""

from __future__ import annotations

import time
from functools import partial
from typing import Final, Protocol


class Clock(Protocol):
    """Two clocks, never mixed."""

    def now(self) -> float:
        """Seconds since the epoch, UTC; for what is stored."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, that never step back; for durations and deadlines."""
        ...


#: Linux has a clock that counts the time of a suspended machine; elsewhere the plain monotonic one must do.
_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clocks.

    now: seconds since the epoch, UTC. monotonic: seconds that count the time of a suspended machine too, so that a lease does
    not outlive a nap. Every attempt asks twice, so nothing of ours stands between.
    """

    now = staticmethod(time.time)
    monotonic = staticmethod(partial(time.clock_gettime, _STEADY))


class ManualClock:
    """A clock that moves when a test says so.

    >>> clock = ManualClock(1_000.0)
    >>> clock.advance(5.0)
    >>> clock.now()
    1005.0
    """

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        """Start at `start` seconds since the epoch."""
        self._now = start
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the start of this clock."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks on by `seconds` (not negative)."""
        if seconds < 0:
            raise ValueError(f"a clock advances by 0 or more seconds, found {seconds}; use step() for the wall clock")
        self._now += seconds
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, also back, as an operator or NTP would."""
        self._now += seconds
