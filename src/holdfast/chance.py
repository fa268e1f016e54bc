"""Chance for those who live outside the pure core."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from holdfast.job.ids import IdMaker

if TYPE_CHECKING:
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
