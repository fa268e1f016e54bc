"""Claims: rows that were taken as the worker gets them, and the claims that only the rules can decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.model import Attempt, Job, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.stores.sql.attempts import attempts_of, with_past
from holdfast.stores.sql.links import load_links
from holdfast.stores.sql.rows import RUNNING, STICKY, STICKY_SUSPECT, job_from
from holdfast.stores.sql.schema import CLAIMED, JOB_COLUMNS
from holdfast.stores.sql.slice import JOBS, Need, Slice, do, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.stores.sql.script import Row, Script, Step

_RUNNING: Final = State.RUNNING
_NO_RETRY: Final = RetryPolicy()
_HOLD: Final = OnWait.HOLD
#: How many ready jobs of a queue are looked at beyond those that are wanted, where some may have to be held back.
_SLACK: Final = 100
_PLACES: Final = {name: JOB_COLUMNS.index(name) for name in JOB_COLUMNS}
_STATE, _READY, _LANE, _UPDATED, _ATTEMPT, _TOKEN, _INSTANCE, _STARTED, _LEASE = (
    _PLACES[name]
    for name in ("state", "ready", "lane", "updated_at", "attempt", "token", "instance", "started_at", "lease_until")
)


def claimed_row(row: Row, epoch: int, who: tuple[str, str, str], now: int, until: int) -> Row:
    """Return a ready job's row as the claim has changed it. `who`: instance, worker and version."""
    changed = list(row)
    changed[_STATE], changed[_READY], changed[_LANE], changed[_UPDATED] = RUNNING, 0, row[_LANE] * 2, now
    changed[_ATTEMPT], changed[_TOKEN] = row[_ATTEMPT] + 1, max(row[_TOKEN] + 1, epoch)
    changed[_INSTANCE : _INSTANCE + 3] = who
    changed[_STARTED], changed[_LEASE] = now, until
    return tuple(changed)


def claim_of(row: Row, until: int, past: Sequence[Attempt] | None = None, lease: float = 0.0) -> c.Claim[Job]:
    """Return the claim of a job that was taken. lease: seconds, when it is the queue's own and not the worker's."""
    job = job_from(row)
    if past:
        job = with_past(job, past)
    return c.Claim(job, job.id, job.task, job.queue, job.token, job.attempt, until / 1e6, job.seq, job.suspect, lease)


def plain_claim(row: Row, who: tuple[str, str, str], now: float, own: float) -> c.Claim[Job] | None:
    """Return the claim of a job that never ran and of which nothing special was asked; None for others.

    row: CLAIMED, as the claim has made it. who: instance, worker and version. now, own: in seconds; own as Claim.lease.
    """
    (
        seq, job_id, task, queue, payload, prio, run_at, policy, key, unique, created_at, queued_at, attempt, token, lease,
        rest,
    ) = row  # fmt: skip
    if policy is not None or rest is not None or attempt > 1 or queued_at is None:
        return None
    # By place, in the order of Job's fields: the claim of a hundred pays for each name.
    job = Job(
        seq, job_id, task, queue, payload, -prio, run_at / 1e6, _NO_RETRY, None, key, _HOLD, None, unique, None, (), b"",
        None, "engine", created_at / 1e6, _RUNNING, queued_at / 1e6, now, None, None, "", None, None, 0, attempt,
        token, 0, 0, 0, 0, 0, 0, False,
        Attempt(attempt, token, who[0], who[1], now, version=who[2], queued_at=queued_at / 1e6),
    )  # fmt: skip
    return c.Claim(job, job_id, task, queue, token, attempt, lease / 1e6, seq, False, own)


_BLANK: Final[dict[str, Any]] = {
    "state": RUNNING, "ready": 0, "lane": 0, "sticky": None, "pod": None, "pod_epoch": 0, "suspect": 0, "cancel_asked": 0,
}  # fmt: skip


def full_claim(
    row: Row, who: tuple[str, str, str], now: int, own: float, past: Sequence[Attempt] | None
) -> c.Claim[Job]:
    """Return the claim of any job that was in line as a plain one; now: in microseconds, all else as for plain_claim."""
    values = dict(zip(CLAIMED, row, strict=True))
    values |= _BLANK | {"updated_at": now, "started_at": now, "instance": who[0], "worker": who[1], "version": who[2]}
    return replace(claim_of(tuple(values[name] for name in JOB_COLUMNS), values["lease_until"], past), lease=own)


