"""Figures of attempts that ended: counts, sums, and log-scaled histograms of waiting and of running. Pure.

Attempts are counted under a Key, by the minute in which they ended. Two Cells of any two times are merged by adding them, so
minutes become hours and processes become a fleet without a loss; percentiles are read from what was merged. Each bucket of
a histogram is a fourth root of 2 wide, so that a percentile is at most a fifth away from the truth.
"""

from __future__ import annotations

from collections import Counter
from math import log2
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from holdfast.job.facts import Ended, Succeeded
from holdfast.job.state import End, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.job.facts import Fact
    from holdfast.job.model import Job

#: How an outcome is stored.
OUTCOMES: Final = {end: number for number, end in enumerate(End, 1)}
SUCCEEDED: Final = OUTCOMES[End.SUCCEEDED]
#: Added to the outcome of an attempt after which its job was given up as failed.
GAVE_UP: Final = 100
#: The longest duration that is counted, in seconds.
TOOK_MAX: Final = 1e12
_ENDS: Final = {number: end for end, number in OUTCOMES.items()}
_EXHAUST: Final = Event.EXHAUST
_MICROS: Final = 1e6


class Key(NamedTuple):
    """What attempts have in common that are counted together. outcome: see `outcome_of`."""

    queue: str
    task: str
    outcome: int
    worker: str


class Sample(NamedTuple):
    """An attempt that ended. at: when, in seconds; waited: from ready to claimed; ran: from claimed to ended; both in
    microseconds. duration: as its worker told it, in seconds."""

    at: float
    key: Key
    instance: str
    waited: int
    ran: int
    duration: float | None = None


def took_of(duration: float) -> int:
    """Return a duration in whole microseconds, of which any number can be added up and taken back without a rest.

    What no attempt can have taken counts as nothing: it comes from a worker that told nonsense.

    >>> took_of(1.5), took_of(-1.0), took_of(float("nan"))
    (1500000, 0, 0)
    """
    return round(duration * _MICROS) if 0.0 <= duration <= TOOK_MAX else 0


def took_in_all(durations: Sequence[float]) -> int:
    """Return what `took_of` makes of each, added up.

    >>> took_in_all([0.5, 0.25, 4e-7]), took_in_all([1.0, -1.0, float("nan")]), took_in_all([])
    (750000, 1000000, 0)
    """
    if not durations or not (min(durations) >= 0.0 and sum(durations) <= TOOK_MAX):  # one of them is nonsense
        return sum(map(took_of, durations))
    return sum([round(duration * _MICROS) for duration in durations])


def outcome_of(end: End, *, gave_up: bool) -> int:
    """Return an outcome as it is stored. gave_up: the job has failed by it.

    >>> outcome_of(End.SUCCEEDED, gave_up=False), outcome_of(End.FAILED, gave_up=True)
    (1, 102)
    """
    return OUTCOMES[end] + (GAVE_UP if gave_up else 0)


def end_of(outcome: int) -> End:
    """Return how the attempts of a stored outcome ended."""
    return _ENDS[outcome % GAVE_UP]


def sample_of(job: Job, fact: Fact) -> Sample | None:
    """Return what a fact says of an attempt that ended; None for other facts. job: as it was before."""
    if type(fact) is Succeeded:
        outcome = SUCCEEDED
    elif type(fact) is Ended:
        outcome = outcome_of(fact.end, gave_up=fact.event is _EXHAUST)
    else:
        return None
    last: Any = job.last  # a job that ran has an attempt
    started = round(last.started_at * _MICROS)
    waited = 0 if job.queued_at is None else max(0, started - round(job.queued_at * _MICROS))
    ran = max(0, round(fact.at * _MICROS) - started)
    return Sample(fact.at, Key(job.queue, job.task, outcome, last.worker), last.instance, waited, ran, fact.duration)


def timing(duration: float | None) -> tuple[int, int]:
    """Return how many told a duration, and what it adds to their sum.

    >>> timing(1.5), timing(None)
    ((1, 1500000), (0, 0))
    """
    return (0, 0) if duration is None else (1, took_of(duration))


