"""How scripts run on a file: threads, shared transactions, locks of others, forks."""

import asyncio
import gc
import multiprocessing
import os
import sqlite3
import threading
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import DuplicateJob, StoreClosed, StoreUnavailable
from holdfast.job.commands import Beat, Enqueue
from holdfast.job.model import Instance, NewJob
from holdfast.job.state import State
from holdfast.stores.sql.script import Script, Statement, Step
from tests.features import feature
from tests.sql.sqlite.harness import FileHarness

#: Seconds of real time after which something that should come at once is given up.
BOUND = 60.0


@pytest.fixture
async def h(tmp_path: Path) -> AsyncIterator[FileHarness]:
    harness = FileHarness(tmp_path / "queue.db")
    await harness.open()
    yield harness
    await harness.close()


def other(h: FileHarness) -> sqlite3.Connection:
    """A connection of somebody else to the file."""
    return sqlite3.connect(h.file, isolation_level=None, timeout=0)


async def test_the_file_keeps_a_log_and_syncs_each_commit(h: FileHarness) -> None:
    def settings(_step: Step) -> Script[list[Any]]:
        mode = yield Statement("PRAGMA journal_mode")
        synchronous = yield Statement("PRAGMA synchronous")
        return [mode[0][0], synchronous[0][0]]

    assert await h.store._write(settings) == ["wal", 2]


async def test_calls_that_come_together_share_a_transaction_and_none_its_failure(h: FileHarness) -> None:
    await h.add(id="taken", own_id=True)
    new = [h.new(id=f"job-{number}", own_id=True) for number in range(10)]
    bad = h.new(id="taken", own_id=True)
    calls = [h.store.enqueue([job]) for job in (*new[:5], bad, *new[5:])]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [list] * 5 + [DuplicateJob] + [list] * 5
    assert (await h.store.stats()).total(State.QUEUED) == 11
    assert h.faults() == []


async def test_a_batch_that_is_refused_in_its_middle_stores_nothing(h: FileHarness) -> None:
    await h.add(id="taken", own_id=True)
    with pytest.raises(DuplicateJob):
        await h.store.enqueue([h.new(), h.new(id="taken", own_id=True), h.new()])
    assert (await h.store.stats()).total(State.QUEUED) == 1


async def test_a_script_that_fails_half_way_leaves_nothing(h: FileHarness) -> None:
    def half(step: Step) -> Script[None]:
        yield from step.db.hot.enqueue(step, Enqueue(jobs=(h.new(),)))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await h.store._write(half)
    several = await asyncio.gather(*(h.store._write(half) for _ in range(3)), h.add(), return_exceptions=True)
    assert [type(one) for one in several[:3]] == [ZeroDivisionError] * 3
    assert (await h.store.stats()).total(State.QUEUED) == 1


async def test_a_writer_waits_for_the_lock_of_another_process(h: FileHarness) -> None:
    connection = other(h)
    connection.execute("BEGIN IMMEDIATE")
    adding = asyncio.create_task(h.add())
    reading = await h.store.stats()  # readers never wait
    assert reading.total(State.QUEUED) == 0
    assert not adding.done()
    connection.execute("COMMIT")
    connection.close()
    assert (await asyncio.wait_for(adding, BOUND)).state is State.QUEUED


async def test_a_lock_that_is_held_too_long_is_told_and_nothing_was_stored(tmp_path: Path) -> None:
    h = FileHarness(tmp_path / "queue.db", busy_timeout=0.05)
    await h.open()
    connection = other(h)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="long transaction"):
        await h.add()
    connection.execute("COMMIT")
    connection.close()
    await h.add()
    assert (await h.store.stats()).total(State.QUEUED) == 1
    await h.close()


@feature("T22")
async def test_a_wait_is_woken_by_another_process(h: FileHarness) -> None:
    answer = await h.wanted()
    waiting = asyncio.create_task(h.store.wait([h.queue], answer.cursor, 600.0))
    await asyncio.sleep(0)
    neighbour = FileHarness(h.file, h.clock)
    await neighbour.open()
    await neighbour.add()
    assert await asyncio.wait_for(waiting, BOUND) is True
    assert len(await h.claim()) == 1
    await neighbour.close()


