"""validate() finds every contradiction that we can plant."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job.ledger import Ledger, canonical, validate
from holdfast.job.model import Job, NewJob
from holdfast.job.state import State
from tests.features import feature
from tests.job.histories import ERROR, Life


@pytest.fixture
def ledger() -> Ledger:
    """A ledger with a job in every state, of a key and of a unique key."""
    life = Life(0)
    names = ("scheduled", "queued", "paused", "running", "retrying", "succeeded", "failed", "behind")
    jobs = [NewJob(id=name, task="t", queue="a", unique=f"u-{name}") for name in names]
    jobs[0] = replace(jobs[0], delay=60.0)
    jobs[3], jobs[7] = replace(jobs[3], key="k"), replace(jobs[7], key="k")
    jobs.append(NewJob(id="sticky", task="t", queue="a", key="s", sticky="svc"))
    life.do(c.Enqueue(jobs=tuple(jobs)))
    for name in ("queued", "paused"):
        life.do(c.Order(action=c.Pause(), selection=c.Selection(ids=(name,))))
    claims = {claim.id: claim for claim in life.do(want(10)).items}
    endings: dict[str, c.Ending] = {
        "retrying": c.Failed(ERROR, retry_in=60.0),
        "succeeded": c.Succeeded(b"1"),
        "failed": c.Failed(ERROR, retryable=False),
    }
    life.do(c.SettleAll(tuple(c.Settlement(claims[name], ending) for name, ending in endings.items())))
    life.do(c.Order(action=c.Resume(), selection=c.Selection(ids=("queued",))))
    assert {job.id: job.state.value for job in life.ledger.table.values()} == {
        **{name: name for name in names[:-1]},
        "behind": "queued",
        "sticky": "queued",
    }
    return life.ledger


def want(limit: int) -> c.Want:
    """Claim from queue a."""
    return c.Want(queues=(c.QueueWant("a", limit),), limit=limit, instance="i1", worker="w")


def put(ledger: Ledger, job_id: str, **fields: Any) -> None:
    """Change a job behind the back of the indexes."""
    job = ledger.job(job_id)
    assert job is not None
    ledger.table[job.seq] = replace(job, **fields)


def seq(ledger: Ledger, job_id: str) -> int:
    """Return a job's number."""
    return ledger.index.ids[job_id]


def last(ledger: Ledger, job_id: str, **fields: Any) -> None:
    """Change a job's last attempt behind the back of the indexes."""
    job = ledger.job(job_id)
    assert job is not None
    assert job.last is not None
    put(ledger, job_id, last=replace(job.last, **fields))


DAMAGE: dict[str, Callable[[Ledger], object]] = {
    "a queued job that is in no line": lambda it: it.index.lines["a"].ready.drop(seq(it, "queued")),
    "a queued job that is in two lines": lambda it: it.index.line("b").ready.add(seq(it, "queued"), 1),
    "a running job that is ready too": lambda it: it.index.lines["a"].ready.add(seq(it, "running"), 1),
    "a queued job at a wrong place in its line": lambda it: it.index.lines["a"].ready.add(seq(it, "queued"), 1),
    "a job ready behind its head": lambda it: it.index.lines["a"].ready.add(seq(it, "behind"), 1),
    "a suspect in the line of the others": lambda it: put(it, "queued", suspect=True),
    "a sticky job that another process may claim": lambda it: it.index.lines["a"].sticky.add(
        seq(it, "sticky"), 1, "i9", suspect=False
    ),
    "a sticky job that nobody may claim": lambda it: it.index.lines["a"].sticky.drop(seq(it, "sticky")),
    "a final job that becomes due": lambda it: it.index.due.add(seq(it, "failed"), 1),
    "a scheduled job that never becomes due": lambda it: it.index.due.drop(seq(it, "scheduled")),
    "a retrying job due at another time": lambda it: it.index.due.add(seq(it, "retrying"), 5),
    "a running job that nobody runs": lambda it: it.index.running.clear(),
    "a job that two processes run": lambda it: it.index.running.update(i2={seq(it, "running"): None}),
    "a queued job that somebody runs": lambda it: it.index.running["i1"].update({seq(it, "queued"): None}),
    "a running job without a lease": lambda it: it.index.leases.clear(),
    "a lease of a job that does not run": lambda it: it.index.leases.update({seq(it, "queued"): 1.0}),
    "an id that leads nowhere": lambda it: it.index.ids.update(nobody=99),
    "an id that leads to another": lambda it: it.index.ids.update(queued=seq(it, "failed")),
    "a wrong count": lambda it: it.index.lines["a"].counts.update({State.QUEUED: 7}),
    "a count in a queue of no jobs": lambda it: it.index.line("b").counts.update({State.QUEUED: 1}),
    "a job in another queue than its line": lambda it: put(it, "queued", queue="b"),
    "a job in another state than its place": lambda it: put(it, "scheduled", state=State.QUEUED),
    "a key that nobody keeps busy": lambda it: it.index.lanes["k"].busy.clear(),
    "a key whose line is empty": lambda it: it.index.lanes["k"].line.drop(seq(it, "behind")),
    "a key that is gone": lambda it: it.index.lanes.clear(),
    "a unique key that nobody holds": lambda it: it.index.uniques.pop("u-queued"),
    "a unique key held by another": lambda it: it.index.uniques.update({"u-queued": seq(it, "running")}),
    "a job counted as tried that is not there": lambda it: it.index.tally.tried.update({99: None}),
    "a token that went back": lambda it: put(it, "running", token=1),
    "an attempt number without an attempt": lambda it: put(it, "queued", attempt=3),
    "an attempt that bears another number": lambda it: last(it, "running", number=9),
    "tokens of attempts that do not grow": lambda it: put(it, "failed", past=(it.table[seq(it, "failed")].last,)),
    "a running job whose attempt has ended": lambda it: last(it, "running", end="lost"),
    "an ended job whose attempt still runs": lambda it: last(it, "succeeded", end=None),
    "an ended job without its time": lambda it: put(it, "failed", finished_at=None),
    "an unfinished job with a time of its end": lambda it: put(it, "queued", finished_at=1.0),
}


@feature("B18", "B8")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_and_named(ledger: Ledger, damage: Callable[[Ledger], object]) -> None:
    assert validate(ledger) == []
    damage(ledger)
    faults = validate(ledger)
    assert faults
    assert all(fault.what for fault in faults)


@feature("B18")
def test_one_state_has_one_hash_and_another_state_another(ledger: Ledger) -> None:
    same = Ledger()
    for job in ledger.table.values():
        same.restore_job(job)
    hashes = {canonical(ledger)}
    changes: dict[str, dict[str, Any]] = {
        "queued": {"priority": 1},
        "failed": {"failures": 2},
        "running": {"data": b"{}"},
    }
    for name, fields in changes.items():
        put(ledger, name, **fields)
        hashes.add(canonical(ledger))
    for part in (ledger.definitions, ledger.index.lines):
        part.clear()
        hashes.add(canonical(ledger))
    ledger.stale_refused += 1
    hashes.add(canonical(ledger))
    assert len(hashes) == 7


def test_a_stored_job_is_whole() -> None:
    job = Job(seq=1, id="x", task="t")
    assert (job.attempts, job.error, job.final) == ((), "", False)
