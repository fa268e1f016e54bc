"""An action on all jobs that match a filter: an operation that people can see, and stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import UnknownOperation
from holdfast.job.commands import (
    OPERATION_BATCH,
    REFUSALS_KEPT,
    Action,
    Cancel,
    Delete,
    Edit,
    JobFilter,
    Order,
    Ordered,
    Pause,
    Resume,
    Retry,
    Selection,
)
from holdfast.job.model import OperationState
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness

EVERY = JobFilter()


class BulkControl(StoreSuite):
    """Operations by filter."""

    async def by_filter(self, h: StoreHarness, action: Action, which: JobFilter = EVERY, **more: Any) -> Ordered:
        """Do an action on all that match."""
        order = Order(action=action, selection=Selection(filter=which), who="ann", **more)
        return await h.store.control(order)

    @feature("A14", "A17")
    async def test_an_action_reaches_all_that_match_and_nothing_else(self, h: StoreHarness) -> None:
        mine = await h.add_many(3, task="mine")
        other = await h.add(task="other")
        answer = await self.by_filter(h, Cancel(why="no"), JobFilter(task="mine"))
        assert (answer.matched, answer.done, answer.refused, answer.rulings) == (3, 3, 0, ())
        assert {await h.state(job.id) for job in mine} == {State.CANCELED}
        assert (await h.state(other.id)) is State.QUEUED

    @feature("A14")
    async def test_what_is_refused_is_counted_and_named(self, h: StoreHarness) -> None:
        failed = await h.in_state(State.FAILED)
        done = await h.in_state(State.SUCCEEDED)
        answer = await self.by_filter(h, Retry())
        assert (answer.matched, answer.done, answer.refused) == (2, 1, 1)
        [refusal] = answer.refusals
        assert (refusal.id, "succeeded" in refusal.why) == (done.id, True)
        assert (await h.state(failed.id)) is State.QUEUED

    @feature("A17")
    async def test_more_jobs_than_one_batch_are_all_done_and_the_operation_tells_it(self, h: StoreHarness) -> None:
        total = 2 * OPERATION_BATCH + 500
        await h.add_many(total)
        answer = await self.by_filter(h, Cancel())
        assert (answer.matched, answer.done, answer.refused) == (total, total, 0)
        assert (await h.store.stats()).total(State.CANCELED) == total
        operation = answer.operation
        assert operation is not None
        assert (operation.state, operation.who) == (OperationState.DONE, "ann")
        assert (operation.matched, operation.done, operation.refused) == (total, total, 0)
        assert operation.finished_at == h.clock.now()
        assert await h.store.operations() == [operation]

    @feature("A17")
    async def test_the_first_thousand_refusals_are_kept_and_all_are_counted(self, h: StoreHarness) -> None:
        total = REFUSALS_KEPT + 200
        jobs = await h.add_many(total)
        answer = await self.by_filter(h, Resume())
        assert (answer.done, answer.refused, len(answer.refusals)) == (0, total, REFUSALS_KEPT)
        assert [refusal.id for refusal in answer.refusals] == [job.id for job in jobs[:REFUSALS_KEPT]]

    @feature("A14")
    async def test_a_preview_counts_and_leaves_no_trace(self, h: StoreHarness) -> None:
        await h.add_many(1_500)
        before = await h.all_jobs()
        answer = await self.by_filter(h, Delete(), preview=True)
        assert (answer.matched, answer.done, answer.refused, answer.operation) == (1_500, 0, 0, None)
        assert await h.store.operations() == []
        assert await h.all_jobs() == before

    async def test_a_filter_that_matches_nothing_is_fine(self, h: StoreHarness) -> None:
        await h.add()
        answer = await self.by_filter(h, Cancel(), JobFilter(task="nobody"))
        assert (answer.matched, answer.done, answer.refused) == (0, 0, 0)

    async def test_an_action_that_moves_jobs_out_of_its_filter_still_reaches_all(self, h: StoreHarness) -> None:
        await h.add_many(OPERATION_BATCH + 300)
        answer = await self.by_filter(h, Edit(queue="b"), JobFilter(queue=h.queue))
        assert answer.done == OPERATION_BATCH + 300
        assert await h.store.count(JobFilter(queue=h.queue)) == 0
        back = await self.by_filter(h, Pause(), JobFilter(states=(State.QUEUED,)))
        assert back.done == OPERATION_BATCH + 300

    async def test_jobs_that_came_after_the_order_are_not_touched(self, h: StoreHarness) -> None:
        await h.add_many(OPERATION_BATCH + 300)
        bulk = asyncio.create_task(self.by_filter(h, Cancel()))
        await self.running(h, bulk)
        late = await h.add()
        answer = await bulk
        assert answer.done == OPERATION_BATCH + 300
        assert (await h.state(late.id)) is State.QUEUED

    @feature("A17")
    async def test_operations_are_listed_newest_first(self, h: StoreHarness) -> None:
        await h.add()
        for action in (Pause(), Resume(), Cancel()):
            await self.by_filter(h, action)
            h.advance(1.0)
        operations = await h.store.operations()
        times = [operation.created_at for operation in operations]
        assert (len(times), times) == (3, sorted(times, reverse=True))
        assert b"cancel" in operations[0].action

    @feature("A17")
    async def test_an_operation_can_be_stopped_after_the_batch_it_is_in(self, h: StoreHarness) -> None:
        total = 8 * OPERATION_BATCH
        await h.add_many(total)
        bulk = asyncio.create_task(self.by_filter(h, Cancel()))
        operation_id = await self.running(h, bulk)
        stopped = await h.store.cancel_operation(operation_id, "bob")
        answer = await bulk
        assert stopped.state is OperationState.CANCELED
        assert answer.operation is not None
        assert answer.operation.state is OperationState.CANCELED
        assert (answer.matched, answer.done % OPERATION_BATCH, answer.done < total) == (total, 0, True)
        stats = await h.store.stats()
        assert (stats.total(State.CANCELED), stats.total(State.QUEUED)) == (answer.done, total - answer.done)

    async def running(self, h: StoreHarness, bulk: asyncio.Task[Ordered]) -> str:
        """Wait until an operation shows as running; return its id."""
        while not bulk.done():
            found = [one.id for one in await h.store.operations() if one.state is OperationState.RUNNING]
            if found:
                return found[0]
            await asyncio.sleep(0)
        raise AssertionError("an operation of several batches must let others in between them")

    async def test_stopping_an_operation_that_is_done_changes_nothing(self, h: StoreHarness) -> None:
        await h.add()
        answer = await self.by_filter(h, Cancel())
        assert answer.operation is not None
        stopped = await h.store.cancel_operation(answer.operation.id)
        assert stopped == answer.operation

    async def test_an_unknown_operation_is_refused(self, h: StoreHarness) -> None:
        with pytest.raises(UnknownOperation):
            await h.store.cancel_operation("nobody")
