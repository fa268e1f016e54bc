"""How often one caller may come: buckets that fill with time. Pure but for the clock that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many callers are remembered; those that have been quiet longest go first, with a full bucket.
CALLERS_MAX: Final = 10_000


class Buckets:
    """Each caller may do `burst` at once, and `rate` a second from then on. `monotonic`: seconds from any start."""

    def __init__(self, rate: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._rate, self._burst, self._monotonic = rate, burst, monotonic
        self._levels: dict[str, tuple[float, float]] = {}  # caller -> what is left, when it was counted

    def take(self, caller: str) -> float:
        """Take one from the caller's bucket; return 0.0, or, when it is empty, after how many seconds to come again."""
        level = self._level(caller)
        if level < 1.0:
            return (1.0 - level) / self._rate
        self._keep(caller, level - 1.0)
        return 0.0

    def empty(self, caller: str) -> float:
        """Return after how many seconds the caller may come again, without taking anything; 0.0: now."""
        return max(0.0, (1.0 - self._level(caller)) / self._rate)

    def _level(self, caller: str) -> float:
        found = self._levels.get(caller)
        if found is None:
            return self._burst
        level, counted = found
        return min(self._burst, level + (self._monotonic() - counted) * self._rate)

    def _keep(self, caller: str, level: float) -> None:
        self._levels.pop(caller, None)  # to the end: the longest quiet stand first
        self._levels[caller] = (level, self._monotonic())
        if len(self._levels) > CALLERS_MAX:
            del self._levels[next(iter(self._levels))]
