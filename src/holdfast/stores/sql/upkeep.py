"""Upkeep: what is due, who lives, what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import execute
from holdfast.job.ledger.upkeep import GONE_AFTER
from holdfast.stores.sql.lanes import lock_lanes, set_heads
from holdfast.stores.sql.retention import prune
from holdfast.stores.sql.rows import body_of, micros, seconds
from holdfast.stores.sql.slice import Need, carry_out, load
from holdfast.stores.sql.things import instance_row

if TYPE_CHECKING:
    from holdfast.stores.sql.script import Script, Step

_DUE: Final = "SELECT seq, lane_key, queue FROM {job} WHERE {is_due} AND {due_at} <= ? ORDER BY {due_at}, seq LIMIT ?"
_READY: Final = (
    "UPDATE {job} SET state = 2, queued_at = ?, updated_at = ?, lane = CASE WHEN lane_key IS NULL THEN 0 ELSE 1 END,"
    " ready = CASE WHEN lane_key IS NOT NULL OR sticky IS NOT NULL THEN 0 WHEN suspect = 1 THEN 2 ELSE 1 END"
    " WHERE seq {ints} AND state IN (1, 4) AND run_at <= ?"
)
#: A beat leaves a lease as it is while so many tenths of it are left: a worker stops its handlers before they have passed
#: since it sent the beat (worker/leases.py), so nobody has the job sooner than it believes. What a busy worker claims is
#: settled long before, and its beats neither write nor lock it.
YOUNG: Final = 9
_ITS_LEASE: Final = "coalesce((SELECT rescue_after FROM {queue} AS its WHERE its.name = {job}.queue), ?)"
_OLD: Final = (
    f"SELECT seq FROM {{job}} WHERE {{runs_at}} = ? AND {{is_running}} AND lease_until < ? + {YOUNG} * {_ITS_LEASE} / 10"
    " ORDER BY seq"
)
_EXTEND: Final = (
    f"UPDATE {{job}} SET lease_until = {{greatest}}(lease_until, ? + {_ITS_LEASE})"
    " WHERE seq {ints} AND {runs_at} = ? AND {is_running}"
)


def next_due(step: Step) -> Script[int | None]:
    """When the next scheduled or retrying job becomes ready."""
    [[due]] = yield step.db.q("SELECT min({due_at}) FROM {job} WHERE {is_due}")
    return None if due is None else int(due)


def promote(step: Step, limit: int) -> Script[int]:
    """Make up to `limit` scheduled and retrying jobs ready whose time has come; return how many there were."""
    db, now = step.db, (yield from step.now())
    rows = (yield db.q(_DUE, now, limit)) if limit > 0 else []
    if not rows:
        return 0
    keys = {key for _, key, _ in rows if key is not None}
    yield from lock_lanes(step, keys)
    yield db.q(_READY, now, now, [seq for seq, _, _ in rows], now)
    yield from set_heads(step, keys)
    step.ready |= {queue for _, _, queue in rows}
    return len(rows)


# --- heartbeat -----------------------------------------------------------------------------------------------------


def beat(step: Step, command: c.Beat) -> Script[c.Signals]:
    """Extend the leases of an instance, renew its record, and tell it what it holds."""
    db, now = step.db, (yield from step.now())
    me = command.instance
    part = yield from load(step, Need(instances=(me.id,), workers=(me.worker,)))
    facts, signals = execute(part.ledger, command, seconds(now), step.draw)
    made = [fact.config for fact in facts if isinstance(fact, f.WorkerSaved)]
    yield from db.insert_missing("worker", [(config.name, body_of(config)) for config in made])
    row = instance_row(part.ledger.instances[me.id], part.ledger.beats[me.id])
    yield from db.upsert("instance", [row])
    old = [seq for (seq,) in (yield db.q(_OLD, me.id, now, micros(command.lease)))]
    if old:
        yield db.q(_EXTEND, now, micros(command.lease), old, me.id)
    rows = yield db.q("SELECT seq, id, token, cancel_asked FROM {job} WHERE {runs_at} = ? AND {is_running}", me.id)
    held = tuple(c.Held(seq, job_id, token, bool(asked)) for seq, job_id, token, asked in rows)
    answer: c.Signals = replace(signals, held=held)
    return answer


# --- lost and dead -------------------------------------------------------------------------------------------------


def rescue(step: Step, limit: int) -> Script[c.Rescued]:
    """End claims whose lease has passed, promote what is due, forget what retention lets go."""
    db, now = step.db, (yield from step.now())
    text = (
        "SELECT seq, instance FROM {job} WHERE {is_running} AND lease_until <= ?"
        " ORDER BY started_at, prio, run_at, seq LIMIT ?"
    )
    rows = yield db.q(text, now, limit)
    expired = [seq for seq, _ in rows]
    silent = yield db.q(
        "SELECT id FROM {instance} WHERE (live = 1 AND heartbeat_at + lease <= ?) OR (live = 0 AND heartbeat_at <= ?)",
        now,
        now - micros(GONE_AFTER),
    )
    instances = sorted(
        {name for (name,) in silent} | {name for _, name in rows}
    )  # the others tell when they were heard of
    need = Need(seqs=expired, instances=instances)
    _, done = yield from carry_out(step, c.Rescue(limit=limit), need)
    promoted = done.promoted + (yield from promote(step, limit - done.promoted))
    pruned = yield from prune(step, limit)
    yield from db.tidy(step)
    more = limit in (len(expired), promoted, pruned)
    answer: c.Rescued = replace(done, promoted=promoted, pruned=pruned, more=more)
    return answer


def instance_died(step: Step, died: c.InstanceDied) -> Script[int]:
    """End the claims of a dead process, as crashed."""
    text = "SELECT seq FROM {job} WHERE {runs_at} = ? AND {is_running} ORDER BY seq"
    seqs = [seq for (seq,) in (yield step.db.q(text, died.instance))]
    _, answer = yield from carry_out(step, died, Need(seqs=seqs, instances=(died.instance,)))
    count: int = answer
    return count
