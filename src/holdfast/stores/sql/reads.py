"""Reads: jobs by id, pages, counts and statistics, and the lists of what steers them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from holdfast.errors import StoreCorrupt
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
from holdfast.stores.sql import filters
from holdfast.stores.sql.rows import ELSEWHERE, HIDDEN, STATES, body_from, job_from, seconds
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS
from holdfast.stores.sql.slice import attempts_of, with_past

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

S = TypeVar("S")

#: How many rows one statement of a long walk brings.
SLICE: Final = 1_000
#: Of how many queues and states one statement takes ended jobs together.
LINES: Final = 40
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
    """Return the job of a row of DONE_COLUMNS. Raises StoreCorrupt for what somebody else has written there."""
    try:
        return job_from(row if row[_FINISHED] is not None else row[:_FINISHED])
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise StoreCorrupt(
            f"job {row[1]!r} (number {row[0]}): expected a row as Holdfast writes it, found another ({error}). "
            "Put it back from a backup, or remove the row."
        ) from error


def find(step: Step, which: c.JobFilter, page: c.Page) -> Script[c.JobPage]:
    """One page of the jobs that match, by order of acceptance. The cursor is the last seq shown."""
    if page.by_end:
        return (yield from _find_ended(step, which, page))
    after = checked_page(page)
    found: list[Row] = []
    limit, size = page.limit + 1, page.limit + 1
    while True:
        rows = yield filters.page(step.db, which, after, size, newest_first=page.newest_first)
        found += [row for row in rows if _matches(row, which)]
        if len(rows) < size or len(found) >= limit:
            break
        after, size = rows[-1][0], SLICE
    shown = yield from whole(step, found[: page.limit])
    return c.JobPage(items=tuple(shown), cursor=str(shown[-1].seq) if len(found) > page.limit else "")


def _find_ended(step: Step, which: c.JobFilter, page: c.Page) -> Script[c.JobPage]:
    """One page of ended jobs, by when they ended: the first of each queue and state, which the counts know, and of these."""
    after, ended = checked_end(page), with_final_states(which)
    lines = yield from _lines(step, ended) if ended is not None else _no_lines()
    found: list[Row] = []
    limit = size = page.limit + 1
    while lines and ended is not None:
        rows: list[Row] = []
        for start in range(0, len(lines), LINES):
            some = lines[start : start + LINES]
            rows += yield filters.by_end(step.db, ended, some, after, size, newest_first=page.newest_first)
        rows = sorted(rows, key=_by_end, reverse=page.newest_first)[:size]
        found += [row for row in rows if _matches(row, ended)]
        if len(rows) < size or len(found) >= limit:
            break
        after, size = _by_end(rows[-1]), SLICE
    return page_by_end((yield from whole(step, found[:limit])), page)


def _by_end(row: Row) -> tuple[int, int]:
    return row[_FINISHED], row[0]


def _lines(step: Step, which: c.JobFilter) -> Script[list[tuple[str, int]]]:
    """The queues, and the states as they are stored, of the ended jobs that may match."""
    rows = yield step.db.q("SELECT DISTINCT queue, state FROM {tally} WHERE n <> 0")
    lines = {(queue, code % HIDDEN) for queue, code in rows if which.queue in (None, queue)}
    return sorted(line for line in lines if STATES[line[1] % ELSEWHERE] in which.states)


def _no_lines() -> Script[list[tuple[str, int]]]:
    yield from ()
    return []


def _matches(row: Row, which: c.JobFilter) -> bool:
    return matching(_job(row), which)


def count(step: Step, which: c.JobFilter) -> Script[int]:
    """How many jobs match. By state and queue alone the history is not read: its counts are kept."""
    if c.JobFilter(states=which.states, queue=which.queue) == which:
        counts = yield from _counts(step, which.queue)
        states = which.states or tuple(State)
        return sum(counts.get((queue, code), 0) for queue, code in counts if STATES[code % ELSEWHERE] in states)
    if filters.where(step.db, which, ended=False).exact:
        [[number]] = yield filters.count(step.db, which)
        return int(number)
    number, after = 0, 0
    while True:
        rows = yield filters.span(step.db, which, after, _ALL, SLICE)
        number += sum(_matches(row, which) for row in rows)
        if len(rows) < SLICE:
            return number
        after = rows[-1][0]


# --- statistics ----------------------------------------------------------------------------------------------------

_LIVE: Final = "SELECT queue, state, count(*) FROM {job} GROUP BY queue, state"
_LIVE_OF: Final = "SELECT queue, state, count(*) FROM {job} WHERE queue = ? GROUP BY queue, state"
_ENDED: Final = f"SELECT queue, state, sum(n) FROM {{tally}} WHERE state < {HIDDEN} GROUP BY queue, state"
_ENDED_OF: Final = (
    f"SELECT queue, state, sum(n) FROM {{tally}} WHERE state < {HIDDEN} AND queue = ? GROUP BY queue, state"
)
#: The first ready job of the next priority: one step into the index.
_FIRST: Final = (
    "SELECT prio, queued_at FROM {job} WHERE queue = ? AND owner = '' AND ready = 1 AND prio > ?"
    " ORDER BY prio, run_at, seq LIMIT 1"
)


def _counts(step: Step, queue: str | None) -> Script[dict[tuple[str, int], int]]:
    """Jobs that are not hidden, by queue and stored state: live ones counted, ended ones from the tally."""
    counts: dict[tuple[str, int], int] = {}
    for text in (_LIVE, _ENDED) if queue is None else (_LIVE_OF, _ENDED_OF):
        rows = yield step.db.q(text) if queue is None else step.db.q(text, queue)
        for name, code, number in rows:
            counts[name, code] = counts.get((name, code), 0) + int(number)
    return counts


def stats(step: Step) -> Script[c.Stats]:
    """Counts per queue and state, zero-filled; it costs the same whatever the length of the history."""
    names = [name for (name,) in (yield step.db.q("SELECT name FROM {queue} ORDER BY name"))]
    counts = yield from _counts(step, None)
    queues = {name: {state.value: 0 for state in State} for name in sorted(names)}
    for (name, code), number in counts.items():
        if code < ELSEWHERE and name in queues:
            queues[name][STATES[code].value] = number
    oldest = yield from _oldest(step, [name for name, row in queues.items() if row[State.QUEUED]])
    [[refused]] = yield step.db.q("SELECT coalesce(sum(n), 0) FROM {counter} WHERE name = ?", "stale_refused")
    return c.Stats(queues=queues, stale_refused=int(refused), oldest_ready_at=oldest)


def records(step: Step) -> Script[dict[tuple[str, State], int]]:
    """How many jobs that ran elsewhere there are, by queue and state."""
    counts = yield from _counts(step, None)
    return {(name, STATES[code % ELSEWHERE]): number for (name, code), number in counts.items() if code > ELSEWHERE}


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
