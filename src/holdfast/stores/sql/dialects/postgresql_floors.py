"""Where a claim begins to look, when the places of jobs that are long gone can not be cleared away.

The index of ready jobs keeps the places of jobs that were claimed until vacuum clears them, and vacuum clears nothing that a
transaction still sees. While somebody keeps a snapshot for minutes (a dump, a long report), each claim would walk past all
jobs that were claimed meanwhile: measured, a tenth of the speed after a hundred thousand.

So a process remembers for each queue and priority up to where it has claimed, and when walks become long it begins there.
What becomes ready further ahead (a job given back in its old place, an enqueue that took long to commit) is found by the
full walk, which is done again after twenty times as long as the last one took, and at once after the rules of this process
made jobs ready. While walks are short, which is all the time in a database that vacuum keeps clean, each of them is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Who commits an enqueue later than this after its time was read may be passed by until the next full walk. Microseconds.
MARGIN: Final = 200_000
#: A walk is long from so many microseconds on, and so many more for each job that it found.
LONG: Final = 2_000
LONG_PER_JOB: Final = 20
#: Two long walks in a row: a single one may be a machine that had other things to do.
LONG_WALKS: Final = 2
#: The next full walk begins after so many times as long as the last one took, but not later than REST_MAX seconds.
REST: Final = 20
REST_MAX: Final = 30.0
#: Priorities that a queue is remembered by. More are seldom and remembered as none.
PRIOS_MAX: Final = 8
LOWEST, HIGHEST, EVER = -32_768, 32_767, -(1 << 62)


class Range(NamedTuple):
    """A part of a queue's line: priorities from..to, of the first of them the jobs from a time on."""

    first: int
    run_at: int
    last: int


_ALL: Final = (Range(LOWEST, EVER, HIGHEST),)


class _Line:
    """What is known of one queue. floors: priority as stored -> run_at before which nothing was left."""

    __slots__ = ("floors", "long_walks", "until")

    def __init__(self) -> None:
        self.floors: dict[int, int] = {}
        self.long_walks = 0
        self.until = 0.0

    def ranges(self, now: float) -> tuple[Range, ...]:
        if now >= self.until or not self.floors:
            return _ALL
        found, first = [], LOWEST
        for prio, run_at in sorted(self.floors.items()):
            if first < prio:
                found.append(Range(first, EVER, prio - 1))
            found.append(Range(prio, run_at, prio))
            first = prio + 1
        return (*found, Range(first, EVER, HIGHEST))

    def passed(self, prio: int, run_at: int, end: int, *, full: bool, emptied: bool) -> None:
        """All was taken up to this job: of higher priorities all that was ready at `end`, and of all when it was emptied."""
        known = {other for other in self.floors if other < prio or emptied}
        kept = {} if full else self.floors
        self.floors = {**kept, **dict.fromkeys(known, end), prio: end if emptied else min(run_at, end)}
        if len(self.floors) > PRIOS_MAX:
            self.floors = {}

    def walked(self, micros: int, found: int, now: float) -> None:
        """A full walk took so long."""
        if micros <= LONG + LONG_PER_JOB * found:
            self.long_walks, self.until = 0, 0.0
            return
        self.long_walks += 1
        if self.long_walks >= LONG_WALKS:
            self.until = now + min(REST_MAX, REST * micros / 1e6)


class Floors:
    """What one process knows of the queues that it claims from."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def ranges(self, queues: Sequence[str], now: float) -> dict[str, tuple[Range, ...]] | None:
        """Where to look for jobs of these queues; None: everywhere. `now`: seconds of a clock that never steps."""
        if not any(name in self._lines and now < self._lines[name].until for name in queues):
            return None
        return {name: self._lines[name].ranges(now) if name in self._lines else _ALL for name in queues}

    def claimed(
        self, ends: dict[str, tuple[int, int, bool]], *, at: int, walk: int, found: int, now: float, full: bool
    ) -> None:
        """Learn from a claim.

        ends: of each queue that gave jobs, priority and run_at of the last one, and whether it had no more; at: the store's
        time; walk: how long it looked for jobs, of which it `found` so many, in microseconds as `at`; full: everywhere.
        """
        for name, (prio, run_at, emptied) in ends.items():
            line = self._lines.setdefault(name, _Line())
            line.passed(prio, run_at, at - MARGIN, full=full, emptied=emptied)
            if full:
                line.walked(walk, found, now)

    def forget(self, queues: Iterable[str]) -> None:
        """Jobs of these queues became ready in any place: the next walk is full."""
        for name in queues:
            line = self._lines.get(name)
            if line is not None:
                line.until = 0.0