async def test_what_another_did_between_claim_and_wait_is_not_missed(h: FileHarness) -> None:
    neighbour = FileHarness(h.file, h.clock)
    await neighbour.open()
    for _ in range(5):
        answer = await h.wanted()
        await neighbour.add()
        assert await asyncio.wait_for(h.store.wait([h.queue], answer.cursor, 600.0), BOUND) is True
        await h.settle((await h.claim())[0])
    await neighbour.close()


async def test_an_idle_process_writes_nothing_and_wakes_nobody(h: FileHarness) -> None:
    answer = await h.wanted()
    neighbour = FileHarness(h.file, h.clock)
    await neighbour.open()
    await h.store.wait([h.queue], answer.cursor, 0.0)
    seen = await h.store._file.data_version()  # type: ignore[attr-defined]
    for _ in range(3):
        assert await neighbour.claim() == ()
    assert await h.store._file.data_version() == seen  # type: ignore[attr-defined]
    await neighbour.close()


async def test_another_process_sees_a_job_end(h: FileHarness) -> None:
    neighbour = FileHarness(h.file, h.clock)
    await neighbour.open()
    job = await h.add()
    waiting = asyncio.create_task(neighbour.store.finished([job.id], 600.0))
    await h.claim_and_settle()
    [ended] = await asyncio.wait_for(waiting, BOUND)
    assert ended.state is State.SUCCEEDED
    await neighbour.close()


async def test_a_heart_beats_from_a_thread_and_loop_of_its_own(h: FileHarness) -> None:
    await h.add()
    await h.claim_one("i1")
    beat = Beat(instance=Instance(id="i1", worker="w"), lease=30.0)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(h.store.heartbeat(beat))))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(found[0].held) == 1


async def test_a_caller_that_is_cancelled_leaves_a_store_that_works(h: FileHarness) -> None:
    connection = other(h)
    connection.execute("BEGIN IMMEDIATE")
    adding = asyncio.create_task(h.add())
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    connection.execute("COMMIT")
    connection.close()
    await h.add()
    assert len(await h.claim()) in (1, 2)  # it may have been stored before its caller left
    assert h.faults() == []


async def test_a_closed_store_refuses_and_may_be_closed_again(h: FileHarness) -> None:
    await h.store.close()
    await h.store.close()
    for call in (h.add(), h.claim(), h.store.stats()):
        with pytest.raises(StoreClosed):
            await call
    await h.store.open()
    await h.add()


async def test_closing_lets_go_of_the_threads_and_the_file(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(3):
            h = FileHarness(tmp_path / "queue.db")
            await h.open()
            await h.add(id=f"job-{number}")
            await h.close()
        gc.collect()
    assert set(threading.enumerate()) == before
    links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [link for link in links if link.startswith(str(tmp_path / "queue.db"))]


def _in_child(file: Path, harness: FileHarness, told: Any) -> None:
    async def work() -> None:
        await harness.store.enqueue([NewJob(id="of-the-child", task="t")])
        await harness.store.close()

    asyncio.run(work())
    told.send(sorted(path.name for path in file.parent.iterdir()))
    told.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_the_child_of_a_fork_uses_connections_of_its_own(h: FileHarness) -> None:
    await h.add(id="of-the-parent", own_id=True)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(h.file, h, there))
    child.start()
    there.close()
    assert await asyncio.to_thread(here.poll, BOUND)
    await asyncio.to_thread(child.join)
    here.close()
    assert child.exitcode == 0
    child.close()
    await h.add(id="of-the-parent-later", own_id=True)
    ids = [job.id for job in await h.all_jobs()]
    assert ids == ["of-the-parent", "of-the-child", "of-the-parent-later"]
    assert h.faults() == []


@feature("T24")
async def test_time_never_steps_back_in_a_process_when_the_clock_does(h: FileHarness) -> None:
    first = await h.add()
    claim = await h.claim_one()
    h.clock.step(-3_600.0)
    second = await h.add()
    assert second.created_at == first.created_at
    assert (await h.store.rescue()).lost == 0
    assert (await h.settle(claim)).state is State.SUCCEEDED
    assert len(await h.claim()) == 1
