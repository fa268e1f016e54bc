"""Order per key, fleet limits and serial queues: what may run at the same time, and what comes next."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast.job.commands import Cancel, ChangeQueue, Delete, Ending, Failed, Pause, Released, Resume, Retry, Snoozed
from holdfast.job.model import OnWait, QueueMode
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, LONG, StoreHarness

KEY = "user:42"


class KeyOrder(StoreSuite):
    """Jobs of one key run one at a time, in the order in which they were accepted, once they are due."""

    @feature("T12")
    async def test_one_job_of_a_key_runs_at_a_time_in_order_of_acceptance(self, h: StoreHarness) -> None:
        ids = [job.id for job in await h.add_many(4, key=KEY)]
        for wanted in ids:
            [claim] = await h.claim()
            assert claim.id == wanted
            assert await h.claim(instance="i2") == ()
            await h.settle(claim)
        assert await h.claim() == ()

    async def test_keys_do_not_hold_each_other_nor_jobs_without_a_key(self, h: StoreHarness) -> None:
        a, b, free = await h.add(key="a"), await h.add(key="b"), await h.add()
        await h.add(key="a")
        assert await h.claim_ids() == [a.id, b.id, free.id]
        assert await h.claim() == ()

    async def test_within_a_key_acceptance_comes_before_priority(self, h: StoreHarness) -> None:
        first, second = await h.add(key=KEY), await h.add(key=KEY, priority=50)
        assert await h.run_all() == [first.id, second.id]

    async def test_between_keys_priority_rules(self, h: StoreHarness) -> None:
        plain, urgent = await h.add(key="a"), await h.add(key="b", priority=50)
        assert await h.claim_ids() == [urgent.id, plain.id]

    @pytest.mark.parametrize("ending", [Failed(ERROR, retry_in=60.0), Snoozed(60.0)], ids=["retrying", "snoozed"])
    async def test_a_head_that_waits_holds_its_line(self, h: StoreHarness, ending: Ending) -> None:
        head, behind = await h.add_many(2, key=KEY)
        await h.claim_and_settle(ending)
        assert await h.claim() == ()
        h.advance(60.0)
        assert await h.run_all() == [head.id, behind.id]

    @pytest.mark.parametrize("ending", [Failed(ERROR, retry_in=60.0), Snoozed(60.0)], ids=["retrying", "snoozed"])
    async def test_a_head_may_let_others_pass_while_it_waits(self, h: StoreHarness, ending: Ending) -> None:
        head, behind, last = await h.add_many(3, key=KEY, on_wait=OnWait.PASS)
        await h.claim_and_settle(ending)
        claim = await h.claim_one()
        assert claim.id == behind.id
        h.advance(60.0)
        assert await h.claim() == ()
        await h.settle(claim)
        assert await h.run_all() == [head.id, last.id]

    async def test_a_released_or_lost_head_stays_the_head(self, h: StoreHarness) -> None:
        head, behind = await h.add_many(2, key=KEY)
        await h.claim_and_settle(Released("stop"))
        assert (await h.claim_one()).id == head.id
        await h.lose()
        assert await h.run_all() == [head.id, behind.id]

    async def test_a_job_of_the_future_joins_its_line_when_it_is_due(self, h: StoreHarness) -> None:
        future = await h.add(key=KEY, delay=60.0)
        first, second, third = await h.add_many(3, key=KEY)
        claim = await h.claim_one()
        assert claim.id == first.id
        h.advance(60.0)
        assert await h.claim() == ()
        await h.settle(claim)
        assert await h.run_all() == [future.id, second.id, third.id]

    @pytest.mark.parametrize("action", [Cancel(), Delete(), Pause()], ids=["cancel", "delete", "pause"])
    async def test_a_waiting_head_that_is_taken_out_readies_the_next(
        self, h: StoreHarness, action: Cancel | Delete | Pause
    ) -> None:
        head, behind = await h.add_many(2, key=KEY)
        await h.done(action, head.id)
        assert await h.claim_ids() == [behind.id]

    async def test_a_head_that_waits_for_its_retry_and_is_taken_out_readies_the_next(self, h: StoreHarness) -> None:
        head, behind = await h.add_many(2, key=KEY)
        await h.claim_and_settle(Failed(ERROR, retry_in=LONG))
        assert await h.claim() == ()
        await h.done(Cancel(), head.id)
        assert await h.claim_ids() == [behind.id]

    @pytest.mark.parametrize("action", [Cancel(), Delete(), Pause()], ids=["cancel", "delete", "pause"])
    async def test_taking_out_one_that_stands_behind_changes_nothing_for_the_head(
        self, h: StoreHarness, action: Cancel | Delete | Pause
    ) -> None:
        head, middle, last = await h.add_many(3, key=KEY)
        claim = await h.claim_one()
        await h.done(action, middle.id)
        assert await h.claim() == ()
        await h.settle(claim)
        assert (claim.id, await h.claim_ids()) == (head.id, [last.id])

    async def test_a_resumed_job_takes_its_old_place(self, h: StoreHarness) -> None:
        head, middle, last = await h.add_many(3, key=KEY)
        await h.done(Pause(), middle.id)
        claim = await h.claim_one()
        await h.done(Resume(), middle.id)
        assert await h.claim() == ()
        await h.settle(claim)
        assert (claim.id, await h.run_all()) == (head.id, [middle.id, last.id])

    async def test_a_retried_job_waits_for_the_one_that_runs(self, h: StoreHarness) -> None:
        old = await h.in_state(State.FAILED, key=KEY)
        await h.add(key=KEY)
        claim = await h.claim_one()
        await h.done(Retry(), old.id)
        assert await h.claim() == ()
        await h.settle(claim)
        assert await h.claim_ids() == [old.id]

    @feature("A30")
    async def test_a_running_head_that_ends_as_canceled_readies_the_next(self, h: StoreHarness) -> None:
        head, behind = await h.add_many(2, key=KEY)
        claim = await h.claim_one()
        await h.done(Cancel(), head.id)
        assert await h.claim() == ()
        await h.settle(claim, Released("canceled"))
        assert await h.claim_ids() == [behind.id]

    @feature("T16", "A8")
    async def test_many_claimers_never_run_two_jobs_of_a_key_at_once_nor_out_of_order(self, h: StoreHarness) -> None:
        jobs = [job for n in range(60) for job in await h.add_many(1, key=f"k{n % 5}")]
        started: dict[str, list[str]] = {}
        running: Counter[str] = Counter()
        keys = {job.id: job.key or "" for job in jobs}

        async def work(instance: str) -> None:
            for _ in range(200):
                for claim in await h.claim(2, instance):
                    key = keys[claim.id]
                    running[key] += 1
                    assert running[key] == 1
                    started.setdefault(key, []).append(claim.id)
                    await asyncio.sleep(0)
                    running[key] -= 1
                    await h.settle(claim)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(f"i{n}") for n in range(6)))
        for key, ids in started.items():
            assert ids == [job.id for job in jobs if job.key == key]
        assert sum(map(len, started.values())) == 60


class FleetLimits(StoreSuite):
    """Serial queues and limits over all workers together."""

    async def limited(self, h: StoreHarness, limit: int, **fields: Any) -> None:
        """Give the default queue a fleet limit."""
        await h.store.change_queue(ChangeQueue(name=h.queue, create=True, limit=limit))

    async def serial(self, h: StoreHarness) -> None:
        """Make the default queue serial."""
        await h.store.change_queue(ChangeQueue(name=h.queue, create=True, mode=QueueMode.SERIAL))

    @feature("T12", "A8")
    async def test_a_serial_queue_runs_one_job_at_a_time_in_ready_order(self, h: StoreHarness) -> None:
        await self.serial(h)
        plain, urgent = await h.add(), await h.add(priority=5)
        claim = await h.claim_one("i1")
        assert claim.id == urgent.id
        assert await h.claim(instance="i2") == ()
        await h.settle(claim)
        assert await h.claim_ids() == [plain.id]

    @feature("T12")
    async def test_a_retrying_job_does_not_hold_a_serial_queue(self, h: StoreHarness) -> None:
        await self.serial(h)
        await h.add()
        second = await h.add()
        await h.claim_and_settle(Failed(ERROR, retry_in=LONG))
        assert await h.claim_ids() == [second.id]

    @feature("T12", "T19")
    async def test_a_lost_worker_frees_the_serial_queue(self, h: StoreHarness) -> None:
        await self.serial(h)
        job = await h.add()
        await h.claim_one("i1")
        await h.lose()
        assert await h.claim_ids(instance="i2") == [job.id]

    @feature("T13", "A8")
    async def test_a_fleet_limit_is_reached_and_never_exceeded(self, h: StoreHarness) -> None:
        await self.limited(h, 3)
        await h.add_many(10)
        first = [*await h.claim(2, "i1"), *await h.claim(2, "i2")]
        assert len(first) == 3
        assert await h.claim(instance="i3") == ()
        await h.settle(first[0])
        assert len(await h.claim(instance="i3")) == 1

    @feature("A8", "T13", "T12")
    @pytest.mark.parametrize("limit", [1, 3])
    async def test_many_claimers_at_once_reach_a_fleet_limit_and_never_exceed_it(
        self, h: StoreHarness, limit: int
    ) -> None:
        await self.limited(h, limit)
        await h.add_many(60)
        running, done, reached = 0, 0, asyncio.Event()

        async def work(instance: str) -> None:
            nonlocal running, done
            while done < 60:
                claims = await h.claim(2, instance)
                running += len(claims)
                assert running <= limit
                if running == limit:
                    reached.set()
                for claim in claims:
                    await reached.wait()
                    running -= 1
                    done += 1
                    await h.settle(claim)
                await asyncio.sleep(0)

        async with asyncio.timeout(60):
            await asyncio.gather(*(work(f"i{n}") for n in range(6)))
        assert done == 60

    @feature("T13")
    async def test_a_limit_of_one_queue_does_not_bind_another(self, h: StoreHarness) -> None:
        await self.limited(h, 1)
        await h.add_many(2)
        await h.add_many(2, queue="free")
        assert len(await h.claim(queues=(h.queue, "free"))) == 3

    @feature("T13")
    async def test_a_limit_that_is_raised_or_lifted_frees_jobs(self, h: StoreHarness) -> None:
        await self.limited(h, 1)
        await h.add_many(5)
        assert len(await h.claim()) == 1
        await self.limited(h, 3)
        assert len(await h.claim()) == 2
        await h.store.change_queue(ChangeQueue(name=h.queue, limit=None))
        assert len(await h.claim()) == 2

    @feature("T13")
    async def test_a_limit_below_what_runs_stops_new_claims_only(self, h: StoreHarness) -> None:
        await h.add_many(5)
        claims = await h.claim(3)
        await self.limited(h, 1)
        assert await h.claim() == ()
        for claim in claims[:2]:
            await h.settle(claim)
        assert await h.claim() == ()
        await h.settle(claims[2])
        assert len(await h.claim()) == 1

    @feature("T12")
    async def test_a_serial_queue_with_keys_runs_one_at_a_time_and_in_key_order(self, h: StoreHarness) -> None:
        await self.serial(h)
        jobs = [await h.add(key=key) for key in ("a", "a", "b", "a")]
        assert await h.run_all() == [job.id for job in jobs]
