"""A disk that fails, and a step that breaks: the engine stops serving, says what to do, and comes back from its files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from holdfast.clock import ManualClock
from holdfast.errors import OutcomeUnknown, StoreUnavailable
from holdfast.job.commands import JobFilter, Order, Replay, Selection, Succeeded
from holdfast.job.model import Schedule
from holdfast.job.state import State
from holdfast.stores.journal import JournalStore
from holdfast.testing.contract.harness import QUEUE
from tests.features import feature
from tests.journal.disks import SteeredDisk
from tests.journal.harness import OPTIONS, FolderHarness

if TYPE_CHECKING:
    from pathlib import Path


@feature("B57", "BW13")
async def test_a_failed_sync_is_an_unknown_outcome_and_the_end_of_service(h: FolderHarness) -> None:
    kept = await h.add(id="kept")
    h.disk.fail()
    with pytest.raises(OutcomeUnknown, match="may or may not be stored"):
        await h.add(id="unsure")
    for call in (h.add(), h.job(kept.id), h.claim(), h.store.count(JobFilter()), h.store.rescue()):
        with pytest.raises(StoreUnavailable, match="Check the disk, then start again"):
            await call
    assert h.store.health is not None
    assert h.store.health.log.state == "failed"
    assert not h.store.health.ok


async def test_after_a_failed_sync_the_same_file_is_not_synced_again(h: FolderHarness) -> None:
    h.disk.fail()
    with pytest.raises(OutcomeUnknown):
        await h.add()
    before = h.disk.syncs
    with pytest.raises(StoreUnavailable):
        await h.add()
    await h.store.close()
    assert h.disk.syncs == before


async def test_all_who_wait_are_told_of_a_failed_sync_and_nobody_else_is_answered(h: FolderHarness) -> None:
    h.disk.hold()
    tasks = [asyncio.ensure_future(h.add()) for _ in range(20)]
    waiting = asyncio.ensure_future(h.store.wait([QUEUE], h.store._work.count, 600.0))
    await asyncio.to_thread(h.disk.begun.wait, 60)
    h.disk.fail()
    h.disk.let_go()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, OutcomeUnknown) for answer in answers)
    assert await waiting is True  # a worker that waits comes, and is told by its next claim


async def test_a_store_that_failed_is_opened_again_from_its_files(h: FolderHarness) -> None:
    await h.add(id="kept")
    h.disk.fail()
    with pytest.raises(OutcomeUnknown):
        await h.add(id="unsure")
    await h.store.open()
    assert (await h.job("kept")).state is State.QUEUED
    assert [job.id for job in await h.all_jobs()] in (["kept"], ["kept", "unsure"])
    await h.add(id="unsure-again")
    assert h.faults() == []


class DrawThatBreaks:
    """Chance that runs out after a few ids: a fault in the middle of a step."""

    def __init__(self, ids: int) -> None:
        self.left = ids

    def unit(self) -> float:
        return 0.5

    def job_id(self, now: float) -> str:
        if not self.left:
            raise RuntimeError("no more ids")
        self.left -= 1
        return f"made-by-draw-{self.left}"


async def test_a_step_that_breaks_half_way_ends_the_engine_and_is_not_there_after_the_next_start(folder: Path) -> None:
    h = FolderHarness(folder)
    h.store = h.source = JournalStore(SteeredDisk(folder), OPTIONS, clock=ManualClock(), draw=DrawThatBreaks(1))
    await h.open()
    jobs = await h.add_many(2)
    await h.run_all(Succeeded(b"1"))
    selection = Selection(ids=tuple(job.id for job in jobs))
    with pytest.raises(RuntimeError, match="no more ids"):
        await h.store.control(Order(action=Replay(), selection=selection, who="ann"))
    with pytest.raises(StoreUnavailable):
        await h.store.count(JobFilter())
    await h.store.close()
    await h.start()
    assert [job.id for job in await h.all_jobs()] == [job.id for job in jobs]
    assert h.faults() == []
    await h.close()


async def test_a_step_that_breaks_before_it_changed_anything_harms_nobody(folder: Path) -> None:
    h = FolderHarness(folder)
    h.store = h.source = JournalStore(SteeredDisk(folder), OPTIONS, clock=ManualClock(), draw=DrawThatBreaks(0))
    await h.open()
    [job] = await h.add_many(1)
    await h.run_all(Succeeded(b"1"))
    with pytest.raises(RuntimeError, match="no more ids"):
        await h.store.control(Order(action=Replay(), selection=Selection(ids=(job.id,)), who="ann"))
    assert (await h.job(job.id)).state is State.SUCCEEDED
    await h.close()


async def test_text_that_can_not_be_written_is_made_writable_and_stops_nothing(h: FolderHarness) -> None:
    await h.store.save_schedule(
        Schedule(name="s", rule="@daily", task="t", next_run_at=5.0, description="half \ud800 a pair")
    )
    await h.restart()
    [schedule] = await h.store.schedules()
    assert schedule.description == "half \\ud800 a pair"