# --- by the rules --------------------------------------------------------------------------------------------------


def claim_by_rules(step: Step, want: c.Want, epoch: int) -> Script[list[c.Claim[Job]]]:
    """Claim where suspects or jobs of stopped tasks stand in line."""
    items: list[c.Claim[Job]] = []
    left = [one.limit for one in want.queues]
    while True:
        rest = replace(
            want,
            limit=want.limit - len(items),
            queues=tuple(c.QueueWant(one.queue, room) for one, room in zip(want.queues, left, strict=True)),
        )
        part = yield from _candidates(step, rest, epoch)
        facts, claims = yield from do(step, part, rest)
        items += [claim for claim in claims.items if claim.ref not in part.damaged]
        step.damaged |= {seq: part.damaged[seq] for claim in claims.items if (seq := claim.ref) in part.damaged}
        for place, one in enumerate(want.queues):
            left[place] -= sum(claim.queue == one.queue for claim in claims.items)
        held_back = any(type(fact) is f.Paused for fact in facts)
        if not held_back or len(items) >= want.limit or not any(room > 0 for room in left):
            return items


def _candidates(step: Step, want: c.Want, epoch: int) -> Script[Slice]:
    """Load what stands first in each queue, and all that bears on whether it may be claimed."""
    db = step.db
    names = sorted({one.queue for one in want.queues})
    part = yield from load(step, Need(queues=names, definitions=True))
    ledger = part.ledger
    ledger.first_token = epoch
    most = _most(want, slack=_SLACK if ledger.stopped else 0)
    for name in names:
        for ready in (1, 2):
            text = (
                f"{JOBS} WHERE queue = ? AND owner = '' AND ready = {ready} ORDER BY prio, run_at, seq LIMIT ? {{skip}}"
            )
            part.take((yield db.q(text, name, most[name])))
    if want.sticky:
        yield from _take_own(step, part, want.instance, most)
    keys = sorted({job.key for job in part.loaded.values() if job.key is not None and job.task in ledger.stopped})
    if keys:
        part.take((yield db.q(f"{JOBS}{{by_lane}} WHERE lane_key {{texts}} AND lane > 0 ORDER BY seq {{lock}}", keys)))
    part.take((yield db.q(f"{JOBS} WHERE {{runs_at}} = ? AND {{is_running}} AND suspect = 1", want.instance)))
    for seq, past in (yield from _past(step, part)).items():
        part.loaded[seq] = with_past(part.loaded[seq], past)
    yield from load_links(step, ledger, part.loaded.values(), want.instance)
    part.settle_in()
    for name in names:
        line = ledger.line(name)
        if line is not None and line.queue.fleet_limit is not None:
            [[running]] = yield db.q("SELECT count(*) FROM {job} WHERE {is_running} AND {runs_in} = ?", name)
            line.counts[State.RUNNING] = running
    return part


def _most(want: c.Want, slack: int) -> dict[str, int]:
    """How many jobs of each queue have to be looked at; a queue may be asked twice."""
    most = dict.fromkeys((one.queue for one in want.queues), slack)
    for one in want.queues:
        most[one.queue] += max(0, min(one.limit, want.limit))
    return most


def _take_own(step: Step, part: Slice, instance: str, most: Mapping[str, int]) -> Script[None]:
    """Take what is in line for the process that asks alone; suspects apart, as it may hold but one of them."""
    for name, count in most.items():
        for ready in (STICKY, STICKY_SUSPECT):
            mine = f"queue = ? AND sticky IS NOT NULL AND ready = {ready} AND owner = ?"
            text = f"{JOBS} WHERE {mine} ORDER BY prio, run_at, seq LIMIT ? {{skip}}"
            part.take((yield step.db.q(text, name, instance, count)))


def _past(step: Step, part: Slice) -> Script[dict[int, list[Any]]]:
    tried = [seq for seq, job in part.loaded.items() if job.attempt > 0]
    if not tried:
        return {}
    return (yield from attempts_of(step, tried))
