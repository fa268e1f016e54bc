"""Looking at the tables of a SQL store: what can not be. It reads them with statements of its own."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.job.model import Job
from holdfast.job.state import FINAL, End, State
from holdfast.stores.sql.attempts import with_past
from holdfast.stores.sql.damage import attempts_from, job_of
from holdfast.stores.sql.rows import HIDDEN, Rest, code_of, lane_of
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Rows = list[tuple[Any, ...]]


def snoozed_so_often(times: int) -> str:
    """The column `rest` of a job that was put off so many times and is like a new one in all else, in hexadecimal."""
    return msgspec.msgpack.encode(Rest(snoozes=times)).hex()


def faults_of(query: Callable[[str], Rows], prefix: str = "holdfast_") -> list[str]:
    """Return every contradiction between the tables, in words. `query` does a statement and returns its rows."""
    live = query(f"SELECT {', '.join(JOB_COLUMNS)} FROM {prefix}job ORDER BY seq")
    done = query(f"SELECT {', '.join(DONE_COLUMNS)} FROM {prefix}done ORDER BY seq")
    tally = query(f"SELECT queue, task, worker, state, n, timed, took FROM {prefix}tally")
    attempts = query(f"SELECT seq, number FROM {prefix}attempt")
    past = attempts_from(query(f"SELECT seq, number, body FROM {prefix}attempt ORDER BY seq, number"))
    jobs = [with_past(job, past.get(job.seq, [])) for job in map(job_of, [*live, *done])]
    found = [*_placing(live, done), *_readiness(live), *_ownership(query, prefix), *_counts(jobs, tally)]
    known = {row[0] for row in live} | {row[0] for row in done}
    found += [f"attempt {number} of job seq {seq} has no job" for seq, number in attempts if seq not in known]
    return found


def _placing(live: Rows, done: Rows) -> Iterator[str]:
    both = {row[1] for row in live} & {row[1] for row in done}
    yield from (f"{job_id} is live and done" for job_id in sorted(both))
    yield from (f"{row[1]} is live and has ended" for row in live if job_of(row).state in FINAL)
    yield from (f"{row[1]} is done and has not ended" for row in done if job_of(row).state not in FINAL)


def _readiness(live: Rows) -> Iterator[str]:
    columns = {name: JOB_COLUMNS.index(name) for name in JOB_COLUMNS}
    jobs = [(job_of(row), row[columns["ready"]], row[columns["lane"]]) for row in live]
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


def _counts(jobs: list[Job], tally: Rows) -> Iterator[str]:
    """The tally says what the rows say: ended jobs and records, by their newest worker, and what successes took."""
    truth: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for job in jobs:
        if not job.final and job.origin == "engine":
            continue
        code = code_of(job) + (HIDDEN if job.deleted_at is not None else 0)
        truth[job.queue, job.task, job.last.worker if job.last else "", code][0] += 1
        for attempt in job.attempts:
            if attempt.end is End.SUCCEEDED and attempt.duration is not None:
                times = truth[job.queue, job.task, attempt.worker, code]
                times[1] += 1
                times[2] += round(attempt.duration * 1e6)
    told: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for *names, code, n, timed, took in tally:
        key = (*(name.decode() if isinstance(name, bytes) else name for name in names), code)
        told[key] = [one + more for one, more in zip(told[key], (n, timed, took), strict=True)]
    for key in truth.keys() | told.keys():
        if truth[key] != told[key]:
            yield f"group {key}: {truth[key]} are there, timed and took, the tally says {told[key]}"
