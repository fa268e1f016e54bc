"""What an export takes beside jobs and settings, and an import brings: figures, the audit log, and times of long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.job.figures import Cell, Key
from holdfast.job.ledger.rollup import figured
from holdfast.stores.sql.cold.audit import trim_audit
from holdfast.stores.sql.figures import counted_between
from holdfast.stores.sql.rows import body_of, micros
from holdfast.stores.sql.schema import TABLES

_UNORDERED: Final = "unordered"
_NEWEST: Final = (
    "SELECT * FROM (SELECT seq, created_at FROM {job} ORDER BY seq DESC LIMIT 1) AS l"
    " UNION ALL SELECT * FROM (SELECT seq, created_at FROM {done} ORDER BY seq DESC LIMIT 1) AS d"
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job import commands as c
    from holdfast.job.facts import Audited, Figured
    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Script, Step


def figures(step: Step, *, span: int, first: int, last: int) -> Script[list[Figured]]:
    """What was counted in the minutes or hours from `first` to `last`, by number and key."""
    cells: dict[tuple[int, Key], Cell] = {}
    for number, key, packed in (yield from counted_between(step, span, first, last)):
        packed.add_to(cells.setdefault((number, key), Cell()))
    places = sorted(cells)
    return [figured(span, number, key, cells[number, key].packed()) for number, key in places]


def import_records(step: Step, command: c.ImportRecords) -> Script[int]:
    """Take in figures and entries that are not here; tell how many these are."""
    yield from step.db.lock("retention", ("figures",))
    columns = TABLES["stat_sum"].columns
    rows = [tuple(getattr(one, column) for column in columns) for one in command.figures]
    taken = yield from step.db.insert_missing("stat_sum", sorted(rows))
    return taken + (yield from _import_audit(step, command.audit))


def note_order(step: Step, jobs: Sequence[Job]) -> Script[None]:
    """Note from which number on jobs do not stand in the order of their times, before these are stored: see `searching`."""
    rows = yield step.db.q(_NEWEST)
    newest = max((created_at for _, created_at in rows), default=0)
    for job in jobs:
        if micros(job.created_at) < newest:
            first = min((yield from unordered_from(step)), max((seq for seq, _ in rows), default=0) + 1)
            yield from step.db.upsert("meta", [(_UNORDERED, str(first))])
            return
        newest = micros(job.created_at)


def unordered_from(step: Step) -> Script[int]:
    """From which number on jobs may be older than those before them; behind all where they are nowhere."""
    rows = yield step.db.q("SELECT value FROM {meta} WHERE name = ?", _UNORDERED)
    return int(rows[0][0]) if rows else 1 << 62


def _import_audit(step: Step, given: Sequence[Audited]) -> Script[int]:
    if not given:
        return 0
    times = [micros(entry.at) for entry in given]
    rows = yield step.db.q("SELECT body FROM {audit} WHERE at >= ? AND at <= ?", min(times), max(times))
    known = {bytes(body) for (body,) in rows}
    fresh = {body: micros(entry.at) for entry in given if (body := body_of(entry)) not in known}
    if fresh:
        yield step.db.many("INSERT INTO {audit} (at, body) VALUES (?, ?)", [(at, body) for body, at in fresh.items()])
    yield from trim_audit(step)
    return len(fresh)
