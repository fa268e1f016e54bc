"""Signals to the parent of worker processes, and its death: what happens to processes and jobs."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.job.state import End, State
from tests.features import feature
from tests.worker_processes import fleet
from tests.worker_processes.box import LIMIT, gone, is_alive
from tests.worker_processes.conftest import Fleet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parent(socket_path: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.worker_processes.parent", "2", "60"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, fleet.SOCKET: socket_path}) as process:
        yield process
        process.kill()


async def exit_code(parent: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(parent.wait, LIMIT)


async def workers(the_fleet: Fleet) -> list[int]:
    async def all_ready() -> list[int]:
        found = await the_fleet.store.instances()
        return [one.pid for one in found] if [one.state for one in found] == ["ready"] * 2 else []

    pids: list[int] = await the_fleet.until(all_ready)
    return pids


@feature("A9", "T20", "B47", "B55", "BW18")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_lets_running_jobs_finish(
    the_fleet: Fleet, parent: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    pids = await workers(the_fleet)
    job_id = await the_fleet.enqueue("waits")
    await the_fleet.pid_of(job_id)
    parent.send_signal(number)
    await the_fleet.until(lambda: all_are_draining(the_fleet))
    later = await the_fleet.enqueue("pid")
    await the_fleet.let_go(job_id)
    assert await exit_code(parent) == 0
    assert (await the_fleet.job(job_id)).state is State.SUCCEEDED
    assert (await the_fleet.job(later)).attempt == 0
    assert not any(map(is_alive, pids))


async def all_are_draining(the_fleet: Fleet) -> bool:
    return all(one.state in ("draining", "stopped") for one in await the_fleet.store.instances())


@feature("A9", "T20")
async def test_the_second_signal_cancels_the_handlers_and_gives_their_jobs_back_unspent(
    the_fleet: Fleet, parent: subprocess.Popen[bytes]
) -> None:
    await workers(the_fleet)
    job_id = await the_fleet.enqueue("waits")
    await the_fleet.pid_of(job_id)
    parent.send_signal(signal.SIGTERM)
    await the_fleet.until(lambda: all_are_draining(the_fleet))
    parent.send_signal(signal.SIGTERM)
    assert await exit_code(parent) == 0
    job = await the_fleet.job(job_id)
    assert (job.state, job.failures, [one.end for one in job.attempts]) == (State.QUEUED, 0, [End.RELEASED])


@feature("A9")
async def test_the_third_signal_ends_everything_now_and_blames_no_job(
    the_fleet: Fleet, parent: subprocess.Popen[bytes]
) -> None:
    pids = await workers(the_fleet)
    job_id = await the_fleet.enqueue("blocks.without_limit", seconds=600.0)
    await the_fleet.until(lambda: is_running(the_fleet, job_id))
    parent.send_signal(signal.SIGTERM)
    await the_fleet.until(lambda: one_has_stopped(the_fleet))
    # Two different ones: two equal signals that are both pending would be one.
    parent.send_signal(signal.SIGTERM)
    parent.send_signal(signal.SIGINT)
    assert await exit_code(parent) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert not any(map(is_alive, pids))
    job = await the_fleet.job(job_id)
    # Its lease still stands and the rescue will find it; or the second signal had released it just before the third came.
    assert job.state in (State.RUNNING, State.QUEUED)
    assert (job.crashes, job.suspect) == (0, False)


async def one_has_stopped(the_fleet: Fleet) -> bool:
    return any(one.state == "stopped" for one in await the_fleet.store.instances())


async def is_running(the_fleet: Fleet, job_id: str) -> bool:
    return (await the_fleet.job(job_id)).state is State.RUNNING


async def test_a_signal_to_parent_and_processes_alike_is_one_step_for_all(
    the_fleet: Fleet, parent: subprocess.Popen[bytes]
) -> None:
    pids = await workers(the_fleet)
    job_id = await the_fleet.enqueue("waits")
    await the_fleet.pid_of(job_id)
    for pid in (parent.pid, *pids):  # as a service manager does
        os.kill(pid, signal.SIGTERM)
    await the_fleet.until(lambda: all_are_draining(the_fleet))
    await the_fleet.let_go(job_id)
    assert await exit_code(parent) == 0
    assert (await the_fleet.job(job_id)).state is State.SUCCEEDED


@feature("B57")
async def test_processes_whose_parent_dies_give_their_jobs_back_and_end(
    the_fleet: Fleet, parent: subprocess.Popen[bytes]
) -> None:
    pids = await workers(the_fleet)
    job_id = await the_fleet.enqueue("waits")
    await the_fleet.pid_of(job_id)
    parent.kill()
    assert all([await gone(pid) for pid in pids])
    job = await the_fleet.job(job_id)
    # The process that hears of it last may claim what the other gave back, and then gives it back too.
    assert (job.state, {one.end for one in job.attempts}, job.failures) == (State.QUEUED, {End.RELEASED}, 0)


@feature("B57")
async def test_a_blocked_process_and_its_job_children_do_not_outlive_a_dead_parent(
    the_fleet: Fleet, parent: subprocess.Popen[bytes]
) -> None:
    pids = await workers(the_fleet)
    in_child = await the_fleet.enqueue("waits.in_child")
    child = await the_fleet.pid_of(in_child)
    blocked = await the_fleet.enqueue("blocks.without_limit", seconds=600.0)
    await the_fleet.until(lambda: is_running(the_fleet, blocked))
    parent.kill()
    assert all([await gone(pid) for pid in (*pids, child)])
