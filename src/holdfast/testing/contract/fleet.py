"""Workers: live processes that appear, beat and fall silent; configurations that people keep."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import UnknownWorker
from holdfast.job.model import Instance, InstanceState, QueueShare, WorkerConfig
from holdfast.job.state import State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import StoreHarness


async def instance(h: StoreHarness, instance_id: str) -> Instance:
    """Return the instance of that id."""
    return next(found for found in await h.store.instances() if found.id == instance_id)


class Instances(StoreSuite):
    """Processes, seen by their beats."""

    @feature("A13", "H14")
    async def test_the_first_beat_makes_a_process_known(self, h: StoreHarness) -> None:
        assert await h.store.instances() == []
        shown: dict[str, Any] = {"host": "h", "pid": 7, "version": "v1", "queues": ("a",), "tasks": ("t",), "slots": 4}
        await h.beat("i1", state=InstanceState.READY, started_at=h.clock.now(), **shown)
        found = await instance(h, "i1")
        assert {name: getattr(found, name) for name in shown} == shown
        assert (found.worker, found.state, found.heartbeat_at) == ("w", InstanceState.READY, h.clock.now())

    @feature("A13", "H14")
    async def test_later_beats_tell_the_newest_time_load_and_state(self, h: StoreHarness) -> None:
        await h.beat("i1", state=InstanceState.READY)
        h.advance(10.0)
        await h.beat("i1", state=InstanceState.READY, busy=3, load=0.75)
        found = await instance(h, "i1")
        assert (found.heartbeat_at, found.busy, found.load) == (h.clock.now(), 3, 0.75)
        await h.beat("i1", state=InstanceState.DRAINING)
        assert (await instance(h, "i1")).state is InstanceState.DRAINING

    @feature("A13")
    async def test_a_silent_process_is_held_lost_when_its_lease_is_over(self, h: StoreHarness) -> None:
        await h.beat("quiet", state=InstanceState.READY)
        await h.beat("alive", state=InstanceState.READY)
        h.advance(20.0)
        assert (await h.store.rescue()).instances_lost == ()
        await h.beat("alive", state=InstanceState.READY)
        h.advance(15.0)
        assert (await h.store.rescue()).instances_lost == ("quiet",)
        assert (await instance(h, "quiet")).state is InstanceState.LOST
        assert (await instance(h, "alive")).state is InstanceState.READY
        assert (await h.store.rescue()).instances_lost == ()

    @feature("A13")
    async def test_a_process_that_stopped_is_not_held_lost(self, h: StoreHarness) -> None:
        await h.beat("i1", state=InstanceState.READY)
        await h.beat("i1", state=InstanceState.STOPPED)
        h.advance(60.0)
        assert (await h.store.rescue()).instances_lost == ()
        assert (await instance(h, "i1")).state is InstanceState.STOPPED

    @feature("A13")
    async def test_a_process_that_was_held_lost_and_beats_again_is_live(self, h: StoreHarness) -> None:
        await h.beat("i1", state=InstanceState.READY)
        h.advance(60.0)
        await h.store.rescue()
        await h.beat("i1", state=InstanceState.READY)
        found = await instance(h, "i1")
        assert (found.state, found.heartbeat_at) == (InstanceState.READY, h.clock.now())

    @feature("A5", "A13")
    async def test_a_process_that_was_seen_to_die_is_lost_at_once(self, h: StoreHarness) -> None:
        await h.beat("i1", state=InstanceState.READY)
        await h.died("i1")
        assert (await instance(h, "i1")).state is InstanceState.LOST

    async def test_instances_are_listed_by_worker_and_start(self, h: StoreHarness) -> None:
        now = h.clock.now()
        for name, worker, started in (("c", "w2", now), ("b", "w1", now), ("a", "w1", now - 1.0)):
            await h.beat(name, worker=worker, started_at=started)
        assert [found.id for found in await h.store.instances()] == ["a", "b", "c"]

    @feature("B3")
    async def test_the_claims_of_a_process_that_never_beat_are_rescued_as_well(self, h: StoreHarness) -> None:
        job = await h.add()
        await h.claim_one("never-seen")
        await h.lose()
        assert (await h.state(job.id)) is State.QUEUED


class WorkerConfigs(StoreSuite):
    """Configurations by name."""

    @feature("H11", "H12")
    async def test_a_configuration_is_kept_listed_by_name_and_replaced(self, h: StoreHarness) -> None:
        shares = (QueueShare(name="a", concurrency=3, weight=2), QueueShare(name="b"))
        first = WorkerConfig(name="w", queues=shares, max_attempts=3, timeout=5.0, delay=1.0, labels=("x",))
        made = await h.store.configure_worker(first)
        assert (made.created_at, made.queues, made.labels) == (h.clock.now(), shares, ("x",))
        await h.store.configure_worker(WorkerConfig(name="a"))
        h.advance(1.0)
        again = await h.store.configure_worker(WorkerConfig(name="w", enabled=False))
        assert (again.created_at, again.updated_at, again.queues) == (made.created_at, h.clock.now(), ())
        assert [config.name for config in await h.store.workers()] == ["a", "w"]
        assert (await h.store.workers())[1] == again

    async def test_a_configuration_can_be_forgotten(self, h: StoreHarness) -> None:
        await h.store.configure_worker(WorkerConfig(name="w"))
        await h.store.delete_worker("w")
        assert await h.store.workers() == []
        with pytest.raises(UnknownWorker):
            await h.store.delete_worker("w")

    @feature("H11")
    async def test_a_beat_tells_a_worker_to_drain_and_whether_it_is_enabled(self, h: StoreHarness) -> None:
        signals = await h.beat()
        assert (signals.drain, signals.enabled) == (False, True)
        await h.store.configure_worker(WorkerConfig(name="w", drain=True, enabled=False))
        signals = await h.beat()
        assert (signals.drain, signals.enabled) == (True, False)
        assert (await h.beat("other", worker="another")).enabled is True

    @feature("H11", "HW9", "HW10")
    async def test_a_worker_is_known_from_its_first_beat_on_and_is_told_its_configuration(
        self, h: StoreHarness
    ) -> None:
        await h.beat()
        [known] = await h.store.workers()
        assert (known.name, known.enabled, known.queues) == ("w", True, ())
        share = QueueShare(name="a", concurrency=3, weight=2)
        made = await h.store.configure_worker(WorkerConfig(name="w", queues=(share,), timeout=5.0))
        assert (await h.beat()).config == made
        assert (await h.beat()).config == made
        await h.store.delete_worker("w")
        assert (await h.beat()).config is not None  # it lives, so it is there again
        assert [config.name for config in await h.store.workers()] == ["w"]