def bucket(microseconds: int) -> int:
    """Return the bucket of a duration: each is a fourth root of 2 wide.

    >>> [bucket(n) for n in (0, 1, 2, 1_000_000)]
    [0, 0, 4, 79]
    """
    return int(4 * log2(microseconds)) if microseconds > 1 else 0


def quantile(histogram: Mapping[int, int], share: float) -> float | None:
    """Return below which duration, in seconds, this share of what was counted lies; None when nothing was.

    Within a bucket what was counted is taken to be spread evenly over its logarithm.

    >>> round(quantile({bucket(1_000_000): 100}, 0.5), 2), quantile({}, 0.5)
    (0.96, None)
    """
    wanted = share * sum(histogram.values())
    passed = 0
    for number, count in sorted(histogram.items()):
        if count and passed + count >= wanted:
            return float(2 ** ((number + (wanted - passed) / count) / 4)) / _MICROS
        passed += count
    return None


class Cell:
    """What was counted under one key: how many, how long they waited and ran in all (microseconds), and the histograms.

    timed: of how many the worker told a duration; took: their sum (microseconds).
    """

    __slots__ = ("n", "ran", "runs", "timed", "took", "waited", "waits")

    def __init__(self) -> None:
        """Nothing was counted yet."""
        self.n = self.waited = self.ran = self.timed = self.took = 0
        self.waits: Counter[int] = Counter()
        self.runs: Counter[int] = Counter()

    def add(self, waited: list[int], ran: list[int], sign: int = 1, told: Iterable[float | None] = ()) -> None:
        """Count attempts, or with sign -1 take them back. told: their durations, in seconds, as the workers told them."""
        self.n += sign * len(ran)
        self.waited += sign * sum(waited)
        self.ran += sign * sum(ran)
        durations = [duration for duration in told if duration is not None]
        self.timed += sign * len(durations)
        self.took += sign * took_in_all(durations)
        for counts, values in ((self.waits, waited), (self.runs, ran)):
            # What was claimed and settled together took the same time: it is looked up once.
            for value, n in Counter(values).items():
                counts[bucket(value)] += sign * n

    def count(self, waited: int, ran: int, n: int, timed: int = 0, took: int = 0) -> None:
        """Count `n` attempts that waited and ran alike, and what workers told of them; take them back when it is negative."""
        self.n += n
        self.waited += n * waited
        self.ran += n * ran
        self.timed += timed
        self.took += took
        self.waits[bucket(waited)] += n
        self.runs[bucket(ran)] += n

    def merge(self, other: Cell) -> None:
        """Add what another cell has counted."""
        self.n += other.n
        self.waited += other.waited
        self.ran += other.ran
        self.timed += other.timed
        self.took += other.took
        self.waits.update(other.waits)
        self.runs.update(other.runs)

    def packed(self) -> Packed:
        """Return it as it is kept: equal cells are equal bytes."""
        return Packed(self.n, self.waited, self.ran, pack(self.waits), pack(self.runs), self.timed, self.took)


class Packed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A cell at rest. waits, runs: histograms as `pack` writes them."""

    n: int
    waited: int
    ran: int
    waits: bytes
    runs: bytes
    timed: int = 0
    took: int = 0

    def add_to(self, cell: Cell) -> None:
        """Add what it has counted to `cell`."""
        cell.n += self.n
        cell.waited += self.waited
        cell.ran += self.ran
        cell.timed += self.timed
        cell.took += self.took
        cell.waits.update(unpack(self.waits))
        cell.runs.update(unpack(self.runs))


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(dict[int, int])


def pack(histogram: Counter[int]) -> bytes:
    """Return a histogram as bytes, without empty buckets."""
    return _encode({number: count for number, count in sorted(histogram.items()) if count > 0})


def unpack(encoded: bytes) -> dict[int, int]:
    """Return a packed histogram: bucket -> count."""
    return _decoder.decode(encoded)
