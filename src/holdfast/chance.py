"""Chance for those who live outside the pure core."""

from __future__ import annotations

import os
import random
import threading
from itertools import accumulate
from struct import unpack
from typing import TYPE_CHECKING

from holdfast.job.ids import LOW_MAX, head

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock


class SystemDraw:
    """The machine's chance: jitter from a generator of its own, ids as UUIDv7. A `seed` makes the jitter repeatable."""

    def __init__(self, clock: Clock, seed: int | None = None) -> None:
        """`clock` dates the ids."""
        self._random = random.Random(seed)  # jitter needs no secrecy
        self._ids = IdMaker(clock.now)

    def unit(self) -> float:
        """A number from 0.0 up to, not including, 1.0."""
        return self._random.random()

    def job_id(self, now: float) -> str:  # the maker reads the same clock, and keeps its ids growing
        """A new id, ordered by time."""
        return self._ids()


class IdMaker:
    """Makes ids that grow, from several threads, also after a fork. `now` tells seconds since the epoch."""

    def __init__(self, now: Callable[[], float], draw: Callable[[int], bytes] = os.urandom) -> None:
        self._now, self._draw = now, draw
        self._lock = threading.Lock()
        self._pid = 0
        self._milliseconds = -1
        self._text = ""  # all but the last 12 digits, fixed within a millisecond
        self._low = 0
        self._steps: list[int] = []

    def __call__(self) -> str:
        """Return the next id. Costs about a microsecond: random bytes are drawn from the system in batches."""
        with self._lock:
            milliseconds = int(self._now() * 1_000)
            if milliseconds > self._milliseconds or self._pid != os.getpid():
                self._begin(milliseconds)
            elif self._steps:
                self._low += self._steps.pop() + 1
            else:
                self._low += self._step() + 1
            if self._low > LOW_MAX:
                # The count of this millisecond is used up (the clock stands, or stepped back): borrow the next.
                self._begin(self._milliseconds + 1)
            return f"{self._text}{self._low:012x}"

    def many(self, count: int) -> list[str]:
        """Return the next `count` ids, at a third of the cost of as many calls."""
        made: list[str] = []
        while len(made) < count:
            made.append(self())
            with self._lock:
                room = min(count - len(made), len(self._steps), (LOW_MAX - self._low) >> 32)
                if room:
                    steps, text = self._steps[-room:], self._text
                    del self._steps[-room:]
                    lows = accumulate([step + 1 for step in steps], initial=self._low)
                    next(lows)
                    made += [f"{text}{low:012x}" for low in lows]
                    self._low += sum(steps) + room
        return made

    def _begin(self, milliseconds: int) -> None:
        if self._pid != os.getpid():
            # A child of a fork has the parent's numbers: it draws its own before the first id.
            self._pid = os.getpid()
            self._steps.clear()
        self._milliseconds = max(milliseconds, self._milliseconds)
        self._text = head(self._milliseconds, self._step())
        # 47 of 48 bits: the top one is left for counting up.
        self._low = (self._step() << 32 | self._step()) >> 17

    def _step(self) -> int:
        if not self._steps:
            self._steps.extend(unpack("<1024I", self._draw(4_096)))
        return self._steps.pop()
