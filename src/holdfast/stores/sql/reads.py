"""Reads: jobs by id, pages, counts and statistics, and the lists of what steers them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.job import commands as c
from holdfast.job.facts import Audited
from holdfast.job.ledger import Ledger
from holdfast.job.ledger.admin import definitions_of, find_definition
from holdfast.job.ledger.query import checked_end, checked_page, matching, page_by_end, with_final_states
from holdfast.job.model import (
    PRIORITY_MAX,
    Definition,
    Instance,
    InstanceState,
    Job,
    Operation,
    Queue,
    Schedule,
    WorkerConfig,
)
from holdfast.job.state import State
from holdfast.stores.sql import aside, counting, lists
from holdfast.stores.sql.attempts import attempts_of, with_past
from holdfast.stores.sql.damage import job_of
from holdfast.stores.sql.rows import ELSEWHERE, HIDDEN, STATES, body_from, seconds
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

S = TypeVar("S")

#: How many rows one statement of a long walk brings.
SLICE: Final = 1_000
_ALL: Final = 1 << 62


# --- jobs ----------------------------------------------------------------------------------------------------------


def jobs(step: Step, ids: Sequence[str]) -> Script[list[Job | None]]:
    """The jobs of these ids, in their order; None for unknown ones."""
    found: dict[str, Job] = {}
    for start in range(0, len(ids), SLICE):
        rows = yield _by_id(step, list(dict.fromkeys(ids[start : start + SLICE])))
        found |= {job.id: job for job in (yield from whole(step, rows))}
    return [found.get(job_id) for job_id in ids]


def _by_id(step: Step, ids: list[str]) -> Any:
    text = (
        f"SELECT {', '.join(JOB_COLUMNS)}, {step.db.no_end} FROM {{job}} WHERE id {{texts}}"
        f" UNION ALL SELECT {', '.join(DONE_COLUMNS)} FROM {{done}} WHERE id {{texts}}"
    )
    return step.db.q(text, ids, ids)


def whole(step: Step, rows: Sequence[Row]) -> Script[list[Job]]:
    """Return the jobs of rows of DONE_COLUMNS, with their earlier attempts."""
    found = [_job(row) for row in rows]
    tried = [job.seq for job in found if job.attempt > 1]
    if not tried:
        return found
    past = yield from attempts_of(step, tried)
    return [with_past(job, past[job.seq]) if job.seq in past else job for job in found]


_FINISHED: Final = len(JOB_COLUMNS)


def _job(row: Row) -> Job:
    """Return the job of a row of DONE_COLUMNS, as far as it can be read when somebody else has written there."""
    return job_of(row if row[_FINISHED] is not None else row[:_FINISHED])


def find(step: Step, which: c.JobFilter, page: c.Page) -> Script[c.JobPage]:
    """One page of the jobs that match, by order of acceptance. The cursor is the last seq shown."""
    if page.by_end:
        return (yield from _find_ended(step, which, page))
    after = checked_page(page)
    found: list[Row] = []
    limit, size = page.limit + 1, page.limit + 1
    while True:
        rows = yield from lists.page(step, which, after, size, newest_first=page.newest_first)
        found += [row for row in rows if matches(row, which)]
        if len(rows) < size or len(found) >= limit:
            break
        after, size = rows[-1][0], SLICE
    shown = yield from whole(step, found[: page.limit])
    return c.JobPage(items=tuple(shown), cursor=str(shown[-1].seq) if len(found) > page.limit else "")


def _find_ended(step: Step, which: c.JobFilter, page: c.Page) -> Script[c.JobPage]:
    """One page of ended jobs, by when they ended: the first of each group that the tally knows, and of these the first."""
    after, ended = checked_end(page), with_final_states(which)
    found: list[Row] = []
    limit = size = page.limit + 1
    while ended is not None:
        rows = yield from lists.ended_rows(step, ended, after, size, newest_first=page.newest_first)
        rows = sorted(rows, key=by_end_of, reverse=page.newest_first)[:size]
        found += [row for row in rows if matches(row, ended)]
        if len(rows) < size or len(found) >= limit:
            break
        after, size = by_end_of(rows[-1]), SLICE
    return page_by_end((yield from whole(step, found[:limit])), page)


def by_end_of(row: Row) -> tuple[int, int]:
    """Return the place of a row of DONE_COLUMNS in a list by end."""
    return row[_FINISHED], row[0]


def matches(row: Row, which: c.JobFilter) -> bool:
    """Tell whether the job of a row of DONE_COLUMNS matches a filter."""
    return matching(_job(row), which)


# --- statistics ----------------------------------------------------------------------------------------------------

#: Records of jobs that ran elsewhere stand in the tally, also those that have not ended.
_TOLD: Final = f"SELECT queue, state, sum(n) FROM {{tally}} WHERE state < {HIDDEN}"
#: The first ready job of the next priority: one step into the index.
_FIRST: Final = (
    "SELECT prio, queued_at FROM {job} WHERE queue = ? AND owner = '' AND ready = 1 AND prio > ?"
    " ORDER BY prio, run_at, seq LIMIT 1"
)


def stats(step: Step) -> Script[c.Stats]:
    """Counts per queue and state, zero-filled; see counting.py for what they cost."""
    names = [name for (name,) in (yield step.db.q("SELECT name FROM {queue} ORDER BY name"))]
    counts = yield from counting.by_queue(step)
    queues = {name: {state.value: 0 for state in State} for name in sorted(names)}
    estimated = dict[str, tuple[str, ...]]()
    for (name, code), number in sorted(counts.items()):
        if code < ELSEWHERE and name in queues:
            queues[name][STATES[code].value] = int(number)
            if number.estimated:
                estimated[name] = (*estimated.get(name, ()), STATES[code].value)
    oldest = yield from _oldest(step, [name for name, row in queues.items() if row[State.QUEUED]])
    [[refused]] = yield step.db.q("SELECT coalesce(sum(n), 0) FROM {counter} WHERE name = ?", "stale_refused")
    return c.Stats(queues=queues, stale_refused=int(refused), oldest_ready_at=oldest, estimated=estimated)


def records(step: Step) -> Script[dict[tuple[str, State], int]]:
    """How many jobs that ran elsewhere there are, by queue and state."""
    rows = yield step.db.q(f"{_TOLD} AND state > {ELSEWHERE} GROUP BY queue, state")
    return {(name, STATES[code % ELSEWHERE]): int(number) for name, code, number in rows}


def _oldest(step: Step, names: Sequence[str]) -> Script[dict[str, float]]:
    """Since when the job waits that was ready first, by queue: the oldest of the first ones of each priority."""
    oldest: dict[str, float] = {}
    for name in names:
        prio = -PRIORITY_MAX - 1
        while rows := (yield step.db.q(_FIRST, name, prio)):
            [[prio, queued_at]] = rows
            oldest[name] = min(oldest.get(name, math.inf), seconds(queued_at))
    return oldest


# --- what steers them ----------------------------------------------------------------------------------------------


def _all(step: Step, table: str, kind: type[S]) -> Script[list[S]]:
    if kind in aside.COLUMNS:
        rows = yield step.db.q(f"SELECT {aside.COLUMNS[kind]} FROM {{{table}}}")
        return [aside.thing_from(kind, row) for row in rows]
    rows = yield step.db.q(f"SELECT body FROM {{{table}}}")
    return [body_from(bytes(body), kind) for (body,) in rows]


def queues(step: Step) -> Script[list[Queue]]:
    """All queues, by name."""
    return sorted((yield from _all(step, "queue", Queue)), key=lambda queue: queue.name)


def definition(step: Step, alias_or_id: str) -> Script[Definition]:
    """One definition by alias or id, also a deleted one. Raises UnknownTask."""
    return find_definition((yield from _known(step)), alias_or_id)


def definitions(step: Step, which: c.DefinitionFilter) -> Script[list[Definition]]:
    """Definitions that match, by alias."""
    return definitions_of((yield from _known(step)), which)


def _known(step: Step) -> Script[Ledger]:
    """A ledger that holds the definitions, so that its own rules of reading them apply."""
    ledger = Ledger()
    ledger.definitions = {one.alias: one for one in (yield from _all(step, "definition", Definition))}
    return ledger


def audited(step: Step, *, before: int | None, limit: int) -> Script[list[tuple[int, Audited]]]:
    """Entries of the audit log below a number, the newest first, with their numbers."""
    top = _ALL if before is None else before
    rows = yield step.db.q(f"SELECT seq, body FROM {{audit}} WHERE seq < ? ORDER BY seq DESC LIMIT {int(limit)}", top)
    return [(seq, body_from(bytes(body), Audited)) for seq, body in rows]


def schedules(step: Step, *, deleted: bool = False) -> Script[list[Schedule]]:
    """All schedules, by name."""
    found = yield from _all(step, "schedule", Schedule)
    return sorted((one for one in found if deleted or one.deleted_at is None), key=lambda one: one.name)


def workers(step: Step) -> Script[list[WorkerConfig]]:
    """All configured workers, by name."""
    return sorted((yield from _all(step, "worker", WorkerConfig)), key=lambda config: config.name)


def instances(step: Step) -> Script[list[Instance]]:
    """Live and lately lost worker processes, by worker and start; live ones as their newest beat told them."""
    shown = []
    for body, beat in (yield step.db.q("SELECT body, beat FROM {instance}")):
        known = body_from(bytes(body), Instance)
        told = beat is not None and known.state is not InstanceState.LOST
        shown.append(body_from(bytes(beat), Instance) if told else known)
    return sorted(shown, key=lambda one: (one.worker, one.started_at, one.id))


def operations(step: Step) -> Script[list[Operation]]:
    """Bulk operations, newest first."""
    found = yield from _all(step, "operation", Operation)
    return sorted(found, key=lambda operation: operation.created_at, reverse=True)
