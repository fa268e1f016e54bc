"""Configured workers, and when each was last heard of."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError, Conflict, UnknownWorker
from holdfast.job.model import InstanceState, QueueShare, WorkerConfig
from holdfast.job.state import FINAL, State
from holdfast.testing.contract_history.harness import HistoryHarness, HistorySuite, attempt, feature


class WorkerRepositoryContract(HistorySuite):
    """Inherit it, supply the fixture `history_factory`, and every test of the contract runs."""

    @feature("H11", "H12", "HW8")
    async def test_an_upsert_overwrites_all_of_a_workers_configuration_but_does_not_silence_it(
        self, h: HistoryHarness
    ) -> None:
        made_at = h.now
        share = QueueShare(name="mail", concurrency=3, weight=50)
        await h.workers.upsert(
            WorkerConfig(name="w", queues=(share,), enabled=False, base_url="u", last_heartbeat_at=7.0)
        )
        assert (await h.workers.get("w")).queues == (share,)
        h.store.advance(1.0)
        stored = await h.workers.upsert(WorkerConfig(name="w", delay=2.0))
        assert stored == await h.workers.get("w")
        assert (stored.queues, stored.enabled, stored.base_url, stored.delay) == ((), True, "", 2.0)
        assert (stored.last_heartbeat_at, stored.created_at, stored.updated_at) == (7.0, made_at, h.now)

    async def test_bad_names_are_refused(self, h: HistoryHarness) -> None:
        with pytest.raises(ConfigError, match="worker"):
            await h.workers.upsert(WorkerConfig(name="a b"))
        with pytest.raises(ConfigError, match="queue"):
            await h.workers.upsert(WorkerConfig(name="w", queues=(QueueShare(name=""),)))

    @feature("H12")
    async def test_workers_are_listed_by_name(self, h: HistoryHarness) -> None:
        for name in ("b", "c", "a"):
            await h.workers.upsert(WorkerConfig(name=name))
        assert [config.name for config in await h.workers.list()] == ["a", "b", "c"]
        with pytest.raises(UnknownWorker, match="nobody"):
            await h.workers.get("nobody")

    @feature("H13")
    @pytest.mark.parametrize("state", State)
    async def test_a_worker_is_not_deleted_while_an_unfinished_job_refers_to_it(
        self, h: HistoryHarness, state: State
    ) -> None:
        await h.workers.upsert(WorkerConfig(name="w"))
        await h.record(state=state, last=attempt(1))
        if state in FINAL:
            await h.workers.delete("w")
            assert await h.workers.list() == []
        else:
            with pytest.raises(Conflict, match="job 'x'"):
                await h.workers.delete("w")
            assert [config.name for config in await h.workers.list()] == ["w"]

    @feature("H13")
    async def test_a_worker_with_a_live_instance_is_not_deleted_and_an_unknown_one_is_named(
        self, h: HistoryHarness
    ) -> None:
        await h.workers.upsert(WorkerConfig(name="w"))
        await h.store.beat("i1", worker="w", state=InstanceState.READY)
        with pytest.raises(Conflict, match="1 live"):
            await h.workers.delete("w")
        await h.store.beat("i1", worker="w", state=InstanceState.STOPPED)
        await h.workers.delete("w")
        with pytest.raises(UnknownWorker, match="'w'"):
            await h.workers.delete("w")

    @feature("H14", "H15", "A13")
    async def test_a_worker_that_was_silent_for_too_long_is_listed_until_it_is_heard_of(
        self, h: HistoryHarness
    ) -> None:
        for name, enabled, heard in (("b", False, None), ("a", True, h.now - 60.1), ("c", True, h.now - 60.0)):
            await h.workers.upsert(WorkerConfig(name=name, enabled=enabled, last_heartbeat_at=heard))
        assert [config.name for config in await h.workers.list_offline(60.0)] == ["a", "b"]
        assert await h.workers.update_heartbeat("a", h.now)
        assert not await h.workers.update_heartbeat("nobody", h.now)
        assert [config.name for config in await h.workers.list_offline(60.0)] == ["b"]
        assert (await h.workers.get("a")).last_heartbeat_at == h.now

    @feature("H15", "HW10")
    async def test_the_beats_of_instances_keep_their_worker_online(self, h: HistoryHarness) -> None:
        await h.workers.upsert(WorkerConfig(name="w"))
        for _ in range(3):
            await h.store.beat("i1", worker="w", state=InstanceState.READY)
            h.store.advance(10.0)
        assert await h.workers.list_offline(15.0) == []
        h.store.advance(10.0)
        assert [config.name for config in await h.workers.list_offline(15.0)] == ["w"]
