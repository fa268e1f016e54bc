"""Queues come into being at their first job; they can be paused, changed and, when empty, forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ConfigError, Conflict, UnknownQueue
from holdfast.job.commands import ChangeQueue
from holdfast.job.model import Queue, QueueMode
from holdfast.job.state import FINAL, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness


async def queue(h: StoreHarness, name: str) -> Queue:
    """Return the queue of that name."""
    return next(found for found in await h.store.queues() if found.name == name)


class Queues(StoreSuite):
    """Policy of queues."""

    @feature("T12", "T13")
    async def test_a_queue_comes_into_being_at_its_first_job_with_the_documented_defaults(
        self, h: StoreHarness
    ) -> None:
        assert await h.store.queues() == []
        await h.add(queue="mail")
        found = await queue(h, "mail")
        now = h.clock.now()
        assert found == Queue(name="mail", created_at=now, updated_at=now)

    async def test_queues_are_listed_by_name(self, h: StoreHarness) -> None:
        for name in ("b", "a", "c"):
            await h.add(queue=name)
        assert [found.name for found in await h.store.queues()] == ["a", "b", "c"]

    async def test_a_change_changes_what_it_names_and_leaves_the_rest(self, h: StoreHarness) -> None:
        await h.add(queue="mail")
        await h.store.change_queue(ChangeQueue(name="mail", limit=5, keep_failed=None))
        h.advance(1.0)
        found = await h.store.change_queue(ChangeQueue(name="mail", mode=QueueMode.SERIAL, rescue_after=9.0))
        assert found == await queue(h, "mail")
        assert (found.mode, found.limit, found.keep_failed, found.rescue_after) == (QueueMode.SERIAL, 5, None, 9.0)
        assert (found.keep_succeeded, found.updated_at) == (86_400.0, h.clock.now())
        assert found.created_at < found.updated_at

    @feature("T22", "T30")
    async def test_a_queue_may_have_an_interval_of_its_own_between_two_looks_and_lose_it_again(
        self, h: StoreHarness
    ) -> None:
        await h.add(queue="mail")
        assert (await queue(h, "mail")).poll_interval is None
        for interval in (7.5, None):
            await h.store.change_queue(ChangeQueue(name="mail", poll_interval=interval))
            assert (await queue(h, "mail")).poll_interval == interval

    async def test_an_unknown_queue_is_refused_unless_it_may_be_created(self, h: StoreHarness) -> None:
        with pytest.raises(UnknownQueue):
            await h.store.change_queue(ChangeQueue(name="nobody", limit=1))
        assert await h.store.queues() == []
        assert (await h.store.change_queue(ChangeQueue(name="somebody", create=True, limit=1))).limit == 1
        assert (await queue(h, "somebody")).limit == 1

    @feature("T12", "T13", "TW12")
    @pytest.mark.parametrize("name", ["", "x" * 101, "a b", "-x", "\ud800"], ids=ascii)
    async def test_a_queue_of_a_bad_name_is_not_made(self, h: StoreHarness, name: str) -> None:
        with pytest.raises(ConfigError, match="queue"):
            await h.store.change_queue(ChangeQueue(name=name, create=True, paused=True))
        with pytest.raises(UnknownQueue):
            await h.store.change_queue(ChangeQueue(name=name, paused=True))
        assert await h.store.queues() == []

    @feature("T12", "T13", "T19")
    async def test_limits_that_make_no_sense_are_refused_all_at_once(self, h: StoreHarness) -> None:
        await h.add()
        before = await h.store.queues()
        wrong: dict[str, Any] = {"limit": 0, "poll_interval": 0.0, "rescue_after": -1.0, "keep_failed_count": -1}
        with pytest.raises(ConfigError) as caught:
            await h.store.change_queue(ChangeQueue(name=h.queue, **wrong))
        assert [fault.partition(":")[0] for fault in caught.value.faults] == list(wrong)
        for value in (1e300, float("inf"), float("nan")):
            with pytest.raises(ConfigError):
                await h.store.change_queue(ChangeQueue(name=h.queue, rescue_after=value))
        for limit in (2**63, True, 1.5):
            with pytest.raises(ConfigError):
                await h.store.change_queue(ChangeQueue(name=h.queue, limit=limit))  # type: ignore[arg-type]
        assert await h.store.queues() == before

    @feature("A30")
    async def test_a_paused_queue_takes_jobs_and_hands_out_none_until_it_is_resumed(self, h: StoreHarness) -> None:
        before = await h.add()
        paused = await h.store.change_queue(ChangeQueue(name=h.queue, paused=True, who="ann", why="deploy"))
        assert (paused.paused, paused.paused_by, paused.paused_why) == (True, "ann", "deploy")
        assert paused.paused_at == h.clock.now()
        during = await h.add()
        assert await h.claim() == ()
        resumed = await h.store.change_queue(ChangeQueue(name=h.queue, paused=False, who="bob"))
        assert (resumed.paused, resumed.paused_at) == (False, None)
        assert await h.claim_ids() == [before.id, during.id]

    @feature("A30")
    async def test_a_paused_queue_pauses_no_other_and_no_running_job(self, h: StoreHarness) -> None:
        await h.add()
        claim = await h.claim_one()
        other = await h.add(queue="other")
        await h.store.change_queue(ChangeQueue(name=h.queue, paused=True))
        assert await h.claim_ids(queues=(h.queue, "other")) == [other.id]
        assert (await h.settle(claim)).state is State.SUCCEEDED

    @feature("A30")
    async def test_what_comes_due_or_back_in_a_paused_queue_waits_there(self, h: StoreHarness) -> None:
        back = await h.add()
        await h.claim_one()
        due = await h.add(delay=60.0)
        await h.store.change_queue(ChangeQueue(name=h.queue, paused=True))
        await h.lose(after=61.0)
        assert await h.claim() == ()
        assert [await h.state(job.id) for job in (back, due)] == [State.QUEUED, State.QUEUED]
        await h.store.change_queue(ChangeQueue(name=h.queue, paused=False))
        assert sorted(await h.claim_ids()) == sorted([back.id, due.id])

    @feature("A30")
    async def test_a_queue_may_be_paused_before_its_first_job(self, h: StoreHarness) -> None:
        await h.store.change_queue(ChangeQueue(name=h.queue, create=True, paused=True))
        await h.add()
        assert await h.claim() == ()

    @pytest.mark.parametrize("state", [state for state in State if state not in FINAL])
    async def test_a_queue_with_unfinished_jobs_cannot_be_deleted(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        with pytest.raises(Conflict):
            await h.store.delete_queue(h.queue)
        assert (await queue(h, h.queue)).name == h.queue
        assert await h.job(job.id) == job

    async def test_a_queue_whose_jobs_have_ended_can_be_deleted_and_comes_again_as_a_new_one(
        self, h: StoreHarness
    ) -> None:
        await h.in_state(State.SUCCEEDED)
        await h.store.change_queue(ChangeQueue(name=h.queue, limit=3))
        await h.store.delete_queue(h.queue, "ann")
        assert await h.store.queues() == []
        again = await h.add()
        assert (await queue(h, h.queue)).limit is None
        assert await h.claim_ids() == [again.id]

    async def test_deleting_an_unknown_queue_is_refused(self, h: StoreHarness) -> None:
        with pytest.raises(UnknownQueue):
            await h.store.delete_queue("nobody")

    async def test_a_queues_own_lease_rules_over_the_workers(self, h: StoreHarness) -> None:
        await h.store.change_queue(ChangeQueue(name=h.queue, create=True, rescue_after=300.0))
        await h.add()
        claim = await h.claim_one(lease=30.0)
        assert claim.lease_until == h.clock.now() + 300.0
        assert claim.lease == 300.0, "the worker must know how often to beat"
        h.advance(299.0)
        assert (await h.store.rescue()).lost == 0
        h.advance(2.0)
        assert (await h.store.rescue()).lost == 1
