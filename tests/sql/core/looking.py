"""Looking at the tables of a SQL store: what can not be. It reads them with statements of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from holdfast.job.model import Job
from holdfast.job.state import FINAL, State
from holdfast.stores.sql.rows import ELSEWHERE, HIDDEN, code_of, job_from, lane_of
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Rows = list[tuple[Any, ...]]


def faults_of(query: Callable[[str], Rows], prefix: str = "holdfast_") -> list[str]:
    """Return every contradiction between the tables, in words. `query` does a statement and returns its rows."""
    live = query(f"SELECT {', '.join(JOB_COLUMNS)} FROM {prefix}job ORDER BY seq")
    done = query(f"SELECT {', '.join(DONE_COLUMNS)} FROM {prefix}done ORDER BY seq")
    tally = query(f"SELECT queue, state, n FROM {prefix}tally")
    attempts = query(f"SELECT seq, number FROM {prefix}attempt")
    found = [*_placing(live, done), *_readiness(live), *_ownership(query, prefix), *_counts(done, tally)]
    known = {row[0] for row in live} | {row[0] for row in done}
    found += [f"attempt {number} of job seq {seq} has no job" for seq, number in attempts if seq not in known]
    return found


def _placing(live: Rows, done: Rows) -> Iterator[str]:
    both = {row[1] for row in live} & {row[1] for row in done}
    yield from (f"{job_id} is live and done" for job_id in sorted(both))
    yield from (f"{row[1]} is live and has ended" for row in live if job_from(row).state in FINAL)
    yield from (f"{row[1]} is done and has not ended" for row in done if job_from(row).state not in FINAL)


def _readiness(live: Rows) -> Iterator[str]:
    columns = {name: JOB_COLUMNS.index(name) for name in JOB_COLUMNS}
    jobs = [(job_from(row), row[columns["ready"]], row[columns["lane"]]) for row in live]
    lanes: dict[str, list[Job]] = defaultdict(list)
    for job, _, lane in jobs:
        if lane != lane_of(job):
            yield f"{job.id} is {job.state} and has lane {lane}"
        if job.key is not None:
            lanes[job.key].append(job)
    heads = {seq for line in lanes.values() if (seq := _head(line)) is not None}
    for job, ready, _ in jobs:
        in_line = job.state is State.QUEUED and job.origin == "engine"
        wanted = in_line and (job.key is None or job.seq in heads)
        kind = (3 if job.sticky is not None else 1) + job.suspect
        if ready != (kind if wanted else 0):
            yield f"{job.id} (key {job.key}) is {job.state}, suspect is {job.suspect}, and ready is {ready}"


def _ownership(query: Callable[[str], Rows], prefix: str) -> Iterator[str]:
    """Of a sticky key's line, the head is for the process that the link names, and for no other."""
    links = query(f"SELECT service, lane_key, instance FROM {prefix}link WHERE pod IS NOT NULL")
    owners = {(service, key): instance for service, key, instance in links}
    for seq, service, key, owner in query(f"SELECT seq, sticky, lane_key, owner FROM {prefix}job WHERE ready >= 3"):
        nobody = b"@" + service if isinstance(service, bytes) else f"@{service}"
        if owner != owners.get((service, key), nobody):
            yield f"job seq {seq} is for {owner!r}, and the link of its key says {owners.get((service, key))!r}"


def _head(line: list[Job]) -> int | None:
    if any(lane_of(job) == 2 for job in line):
        return None
    return min((job.seq for job in line if lane_of(job) == 1), default=None)


def _counts(done: Rows, tally: Rows) -> Iterator[str]:
    counts: Counter[tuple[str, int]] = Counter()
    for job in map(job_from, done):
        counts[job.queue, code_of(job) + (HIDDEN if job.deleted_at is not None else 0)] += 1
    told: Counter[tuple[str, int]] = Counter()
    for queue, code, n in tally:
        told[queue, code] += n
    for key in counts.keys() | told.keys():
        if counts[key] != told[key]:
            yield f"queue {key[0]}: {counts[key]} jobs are {key[1] % ELSEWHERE}, the tally says {told[key]}"
