"""Nothing that anybody is told can be lost: each answer waits for the disk, and many wait for one sync."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.errors import DuplicateJob, StoreClosed
from holdfast.job.commands import Beat, JobFilter, Page, Settlement, Succeeded
from holdfast.job.model import Instance
from holdfast.stores.journal import JournalOptions, JournalStore
from holdfast.testing.contract.harness import QUEUE
from tests.features import feature
from tests.journal.disks import SteeredDisk
from tests.journal.harness import FolderHarness

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path


async def held(h: FolderHarness, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a call whose sync begins and does not end."""
    h.disk.hold()
    task = asyncio.ensure_future(call)
    await asyncio.to_thread(h.disk.begun.wait, 60)
    return task


async def turn() -> None:
    """Let everything that can go on, go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@feature("B23", "B48")
async def test_an_enqueue_is_answered_only_when_it_is_on_the_disk(h: FolderHarness) -> None:
    task = await held(h, h.add())
    await turn()
    assert not task.done()
    h.disk.let_go()
    assert (await task).seq == 1


@feature("B23")
@pytest.mark.parametrize("look", ["jobs", "find", "count", "stats", "queues", "claim"])
async def test_what_is_not_on_the_disk_yet_is_not_shown(h: FolderHarness, look: str) -> None:
    enqueue = await held(h, h.add(id="early"))
    looks = {
        "jobs": lambda: h.store.jobs(["early"]),
        "find": lambda: h.store.find(JobFilter(), Page()),
        "count": lambda: h.store.count(JobFilter()),
        "stats": h.store.stats,
        "queues": h.store.queues,
        "claim": h.claim,
    }
    seen = asyncio.ensure_future(looks[look]())
    await turn()
    assert not seen.done()
    h.disk.let_go()
    await enqueue
    assert await seen


@feature("B9")
async def test_a_duplicate_is_told_only_when_the_first_is_on_the_disk(h: FolderHarness) -> None:
    first = await held(h, h.add(id="one", own_id=True))
    second = asyncio.ensure_future(h.add(id="one", own_id=True))
    await turn()
    assert not second.done()
    h.disk.let_go()
    await first
    with pytest.raises(DuplicateJob):
        await second


async def test_a_worker_is_not_woken_by_a_job_that_is_not_on_the_disk(h: FolderHarness) -> None:
    cursor = (await h.wanted()).cursor
    waiting = asyncio.ensure_future(h.store.wait([QUEUE], cursor, 600.0))
    enqueue = await held(h, h.add())
    await turn()
    assert not waiting.done()
    h.disk.let_go()
    await enqueue
    assert await waiting is True


@feature("B27", "B45", "BW15")
async def test_a_hundred_callers_share_one_sync(h: FolderHarness) -> None:
    first = await held(h, h.add())
    before = h.disk.syncs
    others = [asyncio.ensure_future(h.add()) for _ in range(100)]
    await turn()
    h.disk.let_go()
    await asyncio.gather(first, *others)
    assert h.disk.syncs == before + 1


def test_a_sync_costs_one_wake_up_however_many_wait(folder: Path) -> None:
    class CountingLoop(asyncio.SelectorEventLoop):
        wakes = 0

        def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> None:  # type: ignore[override]
            def counted(*given: object) -> None:
                self.wakes += 1
                callback(*given)

            super().add_reader(fd, counted, *args)

    async def main() -> int:
        disk = SteeredDisk(folder)
        store = JournalStore(disk, JournalOptions(snapshot_interval=0, freeze=False))
        await store.open()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        disk.hold()
        first = asyncio.ensure_future(store.heartbeat(Beat(instance=Instance(id="a", worker="w"))))
        await asyncio.to_thread(disk.begun.wait, 60)
        others = [
            asyncio.ensure_future(store.heartbeat(Beat(instance=Instance(id=f"{n}", worker="w")))) for n in range(200)
        ]
        await turn()
        before = loop.wakes
        disk.let_go()
        await asyncio.gather(first, *others)
        after = loop.wakes
        await store.close()
        return after - before

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        # One for the first sync, one for the other two hundred; a slow loop may hear of both at once.
        assert runner.run(main()) in (1, 2)


async def test_heartbeats_empty_claims_and_reads_cost_no_sync(h: FolderHarness) -> None:
    await h.add()
    [_] = await h.claim()
    beat = Beat(instance=Instance(id="i1", worker="w"))
    await h.store.heartbeat(beat)
    before = h.disk.syncs
    for _ in range(10):
        assert len((await h.store.heartbeat(beat)).held) == 1
        assert await h.claim() == ()
        assert await h.store.count(JobFilter()) == 1
        await h.store.rescue()
    assert h.disk.syncs == before


@feature("B23")
async def test_a_caller_that_gives_up_leaves_its_job_behind(h: FolderHarness) -> None:
    task = await held(h, h.add(id="left"))
    task.cancel()
    await turn()
    assert task.cancelled()
    h.disk.let_go()
    assert (await h.job("left")).id == "left"


async def test_a_heartbeat_thread_with_a_loop_of_its_own_is_answered(h: FolderHarness) -> None:
    await h.add()
    [claim] = await h.claim()
    beats = []

    def beat() -> None:
        beats.append(asyncio.run(h.store.heartbeat(Beat(instance=Instance(id="i1", worker="w")))))

    thread = threading.Thread(target=beat)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert [held.id for signals in beats for held in signals.held] == [claim.id]


async def test_callers_of_many_loops_are_all_answered_and_a_closed_loop_troubles_nobody(h: FolderHarness) -> None:
    async def leave() -> None:
        asyncio.ensure_future(h.add(id="of a loop that ended"))  # noqa: RUF006  # its loop ends before it does
        await asyncio.sleep(0)

    h.disk.hold()
    await asyncio.to_thread(asyncio.run, leave())
    threads = [asyncio.to_thread(asyncio.run, h.add(id=f"thread-{n}")) for n in range(4)]
    waiting = asyncio.gather(*threads)
    await turn()
    h.disk.let_go()
    assert len(await waiting) == 4
    assert await h.store.count(JobFilter()) == 5


@feature("B26", "B47", "BW18")
async def test_close_writes_what_waits_and_answers_who_waits(h: FolderHarness) -> None:
    task = await held(h, h.add(id="late"))
    closing = asyncio.ensure_future(h.store.close())
    await turn()
    h.disk.let_go()
    await closing
    assert (await task).id == "late"
    await h.store.close()
    for call in (h.add(), h.store.count(JobFilter()), h.claim()):
        with pytest.raises(StoreClosed, match="open"):
            await call
    await h.start()
    assert (await h.job("late")).id == "late"


async def test_facts_of_one_step_that_need_several_frames_are_all_there_again(folder: Path) -> None:
    h = FolderHarness(folder, JournalOptions(segment_bytes=64 * 1024, snapshot_interval=0, freeze=False))
    await h.open()
    jobs = await h.add_many(30)
    claims = await h.claim()
    result = b'"' + b"x" * 10_000 + b'"'
    await h.store.settle([Settlement(claim, Succeeded(result)) for claim in claims])
    await h.restart()
    assert [(await h.job(job.id)).result for job in jobs] == [result] * 30
    await h.close()
