"""The roll-up of a ledger: figures by minute and by hour, from the facts of attempts that ended.

What ends is noted and counted in batches, so that a settle pays little for it. Minutes that are over are packed, and added
to their hour. What is kept is bounded: in time by the longest series that anybody may ask for, in rows by ROWS_MAX. All of
it follows from the facts, as everything of a ledger does; it reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.job import facts as f
from holdfast.job.figures import SUCCEEDED, Cell, Key, Packed, outcome_of
from holdfast.job.state import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.job.model import Job

C = TypeVar("C")

MINUTE: Final = 60.0
#: Minutes in an hour.
HOUR: Final = 60
#: The longest series, in hours, and the one that runs.
HOURS_KEPT: Final = 169
#: Rows of packed minutes, and of hours. One weighs about 300 bytes.
ROWS_MAX: Final = 50_000
#: How many attempts are noted before they are counted, and how many rows are packed at once: a millisecond or two.
NOTED_MAX: Final = 1_000
PACKED_AT_ONCE: Final = 64
#: How a fact tells minutes from hours, in seconds.
MINUTES, HOURS = 60, 3_600

_EXHAUST: Final = Event.EXHAUST
_MICROS: Final = 1e6

Times = dict[int, dict[Key, Packed]]
#: queue, task, outcome, worker; when it was ready, claimed and ended
_Noted = tuple[str, str, int, str, float, float, float]


class RollUp:
    """Figures of a ledger. `enabled` is False in one that keeps none."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self.enabled = True
        self._noted: list[_Noted] = []
        self._open: dict[int, dict[Key, Cell]] = {}  # by minute; what is not packed yet
        self._minutes: Times = {}
        self._hours: Times = {}
        self._newest = self._forgot = 0

    # --- counting

    def succeeded(self, job: Job, fact: f.Succeeded) -> None:
        """Note a success. job: as it was before."""
        self._note(job, SUCCEEDED, fact.at)

    def ended(self, job: Job, fact: f.Ended) -> None:
        """Note an attempt that ended otherwise. job: as it was before."""
        self._note(job, outcome_of(fact.end, gave_up=fact.event is _EXHAUST), fact.at)

    def _note(self, job: Job, outcome: int, at: float) -> None:
        if not self.enabled:
            return
        last: Any = job.last  # a job that ran has an attempt
        started = last.started_at
        ready = started if job.queued_at is None else job.queued_at
        noted = self._noted
        noted.append((job.queue, job.task, outcome, last.worker, ready, started, at))
        if len(noted) >= NOTED_MAX:
            self._count()

    def _count(self) -> None:
        groups: dict[tuple[int, str, str, int, str], tuple[list[int], list[int]]] = {}
        for queue, task, outcome, worker, ready, started, at in self._noted:
            place = (int(at // MINUTE), queue, task, outcome, worker)
            group = groups.get(place)
            if group is None:
                group = groups[place] = ([], [])
            group[0].append(int((started - ready) * _MICROS + 0.5) if started > ready else 0)
            group[1].append(int((at - started) * _MICROS + 0.5) if at > started else 0)
        self._noted.clear()
        for (minute, queue, task, outcome, worker), (waited, ran) in groups.items():
            self._newest = max(self._newest, minute)
            self._open.setdefault(minute, {}).setdefault(Key(queue, task, outcome, worker), Cell()).add(waited, ran)
        self._pack(sorted(self._open)[:-1], PACKED_AT_ONCE)

    def _pack(self, minutes: list[int], most: int) -> None:
        """Pack up to `most` rows of minutes."""
        for minute in minutes:
            cells = self._open[minute]
            while cells and most > 0:
                key, cell = cells.popitem()
                packed = cell.packed()
                _add(self._minutes, minute, key, packed)
                _add(self._hours, minute // HOUR, key, packed)
                most -= 1
            if not cells:
                del self._open[minute]
        if self._forgot != self._newest:
            self._forgot = self._newest
            self._forget()

    def _forget(self) -> None:
        _forget(self._minutes, self._newest - HOURS_KEPT * HOUR)
        _forget(self._hours, self._newest // HOUR - HOURS_KEPT)

    # --- reading

    def numbers(self, span: int) -> list[int]:
        """In which minutes or hours (span: MINUTES or HOURS) something was counted, numbered from the epoch."""
        self._count()
        if span == MINUTES:
            return sorted({*self._minutes, *self._open})
        return sorted({*self._hours, *(minute // HOUR for minute in self._open)})

    def minute(self, number: int) -> list[tuple[Key, Cell | Packed]]:
        """What was counted in a minute, numbered from the epoch. One key may come twice; read it in the same step."""
        self._count()
        return [*self._minutes.get(number, {}).items(), *self._open.get(number, {}).items()]

    def hour(self, number: int) -> list[tuple[Key, Cell | Packed]]:
        """What was counted in an hour, numbered from the epoch. One key may come often; read it in the same step."""
        self._count()
        found: list[tuple[Key, Cell | Packed]] = [*self._hours.get(number, {}).items()]
        for minute, cells in self._open.items():
            if minute // HOUR == number:
                found += cells.items()
        return found

    # --- snapshots

    def facts(self) -> Iterator[list[f.Fact]]:
        """All of it as facts, in lists that a snapshot takes. The same figures are the same facts."""
        self._count()
        self._pack(sorted(self._open), most=len(self._noted) + sum(map(len, self._open.values())))
        self._forget()
        batch: list[f.Fact] = []
        for span, times in ((MINUTES, self._minutes), (HOURS, self._hours)):
            for number, cells in sorted(times.items()):
                batch += [_figured(span, number, key, packed) for key, packed in sorted(cells.items(), key=_by_key)]
                if len(batch) >= 1_000:
                    yield batch
                    batch = []
        yield batch

    def restore(self, fact: f.Figured) -> None:
        """Take what `facts` gave."""
        if not self.enabled:
            return
        packed = Packed(fact.n, fact.waited, fact.ran, fact.waits, fact.runs)
        key = Key(fact.queue, fact.task, fact.outcome, fact.worker)
        if fact.span == HOURS:
            _add(self._hours, fact.number, key, packed)
        else:
            _add(self._minutes, fact.number, key, packed)
            self._newest = max(self._newest, fact.number)


def _by_key(item: tuple[Key, Packed]) -> Key:
    return item[0]


def _figured(span: int, number: int, key: Key, packed: Packed) -> f.Figured:
    return f.Figured(span, number, *key, packed.n, packed.waited, packed.ran, packed.waits, packed.runs)


def _add(times: Times, number: int, key: Key, packed: Packed) -> None:
    cells = times.setdefault(number, {})
    known = cells.get(key)
    if known is not None:
        cell = Cell()
        known.add_to(cell)
        packed.add_to(cell)
        packed = cell.packed()
    cells[key] = packed


def _forget(times: Times, upto: int) -> None:
    """Let go what is too old, and the oldest of what is too much."""
    for number in [number for number in times if number <= upto]:
        del times[number]
    rows = sum(map(len, times.values()))
    while rows > ROWS_MAX:
        rows -= len(times.pop(min(times)))
