"""The roll-up at rest: minutes that are over are merged, over all processes, and added to their hours; old ones go.

"stat" holds what processes write and is never large: once a minute it is emptied of what is over into "stat_sum". Reading
adds both up in one statement, so that what moves from one to the other is seen once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.job.figures import Cell, Key, Packed
from holdfast.stores.sql.filters import storable
from holdfast.stores.sql.stats import MINUTE
from holdfast.stores.sql.tally import tidy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.stores.sql.script import Row, Script, Step

MINUTES, HOURS = 60, 3_600
#: Minutes after which nobody writes figures of a minute any more: the longest that a caller's own transaction may take.
GRACE: Final = 5
#: How many rows are merged in one transaction.
BATCH: Final = 500
#: How long minutes and hours are kept, in hours.
MINUTES_KEPT, HOURS_KEPT = 169, 2_160

_OVER: Final = (
    "SELECT minute, queue, task, outcome, instance, worker, n, waited, ran, waits, runs, timed, took FROM {stat}"
    " WHERE minute < ?"
    " ORDER BY minute, queue, task, outcome, instance LIMIT ? {lock}"
)
_GONE: Final = "DELETE FROM {stat} WHERE minute = ? AND queue = ? AND task = ? AND outcome = ? AND instance = ?"
_KNOWN: Final = (
    "SELECT number, queue, task, outcome, worker, n, waited, ran, waits, runs, timed, took FROM {stat_sum}"
    " WHERE span = ? AND number {ints} {lock}"
)
_OLD: Final = "DELETE FROM {stat_sum} WHERE span = ? AND number < ?"

#: A minute or an hour, what was counted together, and what was counted.
Counted = tuple[int, Key, Packed]


def merge(step: Step) -> Script[bool]:
    """Merge minutes that are over; tell whether there may be more of them."""
    db, now = step.db, (yield from step.now())
    yield from db.lock("retention", ("figures",))
    rows = yield db.q(_OVER, now // MINUTE - GRACE, BATCH)
    if rows:
        yield from _add(step, MINUTES, [(row[0], row) for row in rows])
        yield from _add(step, HOURS, [(row[0] // 60, row) for row in rows])
        yield db.many(_GONE, [row[:5] for row in rows])
    hour = now // MINUTE // 60
    yield db.q(_OLD, MINUTES, (hour - MINUTES_KEPT) * 60)
    yield db.q(_OLD, HOURS, hour - HOURS_KEPT)
    yield from tidy(step, hour - MINUTES_KEPT)
    return len(rows) == BATCH


def _add(step: Step, span: int, rows: Iterable[tuple[int, Row]]) -> Script[None]:
    cells: dict[tuple[int, Key], Cell] = {}
    for number, (_, queue, task, outcome, _, worker, *values) in rows:
        _packed(values).add_to(cells.setdefault((number, Key(queue, task, outcome, worker)), Cell()))
    numbers = sorted({number for number, _ in cells})
    for number, queue, task, outcome, worker, *values in (yield step.db.q(_KNOWN, span, numbers)):
        cell = cells.get((number, Key(queue, task, outcome, worker)))
        if cell is not None:
            _packed(values).add_to(cell)
    yield from step.db.upsert(
        "stat_sum", [_row(span, place, cell) for place, cell in sorted(cells.items(), key=_place)]
    )


def _place(item: tuple[tuple[int, Key], Cell]) -> tuple[int, Key]:
    return item[0]


def _row(span: int, place: tuple[int, Key], cell: Cell) -> Row:
    packed = cell.packed()
    counts = (packed.n, packed.waited, packed.ran, packed.waits, packed.runs, packed.timed, float(packed.took))
    return (span, place[0], *place[1], *counts)


def _packed(values: Iterable[Any]) -> Packed:
    n, waited, ran, waits, runs, timed, took = values
    return Packed(int(n), int(waited), int(ran), bytes(waits), bytes(runs), int(timed), int(took))


def counted(step: Step, span: int, first: int, queue: str | None, task: str | None) -> Script[list[Counted]]:
    """What ended in the minutes or hours from `first` on, counted from the epoch. One key may come often."""
    words, args = "", list[Any]()
    for column, value in (("queue", queue), ("task", task)):
        if value is not None and not storable(value):
            return []
        if value is not None:
            words, args = f"{words} AND {column} = ?", [*args, value]
    text = (
        f"SELECT minute, 1, {_COLUMNS} FROM {{stat}} WHERE minute >= ?{words}"
        f" UNION ALL SELECT number, 0, {_COLUMNS} FROM {{stat_sum}} WHERE span = ? AND number >= ?{words}"
    )
    minutes = span // MINUTES
    rows = yield step.db.q(text, first * minutes, *args, span, first, *args)
    return _counted(rows, minutes)


_COLUMNS: Final = "queue, task, outcome, worker, n, waited, ran, waits, runs, timed, took"
_BETWEEN: Final = (
    f"SELECT minute, 1, {_COLUMNS} FROM {{stat}} WHERE minute >= ? AND minute < ?"
    f" UNION ALL SELECT number, 0, {_COLUMNS} FROM {{stat_sum}} WHERE span = ? AND number >= ? AND number <= ?"
)


def counted_between(step: Step, span: int, first: int, last: int) -> Script[list[Counted]]:
    """What ended in the minutes or hours from `first` to `last`, counted from the epoch. One key may come often."""
    minutes = span // MINUTES
    rows = yield step.db.q(_BETWEEN, first * minutes, (last + 1) * minutes, span, first, last)
    return _counted(rows, minutes)


def _counted(rows: Iterable[Row], minutes: int) -> list[Counted]:
    return [
        (number // minutes if is_minute else number, Key(queue, task, outcome, worker), _packed(values))
        for number, is_minute, queue, task, outcome, worker, *values in rows
    ]
