"""Jobs in child processes: what they return, report and share; how children are used again and replaced."""

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from holdfast.errors import WorkerError
from holdfast.job.commands import Canceled, Failed, Released, Succeeded
from holdfast.worker.context import CancelReason
from tests.features import feature
from tests.worker_processes.box import LIMIT, Box, Cancel, gone, is_alive, make_box, zombies_of


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    async with make_box() as made:
        yield made


async def result_of(box: Box, task: str, **arguments: Any) -> Any:
    ended = await box.run(task, **arguments)
    assert isinstance(ended.ending, Succeeded), ended.ending
    return msgspec.json.decode(ended.ending.result or b"")


# --- what a job gives ----------------------------------------------------------------------------------------------


@feature("B34", "B36")
async def test_a_job_runs_in_another_process_and_sees_its_own_context(box: Box) -> None:
    seen = await result_of(box, "whoami", job_id="invoice-9")
    assert seen["pid"] != os.getpid()
    assert (seen["job"], seen["token"]) == ("invoice-9", 7)
    assert 0 < seen["left"] <= LIMIT


async def test_the_lifespan_is_entered_in_the_child_once_for_all_of_its_jobs(box: Box) -> None:
    first, second = await result_of(box, "whoami"), await result_of(box, "whoami")
    assert first["state"] == second["state"] == {"pid": first["pid"]}


async def test_async_handlers_run_in_a_loop_of_the_child(box: Box) -> None:
    assert [await result_of(box, "doubled", number=n) for n in (1, 2, 3)] == [2, 4, 6]


async def test_a_plain_handler_may_run_a_loop_of_its_own(box: Box) -> None:
    assert await result_of(box, "runs_own_loop") == 42


async def test_context_variables_of_a_job_are_not_seen_by_the_next(box: Box) -> None:
    assert [await result_of(box, "remembers", word="secret"), await result_of(box, "remembers", word="x")] == [
        "nothing"
    ] * 2


async def test_progress_data_and_log_lines_arrive_before_the_result(box: Box) -> None:
    assert await result_of(box, "reports") == "told"
    assert box.progress == [(b'{"done":1}', b'{"seen":true}')]
    assert box.logged.get_nowait() == "half way"


async def test_what_a_job_raises_is_its_failure(box: Box) -> None:
    ended = await box.run("raises_one")
    assert isinstance(ended.ending, Failed)
    assert (ended.ending.error.type, ended.ending.error.text) == ("ValueError", "no such account")


async def test_a_task_that_the_child_does_not_know_is_named(box: Box) -> None:
    ended = await box.run("misspelt")
    assert isinstance(ended.ending, Failed)
    assert "'misspelt'" in ended.ending.error.text


async def test_a_result_of_many_frames_of_the_socket_arrives_whole(box: Box) -> None:
    assert await result_of(box, "returns_much", size=20_000_000) == "x" * 20_000_000


# --- children ------------------------------------------------------------------------------------------------------


@feature("B37")
async def test_a_child_is_used_again(box: Box) -> None:
    pids = {(await result_of(box, "whoami"))["pid"] for _ in range(5)}
    assert pids == box.pool.pids
    assert len(pids) == 1


async def test_no_child_is_started_before_there_is_a_job() -> None:
    async with make_box(4) as box:
        assert not box.pool.pids


async def test_as_many_jobs_run_at_once_as_there_may_be_children() -> None:
    async with make_box(2) as box, asyncio.TaskGroup() as group:
        cancels = [Cancel() for _ in range(3)]
        runs = [group.create_task(box.run("sleeps", cancel=cancel, cancel_grace=0.0)) for cancel in cancels]
        pids = {(await box.told())[0], (await box.told())[0]}
        assert pids == box.pool.pids
        assert box.logged.empty()
        for cancel in cancels:
            cancel.set()
        ended = [(await run).ending for run in runs]
    assert sum(isinstance(ending, Canceled) for ending in ended) == 2
    # The third was stopped before it had a child.
    assert [ending for ending in ended if isinstance(ending, Released)] == [
        Released("stopped before it was started", counted=False)
    ]


