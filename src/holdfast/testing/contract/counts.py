"""Counts: exact up to a bound, and of more marked where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.job.commands import Cancel, JobCount, JobFilter, Order, Pause, Selection, Succeeded
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite

if TYPE_CHECKING:
    from holdfast.testing.contract.harness import StoreHarness

#: Up to how many jobs a count is exact in these tests.
EXACT = 10


def check(found: JobCount, true: int) -> None:
    """A count is right, or it is of many, says that it is an estimate, and is a good one."""
    if not found.estimated:
        assert found == true
        return
    assert true > EXACT
    assert 0.5 * true <= found <= 2 * true


class Counts(StoreSuite):
    """What costs a walk is counted to a bound; behind it an estimate is marked, and never shown as a count."""

    async def test_counts_up_to_the_bound_are_exact(self, h: StoreHarness) -> None:
        h.count_exactly(EXACT)
        await h.add_many(EXACT)
        for which in (JobFilter(), JobFilter(queue=h.queue), JobFilter(created_after=0.0), JobFilter(task="t")):
            found = await h.store.count(which)
            assert (found, found.estimated) == (EXACT, False)
        stats = await h.store.stats()
        assert (stats.queues[h.queue][State.QUEUED], stats.estimated) == (EXACT, {})

    async def test_counts_of_more_are_right_or_marked(self, h: StoreHarness) -> None:
        h.count_exactly(EXACT)
        for _ in range(10):
            await h.add_many(20, task="many")
            await h.add_many(1, task="few", queue="rare")
        for claim in await h.claim(60):
            await h.settle(claim, Succeeded(b"1"))
        for which, true in (
            (JobFilter(), 210),
            (JobFilter(queue=h.queue), 200),
            (JobFilter(states=(State.QUEUED,)), 150),
            (JobFilter(states=(State.QUEUED,), queue=h.queue), 140),
            (JobFilter(states=(State.SUCCEEDED,)), 60),
            (JobFilter(created_after=0.0), 210),
            (JobFilter(deleted=True), 210),
            (JobFilter(queue="rare"), 10),
            (JobFilter(task="few", states=(State.QUEUED,)), 10),
        ):
            check(await h.store.count(which), true)
        ended = await h.store.count(JobFilter(states=(State.SUCCEEDED,), queue=h.queue))
        assert (ended, ended.estimated) == (60, False)  # these are kept, and cost nothing
        stats = await h.store.stats()
        check(stats.count(h.queue, State.QUEUED), 140)
        check(stats.total(State.QUEUED), 150)
        check(stats.total(State.SUCCEEDED), 60)

    async def test_an_action_by_filter_is_previewed_with_the_mark_and_counts_what_it_did(self, h: StoreHarness) -> None:
        h.count_exactly(EXACT)
        await h.add_many(150)
        held = await h.add_many(5)
        for job in held:
            await h.order(Pause(), job.id)
        which = Selection(filter=JobFilter(queue=h.queue, created_after=0.0))
        seen = await h.store.control(Order(action=Cancel(), selection=which, preview=True))
        check(JobCount(seen.matched, estimated=seen.estimated), 155)
        assert seen.estimated == (await h.store.count(JobFilter(queue=h.queue, created_after=0.0))).estimated
        done = await h.store.control(Order(action=Cancel(), selection=which, who="ann"))
        assert (done.matched, done.done, done.refused, done.estimated) == (155, 155, 0, False)
        [operation] = await h.store.operations()
        assert (operation.matched, operation.done, operation.estimated) == (155, 155, False)
        check(await h.store.count(JobFilter(states=(State.CANCELED,))), 155)
