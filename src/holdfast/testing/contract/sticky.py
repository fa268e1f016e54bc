"""Sticky jobs: only the process that owns a key may claim its jobs, and of a key only the newest epoch counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import ContentError
from holdfast.job.commands import BoundKey, ChangeQueue, KeyLink, LinkFilter, Released
from holdfast.job.ledger.upkeep import GONE_AFTER
from holdfast.job.model import InstanceState, Job
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness

SERVICE = "chat"
SERVICES = (SERVICE,)
#: Seconds of real time: what a wait is told, and when a broken one is given up.
NEVER, BOUND = 600.0, 30.0


class StickyJobs(StoreSuite):
    """A store with the capability `sticky` keeps these."""

    @pytest.fixture(autouse=True)
    def _can(self, request: pytest.FixtureRequest, h: StoreHarness) -> None:
        # The class that joins all suites has this fixture for all their tests; only these ones ask for it.
        if request.function.__module__ == __name__ and not h.store.capabilities.sticky:
            pytest.skip("this store has no sticky jobs")

    async def test_a_sticky_job_waits_for_an_owner_and_the_claim_names_its_key(self, h: StoreHarness) -> None:
        await h.add(key="k", sticky=SERVICE)
        claims = await h.wanted(sticky=SERVICES)
        assert (claims.items, claims.ownerless) == ((), (KeyLink(SERVICE, "k"),))
        assert (await h.wanted(sticky=("other",))).ownerless == ()
        assert (await h.wanted()).ownerless == ()

    async def test_a_key_is_named_once_however_many_of_its_jobs_wait(self, h: StoreHarness) -> None:
        for key in ("a", "b", "a", "a"):
            await h.add(key=key, sticky=SERVICE)
        claims = await h.wanted(sticky=SERVICES)
        assert sorted(link.key for link in claims.ownerless) == ["a", "b"]

    @feature("S8")
    async def test_only_the_owner_of_its_key_claims_a_sticky_job(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        job = await h.add(key="k", sticky=SERVICE)
        plain = await h.add()
        assert (await _bind(h, "k", 1, "i1", 7)).accepted
        assert await h.claim_ids(instance="i2", sticky=SERVICES) == [plain.id]
        claim = await h.claim_one("i1", sticky=SERVICES)
        assert (claim.id, claim.item.pod, claim.item.pod_epoch) == (job.id, 1, 7)

    async def test_a_worker_without_sticky_services_gets_no_sticky_job(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        await h.add(key="k", sticky=SERVICE)
        plain = await h.add()
        await _bind(h, "k", 1, "i1", 7)
        assert await h.claim_ids() == [plain.id]
        assert len(await h.claim_ids(sticky=SERVICES)) == 1

    async def test_an_owner_gets_plain_and_sticky_jobs_in_one_order(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        await _bind(h, "k", 0, "i1", 1)
        first, second, third = await h.add(), await h.add(key="k", sticky=SERVICE), await h.add()
        urgent = await h.add(key="u", sticky=SERVICE, priority=5)
        await _bind(h, "u", 0, "i1", 1)
        assert await h.claim_ids(sticky=SERVICES) == [urgent.id, first.id, second.id, third.id]

    async def test_pod_zero_is_a_pod(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        await h.add(key="k", sticky=SERVICE)
        assert (await _bind(h, "k", 0, "i1", 1)).link == KeyLink(SERVICE, "k", 0, "i1", 1)
        assert (await h.claim_one(sticky=SERVICES)).item.pod == 0

    async def test_the_jobs_of_a_key_run_in_order_on_its_owner(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        await _bind(h, "k", 1, "i1", 1)
        jobs = [await h.add(key="k", sticky=SERVICE) for _ in range(3)]
        assert await h.run_all(sticky=SERVICES) == [job.id for job in jobs]

    async def test_an_older_epoch_is_refused_and_told_the_newer_one(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        await _bind(h, "k", 1, "i1", 9)
        newest = KeyLink(SERVICE, "k", 1, "i1", 9)
        for pod, instance, epoch in ((2, "i2", 8), (2, "i2", 9), (1, "i2", 9), (2, "i1", 9)):
            answer = await _bind(h, "k", pod, instance, epoch)
            assert not answer.accepted
            assert answer.link == newest
            assert str(epoch) in answer.why
        assert (await _bind(h, "k", 1, "i1", 9)).accepted
        assert (await _bind(h, "k", 2, "i2", 10)).link == KeyLink(SERVICE, "k", 2, "i2", 10)

    async def test_a_process_that_is_not_known_to_live_gets_no_key(self, h: StoreHarness) -> None:
        answer = await _bind(h, "k", 1, "nobody", 1)
        assert (answer.accepted, answer.link) == (False, KeyLink(SERVICE, "k"))
        assert "nobody" in answer.why

    async def test_a_batch_of_links_is_answered_per_key_in_order(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        links = [KeyLink(SERVICE, "a", 1, "i1", 1), KeyLink(SERVICE, "b", 1, "gone", 1), KeyLink("x", "a", 2, "i1", 3)]
        answers = await h.store.bind(links)
        assert [answer.accepted for answer in answers] == [True, False, True]
        assert await h.store.bind([]) == []

    async def test_an_owner_gives_a_key_up_under_its_epoch_and_can_not_take_it_back_under_that(
        self, h: StoreHarness
    ) -> None:
        await _live(h, "i1", "i2")
        await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        assert not (await _bind(h, "k", None, "i2", 5)).accepted
        assert (await _bind(h, "k", None, "i1", 5)).accepted
        assert await h.claim_ids(sticky=SERVICES) == []
        assert not (await _bind(h, "k", 1, "i1", 5)).accepted
        assert (await _bind(h, "k", 1, "i1", 6)).accepted
        assert len(await h.claim_ids(sticky=SERVICES)) == 1

    @feature("S8")
    @pytest.mark.parametrize("state", [InstanceState.DRAINING, InstanceState.STOPPED])
    async def test_the_keys_of_a_process_that_drains_or_stops_wait_for_another_owner(
        self, h: StoreHarness, state: InstanceState
    ) -> None:
        await _live(h, "i1", "i2")
        await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        await h.beat("i1", state=state)
        assert await h.claim_ids(sticky=SERVICES) == []
        claims = await h.wanted(sticky=SERVICES, instance="i2")
        assert (claims.items, claims.ownerless) == ((), (KeyLink(SERVICE, "k", 1, "i1", 5),))
        assert not (await _bind(h, "k", 1, "i1", 6)).accepted
        await _bind(h, "k", 2, "i2", 6)
        assert len(await h.claim_ids(instance="i2", sticky=SERVICES)) == 1

    @feature("S8")
    async def test_the_keys_of_a_lost_process_wait_for_another_owner_and_run_under_a_higher_epoch(
        self, h: StoreHarness
    ) -> None:
        await _live(h, "i1")
        job = await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        old = await h.claim_one("i1", sticky=SERVICES)
        await h.lose()
        await _live(h, "i2")
        assert [link.epoch for link in (await h.wanted(sticky=SERVICES, instance="i2")).ownerless] == [5]
        await _bind(h, "k", 2, "i2", 6)
        new = await h.claim_one("i2", sticky=SERVICES)
        assert (new.id, new.item.pod, new.item.pod_epoch) == (job.id, 2, 6)
        assert new.token > old.token

    async def test_the_keys_of_a_process_that_died_wait_for_another_owner(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        await h.died("i1")
        assert len((await h.wanted(sticky=SERVICES, instance="i2")).ownerless) == 1

    async def test_a_process_that_was_thought_lost_has_its_keys_again_unless_they_moved(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        for key in ("moved", "stays"):
            await h.add(key=key, sticky=SERVICE)
            await _bind(h, key, 1, "i1", 5)
        await h.lose()
        await _live(h, "i2")
        await _bind(h, "moved", 2, "i2", 6)
        await _live(h, "i1")
        assert [claim.item.key for claim in await h.claim(instance="i1", sticky=SERVICES)] == ["stays"]
        assert [claim.item.key for claim in await h.claim(instance="i2", sticky=SERVICES)] == ["moved"]

    async def test_a_key_does_not_move_while_its_job_runs(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        for _ in range(2):
            await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        running = await h.claim_one("i1", sticky=SERVICES)
        await _bind(h, "k", 2, "i2", 6)
        assert await h.claim_ids(instance="i2", sticky=SERVICES) == []
        await h.settle(running)
        assert (await h.claim_one("i2", sticky=SERVICES)).item.pod_epoch == 6

    async def test_a_job_that_becomes_ready_later_goes_to_the_owner_of_then(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        await h.add(key="k", sticky=SERVICE, delay=10.0)
        await _bind(h, "k", 1, "i1", 5)
        await _bind(h, "k", 2, "i2", 6)
        h.advance(11.0)
        assert await h.claim_ids(instance="i1", sticky=SERVICES) == []
        assert len(await h.claim_ids(instance="i2", sticky=SERVICES)) == 1

    async def test_a_released_job_goes_to_the_owner_of_then(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        claim = await h.claim_one("i1", sticky=SERVICES)
        await _bind(h, "k", 2, "i2", 6)
        await h.settle(claim, Released("not mine", counted=False))
        assert await h.claim_ids(instance="i1", sticky=SERVICES) == []
        assert len(await h.claim_ids(instance="i2", sticky=SERVICES)) == 1

    async def test_a_bind_wakes_those_who_wait(self, h: StoreHarness) -> None:
        if not h.store.capabilities.push:
            pytest.skip("this store is polled")
        await _live(h, "i1")
        await h.add(key="k", sticky=SERVICE)
        cursor = (await h.wanted()).cursor
        waiting = asyncio.ensure_future(h.store.wait((h.queue,), cursor, NEVER))
        await asyncio.sleep(0)
        await _bind(h, "k", 1, "i1", 5)
        assert await asyncio.wait_for(waiting, BOUND)

    async def test_the_links_of_a_process_that_is_forgotten_are_forgotten(self, h: StoreHarness) -> None:
        await _live(h, "i1")
        await h.add(key="k", sticky=SERVICE)
        await _bind(h, "k", 1, "i1", 5)
        await h.lose()
        h.advance(2 * GONE_AFTER)
        await h.store.rescue()
        await _live(h, "i2")
        assert await h.store.links(LinkFilter()) == []
        assert (await h.wanted(sticky=SERVICES, instance="i2")).ownerless == (KeyLink(SERVICE, "k"),)
        assert (await _bind(h, "k", 2, "i2", 1)).accepted
        assert len(await h.claim_ids(instance="i2", sticky=SERVICES)) == 1

    async def test_links_are_read_by_service_key_and_process_in_pages(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        links = [KeyLink("a", "1", 1, "i1", 1), KeyLink("a", "2", 2, "i2", 1), KeyLink("b", "1", 1, "i1", 4)]
        await h.store.bind(links[::-1])
        assert await h.store.links(LinkFilter()) == links
        assert await h.store.links(LinkFilter(service="a")) == links[:2]
        assert await h.store.links(LinkFilter(service="a", key="2")) == [links[1]]
        assert await h.store.links(LinkFilter(service="a", key="3")) == []
        assert await h.store.links(LinkFilter(instance="i1")) == [links[0], links[2]]
        assert await h.store.links(LinkFilter(instance="nobody")) == []
        assert await h.store.links(LinkFilter(limit=2)) == links[:2]
        assert await h.store.links(LinkFilter(after=("a", "2"))) == [links[2]]

    async def test_a_sticky_job_without_a_key_is_refused(self, h: StoreHarness) -> None:
        with pytest.raises(ContentError, match="key"):
            await h.store.enqueue([h.new(sticky=SERVICE)])
        assert await h.all_jobs() == []

    async def test_a_suspect_among_sticky_jobs_runs_alone_among_suspects(self, h: StoreHarness) -> None:
        await _live(h, "i1", "i2")
        for key in ("a", "b"):
            await h.add(key=key, sticky=SERVICE)
            await _bind(h, key, 1, "i1", 5)
        assert len(await h.claim(instance="i1", sticky=SERVICES)) == 2
        await h.died("i1")
        for key in ("a", "b"):
            await _bind(h, key, 2, "i2", 6)
        assert len(await h.claim(instance="i2", sticky=SERVICES)) == 1

    async def test_a_paused_queue_names_no_keys(self, h: StoreHarness) -> None:
        job: Job = await h.add(key="k", sticky=SERVICE)
        await h.store.change_queue(ChangeQueue(name=job.queue, paused=True))
        assert (await h.wanted(sticky=SERVICES)).ownerless == ()
        assert await h.state(job.id) is State.QUEUED


async def _live(h: StoreHarness, *instances: str) -> None:
    for name in instances:
        await h.beat(name, state=InstanceState.READY)


async def _bind(h: StoreHarness, key: str, pod: int | None, instance: str, epoch: int, **more: Any) -> BoundKey:
    [answer] = await h.store.bind([KeyLink(more.get("service", SERVICE), key, pod, instance, epoch)])
    return answer
