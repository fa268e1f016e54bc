"""What is counted, in plain dicts: nothing here knows Prometheus, and a job costs about a microsecond.

Labels are a queue and a task. There are at most `labels_max` pairs and queues; what comes later is counted under the name
"other", so that a metric never grows without bound, and its sum stays true.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Pair = tuple[str, str]  # queue, task

OTHER: Final = "other"
#: Upper bounds of the run-time histogram, in seconds: those of the seed (0.1, 0.5, 1, 2, 5), finer and coarser ones.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Durations(msgspec.Struct, frozen=True):
    """A histogram: how many were at most as long as each bound of BUCKETS and no longer than the one before; the last
    count is of those above all. total: their sum, in seconds."""

    counts: tuple[int, ...]
    total: float


class Counts(msgspec.Struct, frozen=True):
    """All that was counted, at one moment."""

    counters: Mapping[str, Mapping[Pair, int]]
    orders: Mapping[str, int]
    durations: Mapping[Pair, Durations]


class Labels:
    """The pairs and queues that have a name of their own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pairs: dict[Pair, Pair] = {}
        self._queues: set[str] = set()

    def queue(self, queue: str) -> str:
        """Return the label of a queue."""
        if queue not in self._queues:
            if len(self._queues) >= self._most:
                return OTHER
            self._queues.add(queue)
        return queue

    def pair(self, queue: str, task: str) -> Pair:
        """Return the labels of a job."""
        pair = (queue, task)
        known = self._pairs.get(pair)
        if known is None:
            if len(self._pairs) >= self._most:
                return self.queue(queue), OTHER
            known = self._pairs[pair] = (self.queue(queue), task)
        return known


class Tally:
    """Counters and run times. Safe to call from several loops and threads: one lock, taken once for a batch."""

    def __init__(self, labels_max: int) -> None:
        self.labels = Labels(labels_max)
        self._counters: dict[str, dict[Pair, int]] = defaultdict(dict)
        self._orders: dict[str, int] = {}
        self._durations: dict[Pair, list[float]] = {}  # counts of BUCKETS, of those above, and the sum
        self._lock = threading.Lock()

    def count(self, name: str, jobs: Iterable[Pair]) -> None:
        """Add one to the counter `name` for each of `jobs` (queue, task)."""
        with self._lock:
            counter = self._counters[name]
            # A batch has few pairs: they are counted first, and looked up once each.
            for job, number in Counter(jobs).items():
                pair = self.labels.pair(*job)
                counter[pair] = counter.get(pair, 0) + number

    def count_unnamed(self, name: str, number: int) -> None:
        """Add `number` to the counter `name`, for jobs whose queue and task nobody told."""
        with self._lock:
            counter = self._counters[name]
            counter[OTHER, OTHER] = counter.get((OTHER, OTHER), 0) + number

    def order(self, action: str, number: int) -> None:
        """Add `number` jobs that an operator's action has changed."""
        with self._lock:
            self._orders[action] = self._orders.get(action, 0) + number

    def ran(self, runs: Mapping[Pair, Sequence[float]]) -> None:
        """Add run times, in seconds, by (queue, task)."""
        with self._lock:
            for job, times in runs.items():
                pair = self.labels.pair(*job)
                cells = self._durations.get(pair)
                if cells is None:
                    cells = self._durations[pair] = [0.0] * (len(BUCKETS) + 2)
                for seconds in times:
                    cells[bisect_left(BUCKETS, seconds)] += 1
                cells[-1] += sum(times)

    def read(self) -> Counts:
        """Return all that was counted."""
        with self._lock:
            return Counts(
                {name: dict(counter) for name, counter in self._counters.items()},
                dict(self._orders),
                {
                    pair: Durations(tuple(int(cell) for cell in cells[:-1]), cells[-1])
                    for pair, cells in self._durations.items()
                },
            )
