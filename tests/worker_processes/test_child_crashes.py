"""Whatever a job does to its own process ends the job and says why; the pool and the next job never notice."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.job.commands import Canceled, Crashed, Failed, Released, Succeeded, TimedOut
from holdfast.worker.context import CancelReason
from tests.features import feature
from tests.worker_processes.box import LIMIT, Box, Cancel, gone, is_alive, make_box, zombies_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    async with make_box() as made:
        yield made
        assert await the_pool_still_works(made)
    assert not zombies_of(os.getpid())


async def the_pool_still_works(box: Box) -> bool:
    return (await box.run("doubled", number=21)).ending == Succeeded(b"42")


# --- it dies -------------------------------------------------------------------------------------------------------


@feature("B35", "A5")
@pytest.mark.parametrize(
    ("task", "arguments", "told"),
    [
        ("kills_itself", {}, "killed by SIGKILL"),
        ("kills_itself", {"number": signal.SIGTERM}, "killed by SIGTERM"),
        ("kills_itself", {"number": signal.SIGHUP}, "killed by SIGALRM"),  # the signal of a lost parent, see death.py
        ("kills_itself", {"number": 40}, "killed by signal 40"),
        ("reads_address_zero", {}, "killed by SIGSEGV (a fault in native code"),
        ("aborts_without_memory", {}, "killed by SIGABRT"),
        ("exits", {"code": 3}, "exit code 3"),
        ("exits", {"code": 0}, "exit code 0"),
    ],
)
async def test_a_job_that_ends_its_process_has_crashed_and_the_words_say_how(
    box: Box, task: str, arguments: dict[str, Any], told: str
) -> None:
    ended = await box.run(task, **arguments)
    assert isinstance(ended.ending, Crashed)
    assert told in ended.ending.error.text
    assert not ended.stopped


async def test_a_kill_that_nobody_asked_for_hints_at_memory(box: Box) -> None:
    ended = await box.run("kills_itself")
    assert isinstance(ended.ending, Crashed)
    assert "memory" in ended.ending.error.text


async def test_memory_that_is_refused_is_an_error_of_the_job_and_its_child_is_replaced(box: Box) -> None:
    ended = await box.run("runs_out_of_memory")
    assert isinstance(ended.ending, Failed)
    assert ended.ending.error.type == "MemoryError"
    pids = box.pool.pids
    assert await the_pool_still_works(box)
    assert box.pool.pids.isdisjoint(pids)


@pytest.mark.parametrize("task", ["exits_politely", "exits_in_the_loop"])
async def test_sys_exit_is_an_error_of_the_job_and_not_the_end_of_its_child(box: Box, task: str) -> None:
    await box.run("doubled", number=1)
    pids = box.pool.pids
    ended = await box.run(task)
    assert isinstance(ended.ending, Failed)
    assert ended.ending.error.type == "SystemExit"
    assert await the_pool_still_works(box)
    assert box.pool.pids == pids


async def test_only_the_job_of_the_dead_child_is_blamed() -> None:
    async with make_box(3) as box, asyncio.TaskGroup() as group:
        cancel = Cancel()
        innocent = group.create_task(box.run("looks_at_the_context", cancel=cancel))
        await box.told()
        killer = await box.run("kills_itself")
        cancel.set()
        assert isinstance(killer.ending, Crashed)
        assert (await innocent).ending == Succeeded(b'"asked"')


async def test_a_child_killed_while_it_was_idle_is_replaced_without_harm(box: Box) -> None:
    await box.run("doubled", number=1)
    [pid] = box.pool.pids
    os.kill(pid, signal.SIGKILL)
    assert await gone(pid)
    while box.pool.pids:  # noqa: ASYNC110 - until the loop has seen what the kernel knows
        await asyncio.sleep(0)


async def test_a_child_stopped_from_outside_is_bound_by_the_time_limit(box: Box) -> None:
    await box.run("doubled", number=1)
    [pid] = box.pool.pids
    os.kill(pid, signal.SIGSTOP)
    ended = await box.run("doubled", number=2, time_limit=0.2)
    assert isinstance(ended.ending, TimedOut)


# --- it does not end -----------------------------------------------------------------------------------------------


@feature("B35", "B42")
@pytest.mark.parametrize("task", ["sleeps", "waits", "ignores_sigterm", "holds_the_interpreter", "swallows_cancels"])
async def test_a_job_past_its_time_limit_is_killed_whatever_it_does(box: Box, task: str) -> None:
    await box.run("doubled", number=1)
    [pid] = box.pool.pids
    ended = await box.run(task, time_limit=1.0)
    assert isinstance(ended.ending, TimedOut)
    assert "time limit of 1 s" in ended.ending.error.text
    assert not is_alive(pid)


@feature("T7")
async def test_a_cancel_reaches_an_async_handler(box: Box) -> None:
    cancel = Cancel()
    running = asyncio.create_task(box.run("waits", cancel=cancel))
    await box.told()
    cancel.set()
    ended = await running
    assert ended.stopped
    assert isinstance(ended.ending, Canceled)


async def test_a_cancel_tells_its_reason_to_a_handler_that_waits_for_it(box: Box) -> None:
    cancel = Cancel()
    running = asyncio.create_task(box.run("shields_itself", cancel=cancel))
    await box.told()
    cancel.set(CancelReason.DRAIN)
    ended = await running
    assert ended.ending == Succeeded(b'"drain"')
    assert not ended.stopped


@feature("T7")
async def test_a_cancel_shows_in_the_context_of_a_plain_handler(box: Box) -> None:
    cancel = Cancel()
    running = asyncio.create_task(box.run("looks_at_the_context", cancel=cancel))
    await box.told()
    cancel.set(CancelReason.LOST)
    assert (await running).ending == Succeeded(b'"lost"')


@pytest.mark.parametrize(
    ("reason", "ending"),
    [(CancelReason.ASKED, Canceled), (CancelReason.DRAIN, Released), (CancelReason.TIMED_OUT, TimedOut)],
)
async def test_a_handler_that_will_not_stop_is_killed_after_its_grace(
    box: Box, reason: CancelReason, ending: type[object]
) -> None:
    cancel = Cancel()
    running = asyncio.create_task(box.run("swallows_cancels", cancel=cancel, cancel_grace=0.1))
    [pid] = await box.told()
    cancel.set(reason)
    ended = await running
    assert isinstance(ended.ending, ending)
    assert ended.stopped
    assert not is_alive(pid)


async def test_who_stops_waiting_for_a_job_has_it_killed(box: Box) -> None:
    running = asyncio.create_task(box.run("ignores_sigterm"))
    [pid] = await box.told()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await gone(pid)


# --- it disturbs ---------------------------------------------------------------------------------------------------


async def test_what_a_job_prints_goes_to_our_output_and_never_into_the_answer(
    box: Box, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "\x00\x00\x00\x05 hello"
    assert (await box.run("prints", text=text)).ending == Succeeded(b'"printed"')
    out, err = capfd.readouterr()
    assert out.count(text) == 2
    assert text in err


@pytest.mark.parametrize("task", ["closes_everything", "writes_garbage_to_every_socket"])
async def test_a_job_that_breaks_the_connection_has_crashed(box: Box, task: str) -> None:
    ended = await box.run(task)
    assert isinstance(ended.ending, Crashed)


async def test_what_a_killed_job_started_is_killed_with_it(box: Box) -> None:
    running = asyncio.create_task(box.run("starts_a_grandchild", time_limit=3.0))
    child, grandchild = await box.told()
    assert isinstance((await running).ending, TimedOut)
    assert await gone(child)
    assert await gone(grandchild)


async def test_a_fork_that_holds_the_connection_does_not_hide_the_death_of_the_child(box: Box) -> None:
    running = asyncio.create_task(box.run("forks_and_dies"))
    _, grandchild = await box.told()
    ended = await running
    assert isinstance(ended.ending, Crashed)
    assert "exit code 9" in ended.ending.error.text
    assert await gone(grandchild)


async def test_a_fork_that_returns_from_the_handler_does_not_answer_for_it(box: Box) -> None:
    assert (await box.run("forks_and_both_return")).ending == Succeeded(b'"from the original"')


async def test_programs_that_a_job_starts_do_not_inherit_the_connection(box: Box) -> None:
    # Its three standard descriptors, and the one that lists them.
    assert (await box.run("starts_a_program_that_keeps_descriptors")).ending == Succeeded(b'"4"')


async def test_a_result_that_no_json_carries_is_a_failure_of_the_job(box: Box) -> None:
    ended = await box.run("returns_what_no_json_carries")
    assert isinstance(ended.ending, Failed)
    assert "expected a value that JSON can carry" in ended.ending.error.text


async def test_a_result_over_the_size_of_a_frame_is_a_failure_of_the_job(box: Box) -> None:
    ended = await box.run("returns_much", size=65 * 1024 * 1024)
    assert isinstance(ended.ending, Failed)
    assert not ended.ending.retryable
    assert "expected a frame of at most 67,108,864 bytes" in ended.ending.error.text


async def test_a_job_over_the_size_of_a_frame_is_refused_by_name_of_the_limit(box: Box) -> None:
    ended = await box.run("doubled", number="9" * 65 * 1024 * 1024)
    assert isinstance(ended.ending, Failed)
    assert "can not be sent to a child process" in ended.ending.error.text


async def test_an_exception_without_words_is_a_failure_of_the_job(box: Box) -> None:
    ended = await box.run("raises_without_words")
    assert isinstance(ended.ending, Failed)
    assert ended.ending.error.type == "Unspeakable"


# --- the parent dies -----------------------------------------------------------------------------------------------

PARENT = """
import asyncio, sys
from tests.worker_processes.box import make_box

async def main(task):
    async with make_box() as box:
        running = asyncio.create_task(box.run(task, time_limit=None))
        print(*await box.told(), flush=True)
        await running

asyncio.run(main(sys.argv[1]))
"""


@feature("B57")
@pytest.mark.parametrize("task", ["waits_and_tells", "ignores_sigterm", "starts_a_grandchild", "holds_the_interpreter"])
async def test_no_child_outlives_its_parent(task: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, task], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert parent.stdout is not None
        with parent.stdout as told:
            pids = [int(word) for word in (await asyncio.to_thread(told.readline)).split()]
        assert pids
        assert all(map(is_alive, pids))
    finally:
        parent.kill()
        parent.wait(LIMIT)
    assert all([await gone(pid) for pid in pids])


async def test_a_killed_child_leaves_no_zombie_behind() -> None:
    async with make_box(2) as box:
        await asyncio.gather(*(box.run("exits", code=1) for _ in range(6)))
        assert not zombies_of(os.getpid())


async def test_the_duration_is_that_of_the_attempt(box: Box) -> None:
    before = time.monotonic()
    ended = await box.run("sleeps", time_limit=0.3)
    assert 0.3 <= ended.duration <= time.monotonic() - before
