"""The parts of the indexes: heaps of integers, the line of a queue, the lane of a key.

A ready entry is one integer (rank, run_at in microseconds, seq) in a row per queue. An entry that stopped being true
stays in the heap until it comes to the top: `live` says which entries count. So moving a job out of the ready line costs
one dict step, whatever the length of the line, and a job costs the garbage collector nothing.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from holdfast.job.model import PRIORITY_MAX, Job, OnWait, Queue
from holdfast.job.state import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.job.ledger.links import StickyLine

_SEQ_BITS: Final = 56
_SEQ_MASK: Final = (1 << _SEQ_BITS) - 1
_TIME_BITS: Final = 64
#: Heaps are rebuilt when they hold this many stale entries more than live ones.
_SLACK: Final = 1_024


def ready_key(job: Job) -> int:
    """Return the place of a job in its queue: higher priority first, then run_at, then acceptance."""
    return ((PRIORITY_MAX - job.priority << _TIME_BITS | int(job.run_at * 1e6)) << _SEQ_BITS) | job.seq


def due_key(job: Job) -> int:
    """Return the place of a waiting job in the line of what becomes due."""
    return int(job.run_at * 1e6) << _SEQ_BITS | job.seq


def end_key(job: Job) -> int:
    """Return the place of a finished job in the line of what retention purges."""
    return int((job.finished_at or 0.0) * 1e6) << _SEQ_BITS | job.seq


def ready_keys(jobs: Iterable[Job]) -> list[int]:
    """Return the places of many jobs in their queues. Those of one call mostly differ by their number alone."""
    keys: list[int] = []
    run_at, priority, front = -1.0, 0, 0
    for job in jobs:
        if job.run_at != run_at or job.priority != priority:
            run_at, priority, front = job.run_at, job.priority, ready_key(job) & ~_SEQ_MASK
        keys.append(front | job.seq)
    return keys


def end_keys(jobs: Iterable[Job]) -> list[int]:
    """Return the places of many finished jobs in the line of what retention purges; mostly they ended together."""
    keys: list[int] = []
    finished_at, front = None, 0
    for job in jobs:
        if job.finished_at != finished_at:
            finished_at, front = job.finished_at, end_key(job) & ~_SEQ_MASK
        keys.append(front | job.seq)
    return keys


class Heap:
    """A heap of integers of which only those in `live` count."""

    __slots__ = ("_heap", "live")

    def __init__(self) -> None:
        self._heap: list[int] = []
        self.live: dict[int, int] = {}  # seq -> entry

    def add(self, seq: int, entry: int) -> None:
        """Put `seq` in line at `entry`; an earlier place of it no longer counts."""
        self.live[seq] = entry
        heappush(self._heap, entry)

    def drop(self, seq: int) -> None:
        """Take `seq` out of line, if it is there."""
        if self.live.pop(seq, None) is None:
            return
        heap = self._heap
        if heap[0] & _SEQ_MASK == seq:
            heappop(heap)
        elif len(heap) > 2 * len(self.live) + _SLACK:
            self._heap = list(self.live.values())
            heapify(self._heap)

    def first(self) -> int | None:
        """Return the first live entry, or None."""
        heap, live = self._heap, self.live
        while heap:
            entry = heap[0]
            if live.get(entry & _SEQ_MASK) == entry:
                return entry
            heappop(heap)
        return None

    def __len__(self) -> int:
        return len(self.live)


class Row(Heap):
    """A heap whose entries nearly always come in order, as jobs become ready: those stand in a row before the heap.

    Then the next one costs the same however many wait; only what comes before its predecessor is sorted in.
    """

    __slots__ = ("_row",)

    def __init__(self) -> None:
        super().__init__()
        self._row: deque[int] = deque()

    def add(self, seq: int, entry: int) -> None:
        """As Heap."""
        row = self._row
        if row and entry < row[-1]:
            heappush(self._heap, entry)
        else:
            row.append(entry)
        self.live[seq] = entry

    def add_all(self, entries: list[int]) -> None:
        """Put many in line that are in none yet."""
        row = self._row
        line = [row[-1], *entries] if row else entries
        if line == sorted(line):
            row.extend(entries)
            self.live.update(zip(map(seq_of, entries), entries, strict=True))
        else:
            for entry in entries:
                self.add(seq_of(entry), entry)

    def in_a_row(self) -> Iterator[int]:
        """Yield the first entries, as far as they stand one behind the other with none to be sorted in between."""
        self.first()  # what no longer counts goes from the front, and is not looked at again
        heap, live, last = self._heap, self.live, -1
        for entry in self._row:
            if heap and heap[0] < entry:
                return
            # One that came back to its old place may stand there twice.
            if entry != last and live.get(entry & _SEQ_MASK) == entry:
                last = entry
                yield entry

    def drop(self, seq: int) -> None:
        """As Heap. What no longer counts is dropped when it comes to the front, or when too much of it has gathered."""
        self.live.pop(seq, None)
        if len(self._row) + len(self._heap) > 2 * len(self.live) + _SLACK:
            self._row, self._heap = deque(sorted(self.live.values())), []

    def first(self) -> int | None:
        """As Heap."""
        row, heap, live = self._row, self._heap, self.live
        while row or heap:
            in_row = not heap or (bool(row) and row[0] <= heap[0])
            entry = row[0] if in_row else heap[0]
            if live.get(entry & _SEQ_MASK) == entry:
                return entry
            if in_row:
                row.popleft()
            else:
                heappop(heap)
        return None


def seq_of(entry: int) -> int:
    """Return the job's number in an entry."""
    return entry & _SEQ_MASK


def time_of(entry: int) -> float:
    """Return the time in a due entry, in seconds since the epoch."""
    return (entry >> _SEQ_BITS) / 1e6


class Line:
    """One queue: its policy, what is ready in it, and how many of its jobs are in each state."""

    __slots__ = ("counts", "ended", "queue", "ready", "records", "sticky", "succeeded", "suspects")

    def __init__(self, queue: Queue, sticky: StickyLine) -> None:
        self.queue, self.sticky = queue, sticky
        self.ready = Row()
        self.suspects = Heap()
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        self.records: dict[State, int] = dict.fromkeys(State, 0)  # those that ran elsewhere: no part of `counts`
        self.succeeded: deque[int] = deque()  # in order of finishing; may name jobs that have moved on
        self.ended: deque[int] = deque()  # failed and canceled

    def room(self) -> int | None:
        """How many more of its jobs may run now over the fleet; None: no limit."""
        limit = self.queue.fleet_limit
        return None if limit is None else max(0, limit - self.counts[State.RUNNING])

    @property
    def unfinished(self) -> int:
        """Jobs that have not ended, here or elsewhere."""
        return sum(self.counts[s] + self.records[s] for s in State if s not in FINAL)


class Lane:
    """The jobs of one key: those in line, and those that keep the line closed (running, or waiting for their retry)."""

    __slots__ = ("busy", "line")

    def __init__(self) -> None:
        self.line: Heap = Heap()
        self.busy: set[int] = set()

    def head(self) -> int | None:
        """The one job of this key that may be claimed now."""
        return None if self.busy else self.line.first()

    def __bool__(self) -> bool:
        return bool(self.busy) or len(self.line) > 0


def holds_lane(job: Job) -> bool:
    """Tell whether a job keeps the line of its key closed."""
    if job.state is State.RUNNING:
        return True
    waits = job.state is State.RETRYING or (job.state is State.SCHEDULED and job.attempt > 0)
    return waits and job.on_wait is OnWait.HOLD
