"""Retention: what ended long ago, or stands behind too many newer ones, goes. What is unfinished never does."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.job.commands import Cancel, ChangeQueue, Delete, Failed, Retry, Succeeded, Verdict
from holdfast.job.model import OnConflict
from holdfast.job.state import FINAL, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, StoreHarness

DAY = 86_400.0


class Retention(StoreSuite):
    """Pruning, as a part of rescue."""

    async def pruned(self, h: StoreHarness) -> int:
        """Rescue until there is no more; return how many jobs were purged."""
        total = 0
        while True:
            answer = await h.store.rescue()
            total += answer.pruned
            if not answer.more:
                return total

    async def keep(self, h: StoreHarness, **fields: Any) -> None:
        """Change the retention of the default queue."""
        await h.store.change_queue(ChangeQueue(**{"name": h.queue, "create": True, **fields}))

    @feature("B33")
    async def test_by_default_succeeded_jobs_are_kept_a_day_and_the_others_14_days(self, h: StoreHarness) -> None:
        jobs = {state: await h.in_state(state) for state in sorted(FINAL)}
        h.advance(DAY - 1.0)
        assert await self.pruned(h) == 0
        h.advance(2.0)
        assert await self.pruned(h) == 1
        assert await h.store.jobs([jobs[State.SUCCEEDED].id]) == [None]
        h.advance(13 * DAY - 2.0)
        assert await self.pruned(h) == 0
        h.advance(2.0)
        assert await self.pruned(h) == 2
        assert await h.all_jobs() == []
        stats = await h.store.stats()
        assert sum(stats.total(state) for state in State) == 0

    @feature("B33")
    @pytest.mark.parametrize("state", [state for state in State if state not in FINAL])
    async def test_unfinished_jobs_are_never_purged(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        await self.keep(h, keep_succeeded=0.0, keep_failed=0.0, keep_succeeded_count=0, keep_failed_count=0)
        h.advance(1.0)
        assert await self.pruned(h) == 0
        assert (await h.job(job.id)).id == job.id

    @feature("B33")
    async def test_a_limit_by_count_purges_those_that_ended_first(self, h: StoreHarness) -> None:
        await self.keep(h, keep_succeeded_count=2, keep_failed_count=1)
        jobs = await h.add_many(8)
        claims = await h.claim()
        for n in (7, 0, 3, 1):
            h.advance(1.0)
            await h.settle(claims[n], Succeeded(b"1"))
        for n in (6, 2):
            h.advance(1.0)
            await h.settle(claims[n], Failed(ERROR, retryable=False))
        assert await self.pruned(h) == 3
        left = {job.id for job in await h.all_jobs()}
        assert left == {jobs[n].id for n in (3, 1, 2, 4, 5)}

    @feature("B33")
    async def test_none_keeps_for_ever(self, h: StoreHarness) -> None:
        await self.keep(h, keep_succeeded=None, keep_succeeded_count=None, keep_failed=None, keep_failed_count=None)
        for state in sorted(FINAL):
            await h.in_state(state)
        h.advance(10_000 * DAY)
        assert await self.pruned(h) == 0
        assert len(await h.all_jobs()) == 3

    @feature("B33")
    async def test_each_queue_has_its_own_retention(self, h: StoreHarness) -> None:
        await h.in_state(State.SUCCEEDED)
        other = await h.in_state(State.SUCCEEDED, queue="other")
        await h.store.change_queue(ChangeQueue(name="other", keep_succeeded=None))
        h.advance(2 * DAY)
        assert await self.pruned(h) == 1
        assert [job.id for job in await h.all_jobs()] == [other.id]

    @feature("T33", "B33")
    async def test_hidden_jobs_go_with_the_others(self, h: StoreHarness) -> None:
        job = await h.in_state(State.SUCCEEDED)
        await h.done(Delete(), job.id)
        h.advance(2 * DAY)
        assert await self.pruned(h) == 1
        assert await h.all_jobs() == []

    @feature("B33", "G20")
    async def test_a_job_that_was_retried_counts_from_its_new_end(self, h: StoreHarness) -> None:
        job = await h.in_state(State.FAILED)
        h.advance(13 * DAY)
        await h.done(Retry(), job.id)
        h.advance(2 * DAY)
        assert await self.pruned(h) == 0
        await h.claim_and_settle(Failed(ERROR, retryable=False))
        h.advance(13 * DAY)
        assert await self.pruned(h) == 0
        h.advance(2 * DAY)
        assert await self.pruned(h) == 1

    @feature("B33")
    async def test_more_than_one_batch_goes_in_steps(self, h: StoreHarness) -> None:
        await self.keep(h, keep_failed=0.0)
        for job in await h.add_many(25):
            await h.done(Cancel(), job.id)
        h.advance(1.0)
        first = await h.store.rescue(10)
        assert (first.pruned, first.more) == (10, True)
        assert await self.pruned(h) == 15

    @feature("B33", "BW24")
    async def test_a_job_answers_for_its_unique_key_as_long_as_its_window_is_open(self, h: StoreHarness) -> None:
        await self.keep(h, keep_succeeded=1.0)
        job = await h.add(unique="u", unique_window=600.0)
        await h.claim_and_settle()
        h.advance(10.0)
        await self.pruned(h)
        [answer] = await h.store.enqueue([h.new(unique="u", on_conflict=OnConflict.KEEP)])
        assert (answer.verdict, answer.id) == (Verdict.KEPT, job.id)
        h.advance(600.0)
        assert await self.pruned(h) == 1
        [answer] = await h.store.enqueue([h.new(unique="u", on_conflict=OnConflict.KEEP)])
        assert answer.verdict is Verdict.NEW

    @feature("B33")
    async def test_a_purged_job_leaves_its_key_and_id_free(self, h: StoreHarness) -> None:
        await h.add(id="again", key="k", unique="u")
        await h.claim_and_settle()
        h.advance(2 * DAY)
        assert await self.pruned(h) == 1
        assert (await h.add(id="again", key="k", unique="u")).state is State.QUEUED
        assert await h.claim_ids() == ["again"]