async def test_a_child_is_replaced_after_its_number_of_jobs() -> None:
    async with make_box(max_jobs_per_child=2) as box:
        pids = [(await result_of(box, "whoami"))["pid"] for _ in range(4)]
        assert pids[0] == pids[1] != pids[2] == pids[3]
        assert await gone(pids[0])


async def test_a_child_that_holds_too_much_memory_is_replaced() -> None:
    async with make_box(max_rss=200_000_000) as box:
        first = await result_of(box, "eats_memory", size=1_000)
        second = await result_of(box, "eats_memory", size=300_000_000)
        third = await result_of(box, "eats_memory", size=1_000)
        assert first == second != third


async def test_a_child_of_another_app_is_replaced_when_there_is_no_room(box: Box) -> None:
    first = (await result_of(box, "whoami"))["pid"]
    other = await result_of(box, "whoami", app="tests.worker_processes.toy:same")
    assert other["pid"] != first
    assert await gone(first)


@feature("B38", "T23")
async def test_a_closed_pool_leaves_no_process_and_refuses_work() -> None:
    async with make_box(2) as box:
        pid = (await result_of(box, "whoami"))["pid"]
        running = asyncio.create_task(box.run("starts_a_grandchild"))
        child, grandchild = await box.told()
        await box.pool.close()
        assert not any(is_alive(one) for one in (pid, child))
        assert await gone(grandchild)
        assert not zombies_of(os.getpid())
        ended = await running
        assert isinstance(ended.ending, Released)
        assert ended.stopped
        with pytest.raises(WorkerError, match="closed"):
            await box.run("whoami")


async def test_closing_waits_for_running_jobs_within_its_grace() -> None:
    async with make_box() as box:
        running = asyncio.create_task(box.run("looks_at_the_context", cancel=(cancel := Cancel())))
        await box.told()
        closing = asyncio.create_task(box.pool.close(grace=30.0))
        cancel.set(CancelReason.DRAIN)
        assert isinstance((await running).ending, Succeeded)
        await closing
        assert not box.pool.pids


async def test_a_machine_that_refuses_another_process_delays_the_job_and_blames_nobody(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    ended = await box.run("whoami")
    assert isinstance(ended.ending, Released)
    assert ended.ending.delay > 0
    assert "refuses another process" in ended.ending.reason
    monkeypatch.undo()
    assert await result_of(box, "doubled", number=1) == 2


async def test_a_child_is_watched_and_reaped_although_no_descriptor_is_left_to_watch_it(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    [pid] = {(await result_of(box, "whoami"))["pid"]}
    await box.pool.close()
    assert not is_alive(pid)
    assert not zombies_of(os.getpid())


async def test_a_cancel_while_the_app_is_imported_gives_the_job_back(box: Box) -> None:
    cancel = Cancel()
    running = asyncio.create_task(box.run("whoami", app="tests.worker_processes.broken.hangs:app", cancel=cancel))
    while not box.pool.pids:  # noqa: ASYNC110 - until there is a child
        await asyncio.sleep(0)
    cancel.set(CancelReason.DRAIN)
    ended = await running
    assert ended.stopped
    assert ended.ending == Released("stopped before its child process was ready", counted=False)


# --- an app that does not import -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("tests.worker_processes.broken.raises:app", "RuntimeError: the settings file is missing"),
        ("tests.worker_processes.broken.exits:app", "killed by SIGKILL"),
        ("tests.worker_processes.broken.not_an_app:app", "to be a Holdfast app, found int"),
        ("tests.worker_processes.broken.nowhere:app", "No module named 'tests.worker_processes.broken.nowhere'"),
        ("tests.worker_processes.toy:nothing", "has no attribute 'nothing'"),
    ],
)
async def test_an_app_that_can_not_be_imported_fails_the_attempt_with_the_reason(box: Box, app: str, told: str) -> None:
    ended = await box.run("whoami", app=app)
    assert isinstance(ended.ending, Failed)
    assert told in ended.ending.error.text
    assert ended.ending.retryable
    # The pool is as good as before.
    assert await result_of(box, "doubled", number=4) == 8
