"""The roll-up: what ended, minute by minute, with how long it had waited and how long it ran.

A store object is the only writer of its rows: it keeps the figures of the minute that runs in memory, and writes whole rows
in the transactions that settle. So nothing is merged in SQL, and no two processes wait for one row. Figures of a
transaction that came to nothing are taken back, and the next one writes the true ones.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.job.figures import OUTCOMES, Cell, pack, sample_of, timing, took_in_all
from holdfast.job.state import End
from holdfast.stores.sql.rows import micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.job import facts as f
    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Row, Script, Step

MINUTE: Final = 60_000_000
SUCCEEDED: Final = OUTCOMES[End.SUCCEEDED]

Key = tuple[str, str, int, str, str]  # queue, task, outcome, instance, worker


class Ended(NamedTuple):
    """Attempts that ended, `n` of them alike. waited: from ready to claimed; ran: from claimed to settled; in microseconds.
    timed, took: of how many the worker told a duration, and the sum of these."""

    queue: str
    task: str
    outcome: int
    instance: str
    worker: str
    waited: int
    ran: int
    timed: int = 0
    took: int = 0
    n: int = 1


def together(settlements: Sequence[Any], now: int) -> list[Ended]:
    """Return what is counted of successes at `now`. Those that came together and were claimed together are one."""
    alike: dict[tuple[Any, ...], list[float | None]] = {}
    for one in settlements:
        job = one.claim.item
        last = job.last
        key = (job.queue, job.task, last.instance, last.worker, last.started_at, job.queued_at)
        alike.setdefault(key, []).append(one.duration)
    found = []
    for (queue, task, instance, worker, started_at, queued_at), durations in alike.items():
        started = micros(started_at)
        waited = 0 if queued_at is None else max(0, started - micros(queued_at))
        told = [duration for duration in durations if duration is not None]
        sums = (len(told), took_in_all(told), len(durations))
        found.append(Ended(queue, task, SUCCEEDED, instance, worker, waited, max(0, now - started), *sums))
    return found


class RollUp:
    """The figures of one store object for the minute that runs."""

    def __init__(self) -> None:
        self._part = secrets.token_hex(4)  # a process that opens its store again begins new rows
        self._minute = 0
        self._figures: dict[Key, Cell] = {}
        self.used = False  # since somebody set it so
        self.enabled = True
        self._lock = threading.Lock()

    def rows(self, now: int, ended: Sequence[Ended]) -> list[Row]:
        """Add what ended at `now`; return the whole rows of "stat" that it changed."""
        minute = now // MINUTE
        if not self.enabled:
            return []
        self.used = True
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

    def _add(self, ended: Iterable[Ended], sign: int) -> dict[Key, Cell]:
        changed: dict[Key, Cell] = {}
        # What came, was claimed and settled together is counted at once.
        for one, times in Counter(ended).items():
            key = one[:5]
            cell = changed.get(key)
            if cell is None:
                cell = changed[key] = self._figures.setdefault(key, Cell())
            cell.count(one.waited, one.ran, sign * times * one.n, sign * times * one.timed, sign * times * one.took)
        return changed

    def _row(self, key: Key, figures: Cell) -> Row:
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
            pack(figures.waits),
            pack(figures.runs),
            figures.timed,
            float(figures.took),
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
        job = before.get(getattr(fact, "seq", 0))
        sample = None if job is None or job.last is None else sample_of(job, fact)
        if sample is not None:
            (queue, task, outcome, worker), instance = sample.key, sample.instance
            found.append(
                Ended(queue, task, outcome, instance, worker, sample.waited, sample.ran, *timing(sample.duration))
            )
    return found
