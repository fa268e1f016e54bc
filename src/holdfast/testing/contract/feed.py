"""The contract of `Feed`: what an exporter is told by a store. An adapter inherits it and supplies `store_factory`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from holdfast.feed import SPARED, Change
from holdfast.job.commands import ChangeQueue, Delete, Failed, Replay, Retry
from holdfast.job.model import Job
from holdfast.job.state import End, State
from holdfast.testing.contract.base import StoreSuite
from holdfast.testing.contract.harness import ERROR, LONG, StoreHarness

if TYPE_CHECKING:
    from holdfast.feed import Feed

feature = pytest.mark.feature


def feed(h: StoreHarness) -> Feed:
    """The store as an exporter sees it."""
    return cast("Feed", h.store)


async def told(h: StoreHarness, limit: int = 1_000) -> dict[str, Change]:
    """Take and acknowledge all that waits; return the newest change of each job, by its id or its number."""
    found: dict[str, Change] = {}
    while True:
        changes = await feed(h).changes(limit)
        found |= {change.job.id if change.job else str(change.seq): change for change in changes.items}
        if changes.receipt:
            await feed(h).exported(changes.receipt)
        if not changes.more:
            return found


class FeedContract(StoreSuite):
    """What has ended is told until it was acknowledged, and not again."""

    async def test_what_ends_is_told_until_it_is_acknowledged(self, h: StoreHarness) -> None:
        await feed(h).start_export()
        await h.make(3)
        one = await h.claim_one()
        await h.settle(one)
        for _ in range(2):
            changes = await feed(h).changes(10)
            assert [change.job.state for change in changes.items if change.job] == [State.SUCCEEDED]
        assert changes.items[0].job == await h.job(one.id)
        assert (await feed(h).export_state()).waiting == 1
        await feed(h).exported(changes.receipt)
        assert (await feed(h).changes(10)).items == ()
        assert (await feed(h).export_state()).waiting == 0
        await feed(h).exported(changes.receipt)  # of long ago
        await h.settle(await h.claim_one())
        await feed(h).exported(changes.receipt)
        assert len(await told(h)) == 1

    async def test_nothing_is_noted_without_an_exporter_and_what_ended_before_is_told_when_one_comes(
        self, h: StoreHarness
    ) -> None:
        jobs = [await h.in_state(state) for state in (State.SUCCEEDED, State.FAILED, State.CANCELED)]
        await h.in_state(State.SCHEDULED)
        retrying = await h.in_state(State.RETRYING)
        assert not (await feed(h).export_state()).on
        assert (await feed(h).changes(10)).items == ()
        await feed(h).start_export()
        assert (await feed(h).export_state()).on
        found = await told(h, 2)
        assert set(found) == {job.id for job in (*jobs, retrying)}
        await feed(h).start_export()
        assert await told(h) == {}
        await feed(h).stop_export()
        await h.in_state(State.SUCCEEDED)
        assert (await feed(h).changes(10)).items == ()

    @pytest.mark.parametrize("limit", [1, 2, 7])
    async def test_batches_leave_nothing_out_and_tell_nothing_twice(self, h: StoreHarness, limit: int) -> None:
        await feed(h).start_export()
        ids = await h.make(12)
        for claim in await h.claim(12):
            await h.settle(claim)
        seen: list[str] = []
        while (changes := await feed(h).changes(limit)).receipt:
            seen += [change.job.id for change in changes.items if change.job]
            await feed(h).exported(changes.receipt)
        assert sorted(seen) == sorted(ids)

    async def test_versions_of_a_job_grow_with_its_changes(self, h: StoreHarness) -> None:
        await feed(h).start_export()
        job = await h.in_state(State.FAILED)
        versions = [(await told(h))[job.id].version]
        await h.done(Retry(), job.id)
        again = (await told(h))[job.id]
        assert again.job is not None
        assert (again.job.state, [one.end for one in again.job.attempts]) == (State.QUEUED, [End.FAILED])
        await h.settle(await h.claim_one(), Failed(ERROR, retryable=False))
        versions += [again.version, (await told(h))[job.id].version]
        await h.done(Replay(), job.id)
        versions.append((await told(h))[job.id].version)
        await h.done(Delete(), job.id)
        last = (await told(h))[job.id]
        assert last.job is not None
        assert last.job.deleted_at == h.clock.now()
        assert versions == sorted(set(versions))
        assert last.version > versions[-1]

    async def test_an_attempt_that_ends_without_its_job_is_told_and_a_claim_is_not(self, h: StoreHarness) -> None:
        await feed(h).start_export()
        [job_id] = await h.make(1)
        await h.settle(await h.claim_one(), Failed(ERROR, retry_in=0.0))
        change = (await told(h))[job_id]
        assert change.job is not None
        assert [one.end for one in change.job.attempts] == [End.FAILED]
        await h.claim_one()
        assert await told(h) == {}
        await h.lose()
        assert set(await told(h)) == {job_id}

    async def test_a_job_that_a_person_purged_is_told_as_gone(self, h: StoreHarness) -> None:
        await feed(h).start_export()
        job = await h.in_state(State.SUCCEEDED)
        await told(h)
        await h.done(Delete(hard=True), job.id)
        assert (await told(h))[str(job.seq)].job is None

    async def test_retention_spares_what_waits_for_seven_days_and_tells_what_it_dropped(self, h: StoreHarness) -> None:
        await feed(h).start_export()
        await h.store.change_queue(ChangeQueue(name=h.queue, keep_succeeded=60.0, create=True))
        first = await h.in_state(State.SUCCEEDED)
        h.advance(61.0)
        await h.store.rescue()
        assert await h.job(first.id) == first
        assert set(await told(h)) == {first.id}
        await h.store.rescue()
        assert await h.store.jobs([first.id]) == [None]
        assert await told(h) == {}  # what retention lets go stays where it was exported to
        second = await h.in_state(State.SUCCEEDED)
        h.advance(SPARED - 1.0)
        await h.store.rescue()
        assert await h.job(second.id) == second
        h.advance(2.0)
        await h.store.rescue()
        assert await h.store.jobs([second.id]) == [None]
        assert (await feed(h).export_state()).dropped == 1

    async def test_records_of_jobs_that_ran_elsewhere_are_told(self, h: StoreHarness) -> None:
        await feed(h).start_export()
        record = getattr(h.store, "record_jobs", None)
        if record is None:
            from holdfast.job.commands import RecordJobs

            async def record(records: list[Job]) -> None:
                await cast("Any", h.store).run(RecordJobs(tuple(records)))

        await record(
            [Job(seq=0, id="x", task="t", state=State.RUNNING), Job(seq=0, id="y", task="t", state=State.FAILED)]
        )
        h.advance(LONG)
        assert "y" in await told(h)
