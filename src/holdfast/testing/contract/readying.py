"""Whatever makes a job ready wakes those who wait; and a store's life from open to close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from holdfast.errors import StoreClosed
from holdfast.job.commands import (
    Action,
    Cancel,
    ChangeDefinition,
    ChangeQueue,
    Define,
    Edit,
    Replay,
    Resume,
    Retry,
    RunNow,
)
from holdfast.job.model import QueueMode, Schedule, ScheduleStatus
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import LONG, StoreHarness

#: Seconds of real time: what a wait is told, and when a broken one is given up.
NEVER, BOUND = 600.0, 5.0

#: Brings the store to where one more step makes a job ready; returns that step.
Readying = Callable[[StoreHarness], Awaitable[Callable[[], Awaitable[object]]]]


def _ordered(state: State, action: Action) -> Readying:
    async def prepare(h: StoreHarness) -> Callable[[], Awaitable[object]]:
        job = await h.in_state(state)
        return lambda: h.done(action, job.id)

    return prepare


async def _queue_resumed(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    await h.add()
    await h.store.change_queue(ChangeQueue(name=h.queue, paused=True))
    return lambda: h.store.change_queue(ChangeQueue(name=h.queue, paused=False))


async def _limit_lifted(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    await h.store.change_queue(ChangeQueue(name=h.queue, create=True, limit=1))
    await h.add_many(2)
    await h.claim()
    return lambda: h.store.change_queue(ChangeQueue(name=h.queue, limit=None))


async def _serial_queue_freed(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    await h.store.change_queue(ChangeQueue(name=h.queue, create=True, mode=QueueMode.SERIAL))
    await h.add_many(2)
    claim = await h.claim_one()
    return lambda: h.settle(claim)


async def _key_freed(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    await h.add_many(2, key="k")
    claim = await h.claim_one()
    return lambda: h.settle(claim)


async def _head_canceled(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    head, _behind = await h.add_many(2, key="k")
    await h.claim_one()
    await h.died()
    await h.done(Edit(run_at=h.clock.now() + LONG), head.id)
    assert await h.claim() == ()
    return lambda: h.done(Cancel(), head.id)


async def _task_active_again(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    await h.store.define([Define(alias=h.task)])
    await h.add()
    await h.store.change_definition(ChangeDefinition(alias=h.task, status="canceled"))
    return lambda: h.store.change_definition(ChangeDefinition(alias=h.task, status="active"))


async def _tick(h: StoreHarness) -> Callable[[], Awaitable[object]]:
    due = h.clock.now()
    made = Schedule(name="s", rule="* * * * *", task=h.task, next_run_at=due, status=ScheduleStatus.ACTIVE)
    await h.store.save_schedule(made)
    return lambda: h.store.fire_schedule("s", due, [h.new()], None)


READYING: dict[str, Readying] = {
    "a job is resumed": _ordered(State.PAUSED, Resume()),
    "a scheduled job is run now": _ordered(State.SCHEDULED, RunNow()),
    "a retrying job is run now": _ordered(State.RETRYING, RunNow()),
    "a failed job is retried": _ordered(State.FAILED, Retry()),
    "a job is replayed": _ordered(State.SUCCEEDED, Replay()),
    "a job's time is moved to now": _ordered(State.SCHEDULED, Edit(run_at=0.0)),
    "a queue is resumed": _queue_resumed,
    "a limit is lifted": _limit_lifted,
    "a serial queue becomes free": _serial_queue_freed,
    "a key becomes free": _key_freed,
    "the head of a key is canceled": _head_canceled,
    "a task is active again": _task_active_again,
    "a schedule fires": _tick,
}


class Readied(StoreSuite):
    """Wake-ups by everything that is not an enqueue."""

    @feature("T22")
    @pytest.mark.parametrize("prepare", READYING.values(), ids=READYING.keys())
    async def test_what_makes_a_job_ready_wakes_those_who_wait(self, h: StoreHarness, prepare: Readying) -> None:
        if not h.store.capabilities.push:
            pytest.skip("this store is polled")
        step = await prepare(h)
        answer = await h.wanted(instance="i9")
        assert answer.items == ()
        waiting = asyncio.create_task(h.store.wait([h.queue], answer.cursor, NEVER))
        await asyncio.sleep(0)
        assert not waiting.done()
        await step()
        assert await asyncio.wait_for(waiting, BOUND) is True
        assert len(await h.claim(instance="i9")) == 1


class Lifecycle(StoreSuite):
    """Open, migrate, close."""

    @feature("T1", "T23")
    async def test_a_closed_store_says_so_and_closing_twice_is_fine(self, h: StoreHarness) -> None:
        claim_from = h.wanted
        await h.store.close()
        await h.store.close()
        with pytest.raises(StoreClosed):
            await h.store.enqueue([h.new()])
        with pytest.raises(StoreClosed):
            await claim_from()

    @feature("T2")
    async def test_migrating_again_takes_no_step(self, h: StoreHarness) -> None:
        await h.add()
        assert await h.store.migrate() == []
        assert len(await h.all_jobs()) == 1

    async def test_the_store_tells_its_own_time(self, h: StoreHarness) -> None:
        assert h.store.now() == h.clock.now()
        h.advance(5.0)
        assert h.store.now() == h.clock.now()

    async def test_the_store_tells_what_it_can_do(self, h: StoreHarness) -> None:
        can = h.store.capabilities
        flags = (can.durable, can.push, can.many_processes, can.transactional)
        assert all(isinstance(flag, bool) for flag in flags)
        assert 0 < can.time_precision <= 1e-3
