"""The acceptance scenarios of the embedded store, by their numbers. A18 is in test_kill.py."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from holdfast.job.commands import ChangeQueue, Enqueue, ErrorInfo, JobFilter, Succeeded, TimedOut
from holdfast.job.model import NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.stores.journal import open_journal
from tests.features import feature
from tests.journal.simulated import SimHarness
from tests.wal.disk import SimDisk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journal.harness import FolderHarness


def _no_sync(call: str, name: str) -> None:
    if call == "sync" and name.endswith(".log"):
        raise OSError(5, "the process is being killed")


@feature("A19", "B24")
@pytest.mark.parametrize("zeros", [False, True], ids=["the file ends", "zeros follow"])
async def test_a19_the_last_entry_may_be_cut_at_every_byte(zeros: bool) -> None:
    h = SimHarness()
    await h.start()
    for n in range(5):
        await h.carried_out(h.add(id=f"kept-{n}"))
    begin = h.log._writer.offset
    h.store._apply(Enqueue(jobs=tuple(NewJob(id=f"unsure-{n}", task="t") for n in range(2))))
    h.disk.before = _no_sync
    h.log.pump()  # written, and neither synced nor acknowledged
    h.disk.before = None
    contents = h.disk.killed().contents()
    name = max(known for known in contents if known.endswith(".log"))
    whole = contents[name]
    end = len(whole.rstrip(b"\0")) + 8
    assert end - begin > 200
    for cut in range(begin, end):
        torn = whole[:cut].ljust(len(whole) if zeros else cut, b"\0")
        h.disk = SimDisk({**contents, name: torn})
        await h.start()
        found = {job.id for job in h.store.ledger.table.values()} - {f"kept-{n}" for n in range(5)}
        assert len(h.store.ledger.table) - len(found) == 5, f"cut at {cut}: something acknowledged is lost"
        assert found in (set(), {"unsure-0", "unsure-1"}), f"cut at {cut}: half a batch is there"
        assert h.faults() == []


@feature("A20", "B7")
@pytest.mark.parametrize("snapshot", [False, True], ids=["from the log", "from a snapshot"])
async def test_a20_a_hundred_thousand_jobs_are_recovered_in_less_than_three_seconds(
    folder: Path, snapshot: bool
) -> None:
    store = open_journal(folder, snapshot_interval=0, freeze=False)
    await store.open()
    for start in range(0, 100_000, 5_000):
        await store.enqueue([NewJob(id=f"job-{start + n}", task="t", payload=b'{"n":1}') for n in range(5_000)])
    if snapshot:
        assert store._keeper is not None
        await asyncio.to_thread(store._keeper.take)
    await store.close()
    again = open_journal(folder, snapshot_interval=0, freeze=False)
    await again.open()
    found = again.recovery
    assert found is not None
    assert (found.jobs, found.snapshot_jobs) == (100_000, 100_000 if snapshot else 0)
    assert await again.count(JobFilter(states=(State.QUEUED,))) == 100_000
    assert found.seconds < 3.0  # the one timed promise of the seed; a sixth of it is usual
    await again.close()


@feature("A21", "B42", "BW5")
async def test_a21_a_job_that_always_times_out_ends_as_a_dead_letter_also_over_restarts(h: FolderHarness) -> None:
    job = await h.add(retry=RetryPolicy(max_attempts=5, base=0.0, factor=1.0, cap=0.0))
    await h.claim_and_settle(TimedOut(ErrorInfo("Timeout", "too slow")))
    await h.restart()
    await h.claim_and_settle(TimedOut(ErrorInfo("Timeout", "too slow")))
    await h.claim_one()
    await h.restart()  # stopped while it ran: that attempt is spent too
    await h.claim_and_settle(TimedOut(ErrorInfo("Timeout", "too slow")))
    await h.restart()
    await h.claim_and_settle(TimedOut(ErrorInfo("Timeout", "too slow")))
    await h.restart()
    dead = await h.job(job.id)
    assert dead.state is State.FAILED
    assert [attempt.end for attempt in dead.attempts] == [
        End.TIMED_OUT,
        End.TIMED_OUT,
        End.LOST,
        End.TIMED_OUT,
        End.TIMED_OUT,
    ]
    assert await h.claim() == ()


@feature("B27")
async def test_a_job_costs_the_garbage_collector_nothing(h: FolderHarness) -> None:
    await h.add_many(1_000)  # so many that the figures were counted once, which has its price only the first time
    await h.run_all(Succeeded(b"1"))
    gc.collect()
    before = len(gc.get_objects())
    await h.add_many(1_000, payload=b'{"n":1}')
    await h.run_all(Succeeded(b"1"))
    gc.collect()
    assert len(gc.get_objects()) - before < 50


@feature("B33", "BW16")
async def test_retention_keeps_the_journal_and_the_ledger_small(h: FolderHarness) -> None:
    await h.store.change_queue(ChangeQueue(name="default", create=True, keep_succeeded_count=10))
    for _ in range(3):
        await h.add_many(50)
        await h.run_all(Succeeded(b"1"))
        await h.store.rescue()
    assert await h.store.count(JobFilter()) == 10
    assert h.store._keeper is not None
    folded = await asyncio.to_thread(h.store._keeper.take)
    assert folded.jobs == 10
    await h.restart()
    assert await h.store.count(JobFilter()) == 10
