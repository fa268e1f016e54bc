"""Why a job is not running is said in words, and rightly, on every store."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from holdfast.hub.why import explain, look
from holdfast.job.commands import (
    Canceled,
    ChangeDefinition,
    ChangeQueue,
    Define,
    Failed,
    Pause,
    Released,
    Snoozed,
)
from holdfast.job.model import InstanceState, QueueMode, TaskStatus, WorkerConfig
from holdfast.job.state import State
from holdfast.testing.contract.harness import ERROR, LONG, StoreHarness


@pytest.fixture
async def h(store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
    harness = store_factory()
    await harness.open()
    yield harness
    await harness.close()


async def why(h: StoreHarness, job_id: str) -> dict[str, str]:
    """The reasons that are told of a job: code -> text."""
    job = await h.job(job_id)
    return {reason.code: reason.text for reason in explain(job, await look(h.store, job))}


async def serve(h: StoreHarness, name: str = "i1", **fields: object) -> None:
    """Let a worker process live that could run the jobs of these tests."""
    record: dict[str, Any] = {
        "queues": ("default",),
        "tasks": ("t",),
        "slots": 9,
        "state": InstanceState.READY,
        "worker": "w",
    }
    await h.beat(name, **{**record, **fields})


async def test_what_waits_says_what_it_waits_for(h: StoreHarness) -> None:
    job = await h.add()
    assert "no_worker" in await why(h, job.id)
    await serve(h, queues=("other",))
    assert "other" in (await why(h, job.id))["queue_unserved"]
    await serve(h, tasks=("u",))
    assert "w lack it" in (await why(h, job.id))["no_handler"]
    await serve(h, busy=9)
    assert "slots_busy" in await why(h, job.id)
    await serve(h)
    assert set(await why(h, job.id)) == {"next"}
    await h.store.configure_worker(WorkerConfig(name="w", enabled=False))
    assert "w" in (await why(h, job.id))["worker_disabled"]
    await h.store.configure_worker(WorkerConfig(name="w", drain=True))
    await serve(h, state=InstanceState.DRAINING)
    assert "draining" in await why(h, job.id)


async def test_what_is_held_says_who_holds_it(h: StoreHarness) -> None:
    await serve(h)
    job = await h.add()
    await h.store.change_queue(ChangeQueue(name="default", paused=True, who="ann", why="deploy"))
    told = (await why(h, job.id))["queue_paused"]
    assert "ann" in told
    assert "deploy" in told
    await h.store.change_queue(ChangeQueue(name="default", paused=False))
    await h.done(Pause(), job.id)
    assert "ann" in (await why(h, job.id))["paused"]
    await h.store.define([Define(alias="u")])
    other = await h.add(task="u")
    await h.store.change_definition(ChangeDefinition(alias="u", status=TaskStatus.CANCELED))
    assert "'u'" in (await why(h, other.id))["task_inactive"]


async def test_what_stands_behind_others_says_behind_which(h: StoreHarness) -> None:
    await serve(h)
    first, second = await h.add(key="k"), await h.add(key="k")
    await h.claim_one()
    assert first.id in (await why(h, second.id))["key_busy"]
    await h.store.change_queue(ChangeQueue(name="serial", mode=QueueMode.SERIAL, create=True))
    await serve(h, queues=("default", "serial"))
    await h.add_many(2, queue="serial")
    [one] = await h.claim(queues=("serial",))
    waiting = [job for job in await h.all_jobs(queue="serial") if job.id != one.id]
    assert "1 at a time" in (await why(h, waiting[0].id))["queue_limit"]
    await h.store.change_queue(ChangeQueue(name="wide", limit=2, create=True))
    await serve(h, queues=("default", "wide"))
    await h.add_many(3, queue="wide")
    assert len(await h.claim(queues=("wide",))) == 2
    [left] = [job for job in await h.all_jobs(queue="wide") if job.state is State.QUEUED]
    assert "2 at a time" in (await why(h, left.id))["queue_limit"]


async def test_what_comes_later_says_when_and_what_ended_says_how(h: StoreHarness) -> None:
    await serve(h)
    later = await h.add(delay=90.0)
    assert "in 1m 30s" in (await why(h, later.id))["scheduled"]
    for ending, code, said in (
        (Failed(ERROR, retry_in=LONG), "backoff", ERROR.text.splitlines()[0][:20]),
        (Snoozed(LONG, reason="not yet"), "snoozed", "not yet"),
        (Released("no handler here", delay=30.0, counted=False), "released", "no handler here"),
        (Canceled("enough"), "canceled", "enough"),
        (Failed(ERROR, retryable=False), "failed", ERROR.text.splitlines()[0][:20]),
    ):
        job = await h.add()
        claim = await h.claim_one()
        assert "worker w" in (await why(h, job.id))["running"]
        await h.settle(claim, ending)
        assert said in (await why(h, job.id))[code]


async def test_what_brought_its_process_down_says_so(h: StoreHarness) -> None:
    await serve(h)
    suspect = await h.add()
    for round_ in range(2):
        await h.claim_one(f"dies-{round_}")
        await h.died(f"dies-{round_}")
        h.advance(LONG)
        await h.store.rescue()
        assert "crashes" in (await why(h, suspect.id))["suspect"]
    await h.claim_one("dies-last")
    await h.died("dies-last")
    assert "3 processes" in (await why(h, suspect.id))["poison"]
