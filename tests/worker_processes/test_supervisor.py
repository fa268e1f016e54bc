"""Several worker processes under a parent: they work, die, are judged and replaced; no job is lost with them."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import BadAppModule, ConfigError
from holdfast.job.commands import ChangeQueue
from holdfast.job.model import Job
from holdfast.job.state import End, State
from holdfast.stores.memory import MemoryStore
from holdfast.worker.options import WorkerOptions
from holdfast.worker.supervisor import ExitCode, Supervision, Supervisor, restart_delay
from tests.features import feature
from tests.support.socket_store import SocketStore, served
from tests.worker_processes import fleet
from tests.worker_processes.box import LIMIT, gone, is_alive, zombies_of
from tests.worker_processes.conftest import Fleet


def ends_of(job: Job) -> list[End | None]:
    return [attempt.end for attempt in job.attempts]


# --- working -------------------------------------------------------------------------------------------------------


@feature("T14", "B37")
async def test_supervised_processes_share_the_work(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(2, concurrency=1) as supervisor:
        waiting = [await the_fleet.enqueue("waits") for _ in range(2)]
        pids = {await the_fleet.pid_of(job_id) for job_id in waiting}
        assert pids == supervisor.pids
        assert len(pids) == 2
        for job_id in waiting:
            await the_fleet.let_go(job_id)
        assert [job.state for job in await the_fleet.ended(*waiting)] == [State.SUCCEEDED] * 2
    assert not zombies_of(os.getpid())


@feature("A13")
async def test_each_process_is_an_instance_that_the_store_knows_and_sees_stop(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(2, worker="bakers") as supervisor:
        await the_fleet.until(lambda: two_are(the_fleet, "ready"))
        instances = await the_fleet.store.instances()
        assert {instance.pid for instance in instances} == supervisor.pids
        assert {(instance.worker, instance.local) for instance in instances} == {("bakers", False)}
    assert await two_are(the_fleet, "stopped")


async def two_are(the_fleet: Fleet, state: str) -> bool:
    return [instance.state for instance in await the_fleet.store.instances()] == [state] * 2


@feature("A10")
async def test_a_handler_that_blocks_its_process_keeps_its_job_because_the_parent_beats(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(2, lease=2.0):
        job_id = await the_fleet.enqueue("blocks.without_limit", seconds=5.0)
        [job] = await the_fleet.ended(job_id)
    assert (job.result, ends_of(job)) == (b"1", [End.SUCCEEDED])


async def test_the_parent_beats_in_time_for_a_queue_with_a_shorter_lease(the_fleet: Fleet) -> None:
    short = 4.0
    await the_fleet.store.change_queue(ChangeQueue(name="default", create=True, rescue_after=short))
    async with the_fleet.supervised(lease=600.0):
        job_id = await the_fleet.enqueue("waits")
        await the_fleet.pid_of(job_id)
        [since] = [one.heartbeat_at for one in await the_fleet.store.instances()]

        async def has_outlived_two_leases() -> bool:
            await the_fleet.store.rescue()
            [one] = await the_fleet.store.instances()
            return bool(one.heartbeat_at > since + 2 * short)

        await the_fleet.until(has_outlived_two_leases)
        await the_fleet.let_go(job_id)
        [job] = await the_fleet.ended(job_id)
    assert ends_of(job) == [End.SUCCEEDED]


@feature("A30")
async def test_a_running_job_is_cancelled_through_the_beats_of_the_parent(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(lease=2.0):
        job_id = await the_fleet.enqueue("waits")
        await the_fleet.pid_of(job_id)
        await the_fleet.app.jobs.cancel(job_id)
        [job] = await the_fleet.ended(job_id)
    assert job.state is State.CANCELED


# --- dying ---------------------------------------------------------------------------------------------------------


@feature("A5", "GW5")
@pytest.mark.parametrize("code", [3, 0, ExitCode.ZOMBIES])
async def test_a05_a_job_that_always_ends_its_process_ends_as_a_dead_letter_after_its_attempts(
    the_fleet: Fleet, code: int
) -> None:
    async with the_fleet.supervised():
        job_id = await the_fleet.enqueue("exits", code=code)
        [job] = await the_fleet.ended(job_id)
    assert job.state is State.FAILED
    assert ends_of(job) == [End.CRASHED] * 2
    assert f"exit code {code}" in job.attempts[0].reason


@feature("A5", "GW5")
async def test_three_crashes_are_the_end_however_many_attempts_are_left(the_fleet: Fleet) -> None:
    async with the_fleet.supervised():
        job_id = await the_fleet.enqueue("killer")
        [job] = await the_fleet.ended(job_id)
        well = await the_fleet.enqueue("pid")
        assert (await the_fleet.ended(well))[0].state is State.SUCCEEDED
    assert (job.state, job.crashes) == (State.FAILED, 3)
    assert set(ends_of(job)) == {End.CRASHED}


@feature("A5")
async def test_innocents_in_a_process_that_a_killer_kills_again_and_again_all_succeed(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(concurrency=20):
        innocents = [await the_fleet.enqueue("innocent") for _ in range(19)]
        killer = await the_fleet.enqueue("killer")
        ended = await the_fleet.ended(*innocents, killer)
    assert [job.state for job in ended] == [State.SUCCEEDED] * 19 + [State.FAILED]
    assert not [job.id for job in ended[:19] if job.suspect]


async def test_a_crash_in_a_job_child_blames_that_job_alone(the_fleet: Fleet) -> None:
    async with the_fleet.supervised() as supervisor:
        neighbour = await the_fleet.enqueue("waits")
        pid = await the_fleet.pid_of(neighbour)
        [killer] = await the_fleet.ended(await the_fleet.enqueue("kills.child"))
        assert (killer.state, set(ends_of(killer)), killer.crashes) == (State.FAILED, {End.CRASHED}, 3)
        assert "killed by SIGKILL" in killer.attempts[0].error
        assert supervisor.pids == {pid}
        await the_fleet.let_go(neighbour)
        assert ends_of((await the_fleet.ended(neighbour))[0]) == [End.SUCCEEDED]


async def test_a_seen_death_requeues_the_job_at_once_and_another_process_takes_over(the_fleet: Fleet) -> None:
    # The lease alone would keep the job for ten minutes.
    async with the_fleet.supervised(lease=600.0) as supervisor:
        job_id = await the_fleet.enqueue("waits.in_child")
        child = await the_fleet.pid_of(job_id)
        [worker] = supervisor.pids
        os.kill(worker, signal.SIGKILL)
        assert await the_fleet.pid_of(job_id, attempt=2) != child
        assert await gone(child)
        assert supervisor.pids.isdisjoint({worker})
        # The end of the block makes it two: the job is cancelled and given back.
        supervisor.stop()
    job = await the_fleet.job(job_id)
    assert (job.state, ends_of(job)) == (State.QUEUED, [End.CRASHED, End.RELEASED])


# --- judged --------------------------------------------------------------------------------------------------------


@feature("A21", "B42")
async def test_a_process_that_lets_a_time_limit_pass_is_killed_and_replaced(the_fleet: Fleet) -> None:
    async with the_fleet.supervised() as supervisor:
        await the_fleet.until(lambda: _pids(supervisor))
        [blocked] = supervisor.pids
        [job] = await the_fleet.ended(await the_fleet.enqueue("blocks", seconds=600.0))
        assert job.state is State.FAILED
        assert "blocked beyond the time limit" in job.attempts[0].reason
        assert not is_alive(blocked)
        assert (await the_fleet.ended(await the_fleet.enqueue("pid")))[0].state is State.SUCCEEDED


async def _pids(supervisor: Supervisor) -> frozenset[int]:
    return supervisor.pids


async def test_a_process_that_gives_no_sign_of_life_is_killed_and_its_job_goes_on_elsewhere(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(silent_limit=6.0):
        [job] = await the_fleet.ended(await the_fleet.enqueue("first.freezes"))
    assert (job.result, ends_of(job)) == (b"2", [End.CRASHED, End.SUCCEEDED])
    assert "gave no sign of life for 6 s" in job.attempts[0].reason


async def test_a_process_full_of_handlers_that_will_not_stop_is_replaced(the_fleet: Fleet) -> None:
    async with the_fleet.supervised(concurrency=1, grace=0.1) as supervisor:
        await the_fleet.until(lambda: _pids(supervisor))
        before = supervisor.pids
        [job] = await the_fleet.ended(await the_fleet.enqueue("swallows"))
        assert ends_of(job) == [End.TIMED_OUT]
        [after] = await the_fleet.ended(await the_fleet.enqueue("pid"))
        assert msgspec.json.decode(after.result or b"") not in before


async def test_processes_without_a_store_still_stop_when_they_are_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "store.sock") as path:
        monkeypatch.setenv(fleet.SOCKET, path)
        app = fleet.make_app(path)
        the_fleet = Fleet(app, SocketStore(path))
        supervisor = Supervisor(
            the_fleet.store, Supervision(app=fleet.NAME, processes=2, options=WorkerOptions(lease=1.5))
        )
        running = asyncio.create_task(supervisor.run())
        await the_fleet.until(lambda: two_are(the_fleet, "ready"))
    # The server is gone.
    supervisor.stop()
    assert await asyncio.wait_for(running, LIMIT) is ExitCode.DRAINED
    assert not supervisor.pids
    await the_fleet.store.close()


async def test_who_cancels_the_parent_goes_on_when_its_processes_are_ended_and_reaped(the_fleet: Fleet) -> None:
    supervisor = Supervisor(the_fleet.store, Supervision(app=fleet.NAME, processes=2))
    running = asyncio.create_task(supervisor.run())
    await the_fleet.until(lambda: two_are(the_fleet, "ready"))
    pids = supervisor.pids
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # No waiting here: whoever closes the loop now must leave neither a process nor one that nobody reaped.
    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert not zombies_of(os.getpid())


# --- what can not work ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", ["tests.worker_processes.broken.raises:app", "no.such.module:app"])
async def test_an_app_that_does_not_import_ends_the_parent_at_once_with_the_reason(the_fleet: Fleet, app: str) -> None:
    supervisor = Supervisor(the_fleet.store, Supervision(app=app, processes=2))
    with pytest.raises(BadAppModule, match=r"settings file is missing|no module 'no'"):
        await asyncio.wait_for(supervisor.run(), LIMIT)
    assert not supervisor.pids


async def test_what_can_not_be_supervised_is_refused_with_every_fault() -> None:
    with pytest.raises(ConfigError) as refused:
        Supervisor(MemoryStore(), Supervision(app="x:y", processes=0, silent_limit=0.0))
    assert len(refused.value.faults) == 3
    with pytest.raises(ConfigError, match="lease"):
        Supervision(app="x:y", processes=1, options=WorkerOptions(lease=0.0)).checked(_Shared())


class _Shared(MemoryStore):
    capabilities = msgspec.structs.replace(MemoryStore.capabilities, many_processes=True)


def test_a_crash_loop_is_slowed_down_to_one_start_in_thirty_seconds() -> None:
    assert [restart_delay(deaths) for deaths in range(1, 9)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
