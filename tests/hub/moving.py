"""A store that has seen something of everything, and what of an export must be the same after a move."""

import json
from typing import Any

from holdfast.audit import AuditEntry
from holdfast.connect import make_audit
from holdfast.job.commands import (
    Cancel,
    ChangeDefinition,
    ChangeQueue,
    Define,
    Delete,
    ErrorInfo,
    Failed,
    KeyLink,
    Pause,
    RecordJobs,
    Snoozed,
)
from holdfast.job.model import (
    CatchUp,
    Job,
    QueueMode,
    QueueShare,
    Schedule,
    ScheduleStatus,
    TaskStatus,
    WorkerConfig,
)
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.testing.contract.harness import StoreHarness

FAR = 4_000_000_000.0  # no schedule of these comes due, no job of these is ready


async def filled(rig: StoreHarness) -> None:
    """Fill a store with something of everything."""
    await settings(rig)
    await ended(rig)
    await waiting(rig)
    await record(rig)
    audit = make_audit(rig.store)
    assert audit is not None
    await audit.record(AuditEntry(who="ann", action="tokens.make", subject="ci", detail="read", count=1))


async def settings(rig: StoreHarness) -> None:
    """Definitions, queues, schedules and workers."""
    store = rig.store
    retry = RetryPolicy(max_attempts=7)
    task = Define(alias="t", title="T", description="d", memo="m", queue="post", retry=retry, timeout=9.0)
    await store.define([task, Define(alias="off", id="d2"), Define(alias="gone")])
    await store.change_definition(ChangeDefinition(alias="off", status=TaskStatus.CANCELED))
    await store.change_definition(ChangeDefinition(alias="gone", deleted=True))
    await store.change_queue(ChangeQueue(name="post", create=True, mode=QueueMode.SERIAL, keep_failed=None))
    await store.change_queue(ChangeQueue(name="held", create=True, paused=True, why="deploy", who="ann", limit=3))
    schedule = Schedule(name="s", rule="every 1h", task="t", payload=b'{"a":1}', next_run_at=FAR, count=4, last_job="j")
    for one in (
        schedule,
        Schedule(name="u", rule="0 3 * * *", zone="Europe/Berlin", task="t", status=ScheduleStatus.ACTIVE, next_run_at=FAR,
                 catch_up=CatchUp.ALL, max_count=9, start_at=5.0, end_at=FAR, last_run_at=6.0),
    ):  # fmt: skip
        await store.save_schedule(one)
    shares = (QueueShare(name="post", concurrency=3, weight=2),)
    worker = WorkerConfig(name="w", queues=shares, enabled=False, max_attempts=3, timeout=4.0, delay=1.0, labels=("x",))
    await store.configure_worker(worker)


async def ended(rig: StoreHarness) -> None:
    """Jobs that have been through attempts."""
    await rig.make(3, max_attempts=2)
    first, second, third = await rig.claim(3)
    await rig.settle(first)
    await rig.settle(second, Failed(ErrorInfo("E", "broke \x00 off", "tb")))
    await rig.settle(third, Snoozed(60.0, update=b'{"n":1}'))
    again = await rig.claim_one()
    await rig.settle(again, Failed(ErrorInfo("E", "again", "tb")))
    deleted, canceled = await rig.add(id="deleted"), await rig.add(id="canceled", key="user:9")
    for job in (deleted, canceled):
        await rig.done(Cancel(why="no"), job.id)
    await rig.done(Delete(), deleted.id)


async def waiting(rig: StoreHarness) -> None:
    """Jobs that wait: for a time, for a key, for a person, for an owner; one runs."""
    await rig.add(id="later", delay=1_000.0, key="user:1", tags=("a", "b"), unique="u", unique_window=1e6)
    await rig.add(id="ready", payload='{"ü":"😀"}'.encode(), headers=b'{"x":1}', priority=7)
    for number in (3, 1, 2):
        await rig.add(id=f"line-{number}", key="user:2")
    await rig.add(id="held", unique="held")
    await rig.done(Pause(), "held")
    await rig.add(id="asleep", queue="held")
    await rig.beat("i1", pod=1)
    await rig.store.bind([KeyLink("chat", "k", 1, "i1", 70), KeyLink("chat", "free", None, "", 9)])
    await rig.add(id="sticky", key="k", sticky="chat")
    await rig.add(id="suspect", queue="suspects")
    await rig.beat("i5")
    await rig.claim_one("i5", queues=("suspects",))
    await rig.died("i5")
    await rig.add(id="runs", queue="running")
    await rig.claim_one(queues=("running",))


async def record(rig: StoreHarness) -> None:
    """A job that ran elsewhere."""
    job = Job(seq=0, id="elsewhere", task="t", queue="other", state=State.FAILED, created_at=5.0, updated_at=6.0)
    records = getattr(rig.store, "record_jobs", None)
    if records is None:
        store: Any = rig.store
        await store.run(RecordJobs((job,)))
    else:
        await records([job])


#: How many jobs that makes.
JOBS = 16
#: What belongs to a store itself: numbers, and times of steering records.
_OWN = ("created_at", "updated_at", "revision", "paused_at", "seq")


def comparable(lines: list[bytes]) -> dict[str, list[Any]]:
    """The lines of an export by what they are about, without what is a store's own."""
    found: dict[str, list[Any]] = {}
    for line in lines[1:-1]:
        [(kind, body)] = json.loads(line).items()
        if kind == "link":
            body = [*body[:2], body[-1]]  # its process stays behind
        elif kind == "job":
            body = _job(body)
        elif kind not in ("audit", "figure"):
            body = {name: value for name, value in body.items() if name not in _OWN}
            if body.get("deleted_at") is not None:
                body["deleted_at"] = "some time"
        found.setdefault(kind, []).append(body)
    return found


def _job(body: dict[str, Any]) -> dict[str, Any]:
    """A job, and of one that runs what it becomes: ready again, unspent."""
    body = {name: value for name, value in body.items() if name not in ("seq", "pod", "pod_epoch")}
    if body["id"] == "runs":
        for name in ("state", "queued_at", "updated_at"):
            body.pop(name)
        body["attempts"] = [one["number"] for one in body["attempts"]]
    return body


def assert_moved(old: list[bytes], new: list[bytes]) -> None:
    """Everything of an export is in another one, as it was."""
    before, after = comparable(old), comparable(new)
    entries = before.pop("audit"), after.pop("audit")
    for one, other in zip(entries[0], entries[1], strict=False):
        assert _same(one, other), "what was done here stands behind what was done there"
    assert len(entries[1]) >= len(entries[0])
    assert before.keys() == after.keys()
    for kind, bodies in before.items():
        for one, other in zip(bodies, after[kind], strict=True):
            assert _same(one, other), f"{kind}: {_difference(one, other)}"


def _same(one: Any, other: Any) -> bool:
    """Equal, but for what of a time is less than a microsecond, which databases do not hold."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 2e-6
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _difference(one: Any, other: Any) -> Any:
    if not isinstance(one, dict):
        return one, other
    return {
        name: (one.get(name), other.get(name)) for name in {*one, *other} if not _same(one.get(name), other.get(name))
    }
