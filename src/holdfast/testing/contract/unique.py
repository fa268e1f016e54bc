"""Unique keys: who holds one, for how long, and what an enqueue does that meets it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import DuplicateJob
from holdfast.job.commands import ChangeQueue, Delete, Enqueued, Failed, Pause, Released, Retry, Snoozed, Verdict
from holdfast.job.model import Job, OnConflict
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import FINAL, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, StoreHarness

KEY = "report:today"
UNFINISHED = [state for state in State if state not in FINAL]
#: The conflict actions that change a waiting job.
CHANGING = (OnConflict.REPLACE, OnConflict.RESCHEDULE, OnConflict.RAISE_PRIORITY)


async def meet(h: StoreHarness, on_conflict: OnConflict, **fields: Any) -> Enqueued:
    """Enqueue another job with the unique key."""
    [answer] = await h.store.enqueue([h.new(unique=KEY, on_conflict=on_conflict, **fields)])
    return answer


class UniqueKeys(StoreSuite):
    """At most one holder, for the window."""

    @feature("B9")
    @pytest.mark.parametrize("state", UNFINISHED)
    async def test_an_unfinished_job_holds_its_key(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state, unique=KEY)
        with pytest.raises(DuplicateJob) as caught:
            await h.store.enqueue([h.new(), h.new(unique=KEY)])
        assert caught.value.taken == {KEY: job.id}
        assert await h.all_jobs() == [job]

    @pytest.mark.parametrize("state", sorted(FINAL))
    async def test_a_job_that_ended_gives_its_key_back(self, h: StoreHarness, state: State) -> None:
        await h.in_state(state, unique=KEY)
        assert (await meet(h, OnConflict.ERROR)).verdict is Verdict.NEW

    async def test_a_waiting_job_that_is_deleted_gives_its_key_back(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY)
        await h.done(Delete(), job.id)
        assert (await meet(h, OnConflict.ERROR)).verdict is Verdict.NEW

    async def test_a_window_in_time_outlives_the_job_and_then_ends(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY, unique_window=60.0)
        await h.claim_and_settle()
        h.advance(59.0)
        assert (await meet(h, OnConflict.KEEP, unique_window=60.0)).id == job.id
        h.advance(2.0)
        again = await meet(h, OnConflict.KEEP, unique_window=60.0)
        assert (again.verdict, again.id != job.id) == (Verdict.NEW, True)

    @pytest.mark.parametrize("ending", [Failed(ERROR), Snoozed(5.0), Released("stop")])
    async def test_a_job_that_will_run_again_keeps_its_key(
        self, h: StoreHarness, ending: Failed | Snoozed | Released
    ) -> None:
        job = await h.add(unique=KEY)
        await h.claim_and_settle(ending)
        answer = await meet(h, OnConflict.KEEP)
        assert (answer.verdict, answer.id) == (Verdict.KEPT, job.id)

    async def test_keys_of_different_names_do_not_meet(self, h: StoreHarness) -> None:
        await h.add(unique=KEY)
        assert (await h.add(unique=KEY + " ")).unique == KEY + " "
        assert (await h.add(unique=KEY.upper())).unique == KEY.upper()

    async def test_two_of_one_batch_meet_as_well(self, h: StoreHarness) -> None:
        with pytest.raises(DuplicateJob):
            await h.store.enqueue([h.new(unique=KEY), h.new(unique=KEY)])
        assert await h.all_jobs() == []
        answers = await h.store.enqueue([h.new(unique=KEY, on_conflict=OnConflict.KEEP) for _ in range(3)])
        assert [answer.verdict for answer in answers] == [Verdict.NEW, Verdict.KEPT, Verdict.KEPT]
        assert len({answer.id for answer in answers}) == 1

    async def test_a_queue_comes_into_being_though_its_only_job_is_there_already(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY)
        assert (await meet(h, OnConflict.KEEP, queue="other")).id == job.id
        assert (await h.store.change_queue(ChangeQueue(name="other", paused=True, create=False))).paused

    async def test_a_batch_that_meets_itself_late_stores_nothing(self, h: StoreHarness) -> None:
        batch = [h.new(unique=KEY, on_conflict=OnConflict.KEEP), h.new(unique=KEY, on_conflict=OnConflict.ERROR)]
        with pytest.raises(DuplicateJob) as caught:
            await h.store.enqueue([h.new(), *batch])
        assert caught.value.taken == {KEY: batch[0].id}
        assert await h.all_jobs() == []
        assert (await h.store.stats()).queues == {}

    async def test_an_unfinished_job_holds_its_key_also_when_its_window_is_over(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY, unique_window=60.0)
        h.advance(61.0)
        assert (await meet(h, OnConflict.KEEP)).id == job.id

    @pytest.mark.parametrize("on_conflict", list(OnConflict))
    async def test_of_many_who_enqueue_one_key_at_once_exactly_one_gets_a_new_job(
        self, h: StoreHarness, on_conflict: OnConflict
    ) -> None:
        async def one(n: int) -> str:
            try:
                return (await meet(h, on_conflict, priority=n)).id
            except DuplicateJob as error:
                return error.taken[KEY]

        ids = set(await asyncio.gather(*(one(n) for n in range(25))))
        assert [job.id for job in await h.all_jobs()] == list(ids)

    async def test_a_job_whose_key_another_holds_cannot_be_retried(self, h: StoreHarness) -> None:
        old = await h.in_state(State.FAILED, unique=KEY)
        new = await meet(h, OnConflict.ERROR)
        ruling = await h.order(Retry(), old.id)
        assert (ruling.done, new.id in ruling.why) == (False, True)
        assert await h.job(old.id) == old
        await h.claim_and_settle()
        assert (await h.order(Retry(), old.id)).done

    async def test_a_retried_job_holds_its_key_again(self, h: StoreHarness) -> None:
        old = await h.in_state(State.FAILED, unique=KEY)
        await h.done(Retry(), old.id)
        assert (await meet(h, OnConflict.KEEP)).id == old.id


class ConflictActions(StoreSuite):
    """What becomes of the job that holds the key."""

    async def test_keep_leaves_it_as_it_is(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY, payload=b"1")
        answer = await meet(h, OnConflict.KEEP, payload=b"2", priority=9, delay=60.0)
        assert (answer.verdict, answer.job) == (Verdict.KEPT, job)
        assert await h.all_jobs() == [job]

    async def test_replace_gives_it_the_new_payload_policy_and_time(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY, payload=b"1", delay=600.0)
        policy = RetryPolicy(max_attempts=2)
        answer = await meet(h, OnConflict.REPLACE, payload=b"2", retry=policy, delay=60.0, timeout=9.0)
        stored = await h.job(job.id)
        assert (answer.verdict, answer.job) == (Verdict.REPLACED, stored)
        assert (stored.payload, stored.retry, stored.timeout) == (b"2", policy, 9.0)
        assert (stored.state, stored.run_at, stored.seq) == (State.SCHEDULED, h.clock.now() + 60.0, job.seq)

    async def test_a_replaced_job_that_is_due_now_is_ready(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY, delay=600.0)
        assert (await meet(h, OnConflict.REPLACE)).job.state is State.QUEUED
        assert await h.claim_ids() == [job.id]

    async def test_reschedule_moves_its_time_alone(self, h: StoreHarness) -> None:
        job = await h.add(unique=KEY, payload=b"1")
        answer = await meet(h, OnConflict.RESCHEDULE, payload=b"2", delay=60.0)
        assert (answer.verdict, answer.job.state) == (Verdict.RESCHEDULED, State.SCHEDULED)
        assert (answer.job.payload, answer.job.run_at) == (b"1", h.clock.now() + 60.0)
        assert await h.claim() == ()
        h.advance(60.0)
        assert await h.claim_ids() == [job.id]

    async def test_raise_priority_takes_the_higher_of_both(self, h: StoreHarness) -> None:
        plain = await h.add()
        job = await h.add(unique=KEY, priority=-1)
        answer = await meet(h, OnConflict.RAISE_PRIORITY, priority=5)
        assert (answer.verdict, answer.job.priority) == (Verdict.RAISED, 5)
        assert (await meet(h, OnConflict.RAISE_PRIORITY, priority=2)).job.priority == 5
        assert await h.claim_ids() == [job.id, plain.id]

    @pytest.mark.parametrize("on_conflict", CHANGING)
    async def test_a_running_job_is_kept_as_it_is(self, h: StoreHarness, on_conflict: OnConflict) -> None:
        job = await h.in_state(State.RUNNING, unique=KEY, payload=b"1")
        answer = await meet(h, on_conflict, payload=b"2", priority=9, delay=60.0)
        assert (answer.verdict, answer.job) == (Verdict.KEPT, job)
        assert await h.job(job.id) == job

    @pytest.mark.parametrize("on_conflict", CHANGING)
    async def test_a_held_job_stays_held(self, h: StoreHarness, on_conflict: OnConflict) -> None:
        job = await h.add(unique=KEY)
        await h.done(Pause(), job.id)
        await meet(h, on_conflict, priority=9)
        assert (await h.state(job.id)) is State.PAUSED
        assert await h.claim() == ()

    @pytest.mark.parametrize("on_conflict", CHANGING)
    async def test_a_job_that_holds_the_key_after_its_end_is_kept(
        self, h: StoreHarness, on_conflict: OnConflict
    ) -> None:
        await h.add(unique=KEY, unique_window=600.0, payload=b"1")
        await h.claim_and_settle()
        [job] = await h.all_jobs()
        answer = await meet(h, on_conflict, payload=b"2")
        assert (answer.verdict, answer.job) == (Verdict.KEPT, job)
        assert await h.all_jobs() == [job]

    async def test_a_conflict_touches_no_other_job_of_the_batch(self, h: StoreHarness) -> None:
        held = await h.add(unique=KEY)
        batch = [h.new(id="x"), h.new(unique=KEY, on_conflict=OnConflict.KEEP), h.new(id="y")]
        answers = await h.store.enqueue(batch)
        assert [answer.id for answer in answers] == ["x", held.id, "y"]
        jobs: list[Job] = await h.all_jobs()
        assert [job.id for job in jobs] == [held.id, "x", "y"]
