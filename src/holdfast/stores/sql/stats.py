"""The roll-up: what ended, minute by minute, with how long it had waited and how long it ran.

A store object is the only writer of its rows: it keeps the figures of the minute that runs in memory, and writes whole rows
in the transactions that settle. So nothing is merged in SQL, and no two processes wait for one row. Figures of a
transaction that came to nothing are taken back, and the next one writes the true ones.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from math import log2
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from holdfast.job import facts as f
from holdfast.job.state import End
from holdfast.stores.sql.rows import micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Row, Script, Step

MINUTE: Final = 60_000_000
#: How an outcome is stored.
OUTCOMES: Final = {end: number for number, end in enumerate(End, 1)}
SUCCEEDED: Final = OUTCOMES[End.SUCCEEDED]
_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(dict[int, int])

Key = tuple[str, str, int, str, str]  # queue, task, outcome, instance, worker


class Ended(NamedTuple):
    """An attempt that ended. waited: from ready to claimed; ran: from claimed to settled; in microseconds."""

    queue: str
    task: str
    outcome: int
    instance: str
    worker: str
    waited: int
    ran: int


def bucket(microseconds: int) -> int:
    """Return the bucket of a duration: each is a fourth root of 2 wide.

    >>> [bucket(n) for n in (0, 1, 2, 1_000_000)]
    [0, 0, 4, 79]
    """
    return int(4 * log2(microseconds)) if microseconds > 1 else 0


def histogram(encoded: bytes) -> dict[int, int]:
    """Return a stored histogram: bucket -> count. Two are merged by adding."""
    return _decoder.decode(encoded)


class _Figures:
    __slots__ = ("n", "ran", "runs", "waited", "waits")

    def __init__(self) -> None:
        self.n = self.waited = self.ran = 0
        self.waits: Counter[int] = Counter()
        self.runs: Counter[int] = Counter()

    def add(self, ended: Sequence[Ended], sign: int) -> None:
        waited, ran = [one.waited for one in ended], [one.ran for one in ended]
        self.n += sign * len(ended)
        self.waited += sign * sum(waited)
        self.ran += sign * sum(ran)
        for counts, values in ((self.waits, waited), (self.runs, ran)):
            (counts.update if sign > 0 else counts.subtract)(map(bucket, values))


class RollUp:
    """The figures of one store object for the minute that runs."""

    def __init__(self) -> None:
        self._part = secrets.token_hex(4)  # a process that opens its store again begins new rows
        self._minute = 0
        self._figures: dict[Key, _Figures] = {}
        self._lock = threading.Lock()

    def rows(self, now: int, ended: Sequence[Ended]) -> list[Row]:
        """Add what ended at `now`; return the whole rows of "stat" that it changed."""
        minute = now // MINUTE
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._figures.clear()
            changed = self._add(ended, 1)
            return [self._row(key, figures) for key, figures in changed.items()]

    def take_back(self, minute: int, ended: Sequence[Ended]) -> list[Row]:
        """These were not stored after all; return the rows as they should be, for who has written them already."""
        with self._lock:
            if minute != self._minute:
                return []
            return [self._row(key, figures) for key, figures in self._add(ended, -1).items()]

    def _add(self, ended: Iterable[Ended], sign: int) -> dict[Key, _Figures]:
        groups: dict[Key, list[Ended]] = {}
        for one in ended:
            groups.setdefault(one[:5], []).append(one)
        changed = {key: self._figures.setdefault(key, _Figures()) for key in groups}
        for key, group in groups.items():
            changed[key].add(group, sign)
        return changed

    def _row(self, key: Key, figures: _Figures) -> Row:
        queue, task, outcome, instance, worker = key
        part = f"{instance}/{self._part}"
        sums = (figures.n, figures.waited, figures.ran)
        return (
            self._minute,
            queue,
            task,
            outcome,
            part,
            worker,
            *sums,
            _encode(+figures.waits),
            _encode(+figures.runs),
        )


def roll_up(step: Step, ended: Sequence[Ended]) -> Script[None]:
    """Write what ended in this transaction."""
    if ended:
        now = yield from step.now()
        step.counted.append((now // MINUTE, ended))
        yield from step.db.upsert("stat", step.db.rollup.rows(now, ended))


def ended_of(facts: Sequence[f.Fact], before: Mapping[int, Job]) -> list[Ended]:
    """What the facts say of attempts that ended; `before`: the jobs as they were."""
    found = []
    for fact in facts:
        if isinstance(fact, f.Succeeded | f.Ended):
            job = before.get(fact.seq)
            outcome = SUCCEEDED if isinstance(fact, f.Succeeded) else OUTCOMES[fact.end]
            if job is not None and job.last is not None:
                last: Any = job.last
                waited = 0 if job.queued_at is None else max(0, micros(last.started_at - job.queued_at))
                ran = max(0, micros(fact.at - last.started_at))
                found.append(Ended(job.queue, job.task, outcome, last.instance, last.worker, waited, ran))
    return found
