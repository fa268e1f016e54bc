"""How jobs come in: kept as they were sent, in order, once, all of a batch or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import DuplicateJob, TooLarge
from holdfast.job.commands import ENQUEUE_BYTES_MAX, ENQUEUE_JOBS_MAX, OnDuplicate, Succeeded, Verdict
from holdfast.job.model import NewJob, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness

#: Fields of a NewJob that the stored job must show unchanged.
_KEPT = tuple(name for name in NewJob.__struct_fields__ if name not in ("own_id", "run_at", "delay", "on_conflict"))


class Intake(StoreSuite):
    """Enqueue: content, times, order of claims."""

    @feature("T8", "B2", "A11")
    async def test_a_job_is_kept_exactly_as_it_was_sent(self, h: StoreHarness) -> None:
        sent = h.new(
            task="mail.welcome",
            queue="mail",
            payload=b'{"a":[1,2.5,{"b":null}],"c":"\xc3\xa9"}',
            priority=7,
            retry=RetryPolicy(max_attempts=3, base=1.0, factor=3.0, cap=60.0),
            timeout=12.5,
            key="user:42",
            on_wait=OnWait.PASS,
            unique="welcome:42",
            unique_window=60.0,
            tags=("a", "b"),
            headers=b'{"trace":"x"}',
            replay_of="an-older-one",
        )
        [answer] = await h.store.enqueue([sent])
        stored = await h.job(sent.id)
        assert answer.verdict is Verdict.NEW
        assert answer.job == stored
        assert {name: getattr(stored, name) for name in _KEPT} == {name: getattr(sent, name) for name in _KEPT}
        now = h.clock.now()
        assert (stored.created_at, stored.run_at, stored.queued_at) == (now, now, now)
        assert (stored.state, stored.attempt, stored.token, stored.last) == (State.QUEUED, 0, 0, None)

    @feature("T8")
    async def test_the_claim_carries_the_whole_job(self, h: StoreHarness) -> None:
        job = await h.add(payload=b"[1]", headers=b'{"a":"b"}', tags=("x",), timeout=3.0)
        claim = await h.claim_one()
        assert (claim.item.id, claim.item.payload, claim.item.headers) == (job.id, b"[1]", b'{"a":"b"}')
        assert (claim.item.tags, claim.item.timeout, claim.item.retry) == (("x",), 3.0, job.retry)
        assert (claim.item.attempt, claim.item.token) == (claim.attempt, claim.token)

    @feature("B45")
    async def test_answers_come_in_the_order_of_the_batch_and_acceptance_is_that_order(self, h: StoreHarness) -> None:
        first, second = await h.add_many(30), await h.add_many(30)
        seqs = [job.seq for job in first + second]
        assert seqs == sorted(set(seqs))
        assert [job.id for job in await h.all_jobs()] == [job.id for job in first + second]

    async def test_an_empty_batch_is_fine(self, h: StoreHarness) -> None:
        assert await h.store.enqueue([]) == []

    @feature("T26", "B10")
    async def test_the_order_of_claims_is_priority_then_time_then_acceptance(self, h: StoreHarness) -> None:
        rows: dict[str, dict[str, Any]] = {
            "late": {"delay": 9.0},
            "plain": {"delay": 5.0},
            "plain twin": {"delay": 5.0},
            "high": {"delay": 9.0, "priority": 1},
            "highest": {"delay": 10.0, "priority": 100},
            "low": {"priority": -1, "delay": 1.0},
            "lowest": {"priority": -100},
        }
        await h.store.enqueue([h.new(id=name, **fields) for name, fields in rows.items()])
        h.advance(10.0)
        wanted = ["highest", "high", "plain", "plain twin", "late", "low", "lowest"]
        assert await h.claim_ids(3) == wanted[:3]
        assert await h.claim_ids() == wanted[3:]

    @feature("T26", "BW21")
    async def test_a_promoted_job_of_higher_priority_overtakes(self, h: StoreHarness) -> None:
        plain = await h.add()
        urgent = await h.add(priority=5, delay=10.0)
        h.advance(10.0)
        assert await h.claim_ids() == [urgent.id, plain.id]

    @feature("G19", "A4")
    async def test_a_time_that_has_passed_means_now_and_overtakes_nobody(self, h: StoreHarness) -> None:
        now = h.clock.now()
        first, job = await h.add(), await h.add(run_at=now - 60.0)
        assert (job.state, job.run_at) == (State.QUEUED, now)
        assert await h.claim_ids() == [first.id, job.id]
        later = await h.add(run_at=now + 60.0)
        assert (later.state, later.run_at, later.queued_at) == (State.SCHEDULED, now + 60.0, None)
        delayed = await h.add(delay=5.0)
        assert (delayed.state, delayed.run_at) == (State.SCHEDULED, now + 5.0)

    @feature("T22")
    async def test_a_clock_that_steps_back_makes_no_new_job_wait(self, h: StoreHarness) -> None:
        await h.add()
        await h.claim_and_settle()
        h.clock.step(-86_400.0)
        job = await h.add()
        assert await h.claim_ids() == [job.id]

    @feature("T10")
    async def test_queues_are_claimed_in_the_order_in_which_they_were_asked_for(self, h: StoreHarness) -> None:
        b, a = await h.add(queue="b"), await h.add(queue="a")
        await h.add(queue="other")
        assert await h.claim_ids(queues=("a", "b")) == [a.id, b.id]
        assert await h.claim_ids(queues=("a", "b")) == []

    @feature("B45")
    async def test_a_batch_may_hold_the_documented_number_of_jobs_and_not_one_more(self, h: StoreHarness) -> None:
        assert len(await h.add_many(ENQUEUE_JOBS_MAX)) == ENQUEUE_JOBS_MAX
        with pytest.raises(TooLarge) as caught:
            await h.store.enqueue([h.new() for _ in range(ENQUEUE_JOBS_MAX + 1)])
        assert (caught.value.found, caught.value.limit) == (ENQUEUE_JOBS_MAX + 1, ENQUEUE_JOBS_MAX)
        assert (await h.store.stats()).total(State.QUEUED) == ENQUEUE_JOBS_MAX

    @feature("B45")
    async def test_a_batch_beyond_the_documented_bytes_is_refused_whole(self, h: StoreHarness) -> None:
        part = b'"' + b"x" * (ENQUEUE_BYTES_MAX // 8) + b'"'
        with pytest.raises(TooLarge):
            await h.store.enqueue([h.new(payload=part) for _ in range(8)])
        assert await h.all_jobs() == []
        await h.store.enqueue([h.new(payload=part) for _ in range(7)])
        assert len(await h.all_jobs()) == 7


class Duplicates(StoreSuite):
    """Ids are taken once."""

    @feature("A1", "B9")
    async def test_an_id_of_the_callers_that_is_taken_refuses_the_whole_batch(self, h: StoreHarness) -> None:
        await h.store.enqueue([h.new(id="order-1", own_id=True)])
        with pytest.raises(DuplicateJob) as caught:
            await h.store.enqueue([h.new(), h.new(id="order-1", own_id=True), h.new()])
        assert caught.value.taken == {"order-1": "order-1"}
        assert [job.id for job in await h.all_jobs()] == ["order-1"]

    @feature("A1")
    async def test_an_id_that_stands_twice_in_one_batch_refuses_it(self, h: StoreHarness) -> None:
        with pytest.raises(DuplicateJob):
            await h.store.enqueue([h.new(id="a", own_id=True), h.new(id="a", own_id=True)])
        assert await h.all_jobs() == []

    @feature("B9", "BW13")
    async def test_a_duplicate_can_be_reported_and_the_rest_is_stored(self, h: StoreHarness) -> None:
        [first] = await h.store.enqueue([h.new(id="order-1", own_id=True, payload=b"1")])
        twin = h.new(id="order-1", own_id=True, payload=b"2")
        answers = await h.store.enqueue([h.new(id="x"), twin, h.new(id="y")], on_duplicate=OnDuplicate.REPORT)
        assert [answer.verdict for answer in answers] == [Verdict.NEW, Verdict.DUPLICATE, Verdict.NEW]
        assert answers[1].job == first.job
        assert [job.id for job in await h.all_jobs()] == ["order-1", "x", "y"]

    @feature("B9")
    async def test_a_duplicate_inside_one_batch_can_be_reported(self, h: StoreHarness) -> None:
        twins = [h.new(id="a", own_id=True, payload=payload) for payload in (b"1", b"2")]
        assert await h.reported(*twins) == [(Verdict.NEW, "a"), (Verdict.DUPLICATE, "a")]
        assert (await h.job("a")).payload == b"1"

    @feature("B9", "HW13")
    @pytest.mark.parametrize("state", list(State))
    async def test_an_id_is_known_in_every_state(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state, id="known")
        with pytest.raises(DuplicateJob):
            await h.store.enqueue([h.new(id="known", own_id=True)])
        assert await h.reported(h.new(id="known", own_id=True)) == [(Verdict.DUPLICATE, "known")]
        assert await h.job("known") == job

    @feature("B48", "B9")
    @pytest.mark.parametrize("state", list(State))
    async def test_a_repeated_enqueue_with_an_engine_made_id_returns_the_first_job(
        self, h: StoreHarness, state: State
    ) -> None:
        job = await h.in_state(state, id="made-by-the-client")
        [answer] = await h.store.enqueue([h.new(id="made-by-the-client")])
        assert (answer.verdict, answer.job) == (Verdict.DUPLICATE, job)
        assert await h.all_jobs() == [job]

    @feature("B9", "A1")
    async def test_of_many_who_enqueue_one_id_at_once_exactly_one_wins(self, h: StoreHarness) -> None:
        async def one(n: int) -> bool:
            try:
                await h.store.enqueue([h.new(id=f"extra-{n}"), h.new(id="wanted", own_id=True)])
            except DuplicateJob:
                return False
            return True

        won = await asyncio.gather(*(one(n) for n in range(25)))
        assert sum(won) == 1
        assert sorted(job.id for job in await h.all_jobs()) == [f"extra-{won.index(True)}", "wanted"]

    @feature("B45")
    async def test_many_batches_at_once_are_all_stored_and_each_in_its_order(self, h: StoreHarness) -> None:
        batches = await asyncio.gather(*(h.add_many(20) for _ in range(10)))
        stored = [job.id for job in await h.all_jobs()]
        assert sorted(stored) == sorted(job.id for batch in batches for job in batch)
        for batch in batches:
            places = [stored.index(job.id) for job in batch]
            assert places == sorted(places)

    async def test_unknown_ids_are_read_as_none_in_their_place(self, h: StoreHarness) -> None:
        job = await h.add()
        assert await h.store.jobs(["nobody", job.id, "nobody"]) == [None, job, None]
        await h.claim_and_settle(Succeeded(b"1"))
        assert (await h.store.jobs([job.id]))[0] == await h.job(job.id)
