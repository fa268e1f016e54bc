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
    from collections.abc import Iterator, Sequence

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
#: minute, queue, task, outcome, worker
_Place = tuple[int, str, str, int, str]


class RollUp:
    """Figures of a ledger. `enabled` is False in one that keeps none."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self.enabled = True
        # How long attempts waited and ran (microseconds), and their durations as the workers told them.
        self._noted: dict[_Place, tuple[list[int], list[int], list[float | None]]] = {}
        self._left = NOTED_MAX  # how many more are noted before they are counted
        self._open: dict[int, dict[Key, Cell]] = {}  # by minute; what is not packed yet
        self._minutes: Times = {}
        self._hours: Times = {}
        self._newest = self._forgot = 0

    # --- counting

    def succeeded(self, jobs: Sequence[Job], facts: Sequence[f.Succeeded]) -> None:
        """Note successes. jobs: as they were before."""
        self._note(jobs, facts, SUCCEEDED)

    def ended(self, job: Job, fact: f.Ended) -> None:
        """Note an attempt that ended otherwise. job: as it was before."""
        self._note((job,), (fact,), outcome_of(fact.end, gave_up=fact.event is _EXHAUST))

    def _note(self, jobs: Sequence[Job], facts: Sequence[f.Succeeded | f.Ended], outcome: int) -> None:
        if not self.enabled:
            return
        alike: Any = None  # what was claimed and settled together is worked out once
        for job, fact in zip(jobs, facts, strict=True):
            last: Any = job.last  # a job that ran has an attempt
            at, started, ready = fact.at, last.started_at, job.queued_at
            these = (at, job.queue, job.task, last.worker, started, ready)
            if these != alike:
                alike = these
                place = (int(at // MINUTE), *these[1:3], outcome, last.worker)
                waits, runs, told = self._noted.setdefault(place, ([], [], []))
                waited = int((started - ready) * _MICROS + 0.5) if ready is not None and started > ready else 0
                ran = int((at - started) * _MICROS + 0.5) if at > started else 0
            waits.append(waited)
            runs.append(ran)
            told.append(fact.duration)
        self._left -= len(jobs)
        if self._left <= 0:
            self._count()

    def _count(self) -> None:
        noted, self._noted, self._left = self._noted, {}, NOTED_MAX
        for (minute, queue, task, outcome, worker), (waited, ran, told) in noted.items():
            self._newest = max(self._newest, minute)
            cells = self._open.setdefault(minute, {})
            cells.setdefault(Key(queue, task, outcome, worker), Cell()).add(waited, ran, told=told)
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

    def knows(self, span: int, number: int, key: Key) -> bool:
        """Whether something was counted under this key in a minute or hour (span: MINUTES or HOURS)."""
        self._count()
        if span == MINUTES:
            return key in self._minutes.get(number, {}) or key in self._open.get(number, {})
        opened = (cells for minute, cells in self._open.items() if minute // HOUR == number)
        return key in self._hours.get(number, {}) or any(key in cells for cells in opened)

    def figures(self, span: int, first: int, last: int) -> list[f.Figured]:
        """What was counted in each minute or hour from `first` to `last`, by number and key."""
        found: list[f.Figured] = []
        for number in self.numbers(span):
            if first <= number <= last:
                cells: dict[Key, Cell] = {}
                for key, counted in self.minute(number) if span == MINUTES else self.hour(number):
                    cell = cells.setdefault(key, Cell())
                    counted.add_to(cell) if isinstance(counted, Packed) else cell.merge(counted)
                found += [figured(span, number, key, cell.packed()) for key, cell in sorted(cells.items(), key=_key)]
        return found

    # --- snapshots

    def facts(self) -> Iterator[list[f.Fact]]:
        """All of it as facts, in lists that a snapshot takes. The same figures are the same facts."""
        self._count()
        self._pack(sorted(self._open), most=sum(map(len, self._open.values())))
        self._forget()
        batch: list[f.Fact] = []
        for span, times in ((MINUTES, self._minutes), (HOURS, self._hours)):
            for number, cells in sorted(times.items()):
                batch += [figured(span, number, key, packed) for key, packed in sorted(cells.items(), key=_by_key)]
                if len(batch) >= 1_000:
                    yield batch
                    batch = []
        yield batch

    def restore(self, fact: f.Figured) -> None:
        """Take what `facts` gave."""
        if not self.enabled:
            return
        packed = Packed(fact.n, fact.waited, fact.ran, fact.waits, fact.runs, fact.timed, fact.took)
        key = Key(fact.queue, fact.task, fact.outcome, fact.worker)
        if fact.span == HOURS:
            _add(self._hours, fact.number, key, packed)
        else:
            _add(self._minutes, fact.number, key, packed)
            self._newest = max(self._newest, fact.number)


def _by_key(item: tuple[Key, Packed]) -> Key:
    return item[0]


def _key(item: tuple[Key, Cell]) -> Key:
    return item[0]


def figured(span: int, number: int, key: Key, packed: Packed) -> f.Figured:
    """Return what was counted under a key as a fact."""
    figures = (packed.waits, packed.runs, packed.timed, packed.took)
    return f.Figured(span, number, *key, packed.n, packed.waited, packed.ran, *figures)


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
