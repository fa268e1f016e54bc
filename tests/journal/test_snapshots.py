"""Snapshots: folded from files by another process, checked before they count, and never in anybody's way."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import StoreCorrupt
from holdfast.job import facts as f
from holdfast.job.commands import (
    AttemptRecord,
    ChangeQueue,
    Delete,
    ErrorInfo,
    Failed,
    JobFilter,
    Page,
    RecordAttempts,
    RecordJobs,
    Settlement,
    Succeeded,
)
from holdfast.job.ledger import Ledger
from holdfast.job.ledger.snapshot import Head, cut, joined, records_of, restore
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End, State
from holdfast.stores.journal import JournalOptions, fold_main
from holdfast.stores.journal.folding import Changes, Folded, fold_snapshot
from holdfast.stores.journal.recovery import recover
from holdfast.testing.contract.harness import QUEUE
from holdfast.wal import NotReady, OsFiles, publish_snapshot, read_snapshot
from holdfast.wal.layout import snapshot_name
from tests.features import feature
from tests.journal.harness import FolderHarness
from tests.journal.simulated import TINY, SimHarness, assert_same, replayed, restored, unthreaded
from tests.wal.disk import Killed, SimDisk

if TYPE_CHECKING:
    pass

SMALL = JournalOptions(segment_bytes=1024 * 1024, snapshot_interval=0.1, snapshot_bytes=16 * 1024, freeze=False)


def taken(h: FolderHarness) -> Folded:
    """Make a snapshot now."""
    assert h.store._keeper is not None
    return h.store._keeper.take()


async def lived(h: Any, count: int = 40) -> None:
    """Some jobs in every state, and a few that are gone."""
    run = getattr(h, "carried_out", None) or _as_it_is
    jobs = await run(h.add_many(count, payload=b'"' + b"x" * 100 + b'"'))
    claims = await run(h.claim(count // 2))
    for n, claim in enumerate(claims):
        ending = (
            Succeeded(b"1"),
            Failed(ErrorInfo("E", "e"), retryable=False),
            Failed(ErrorInfo("E", "e"), retry_in=50),
        )
        await run(h.store.settle([Settlement(claim, ending[n % 3])]))
    await run(h.add_many(3, delay=100.0, key="k", unique=None))
    await run(h.order(Delete(hard=True), jobs[-1].id))


async def _as_it_is(call: Any) -> Any:
    return await call


# --- what a snapshot is --------------------------------------------------------------------------------------------


@feature("B4", "B17", "B29", "BW2")
async def test_a_snapshot_made_by_another_process_is_the_state_of_the_live_one(h: FolderHarness) -> None:
    await lived(h)
    folded = await asyncio.to_thread(taken, h)
    ledger = Ledger()
    assert restore(ledger, read_snapshot(OsFiles(h.folder), folded.number)) == folded.jobs == len(h.store.ledger.table)
    assert_same(ledger, h.store.ledger)
    assert list(joined(read_snapshot(OsFiles(h.folder), folded.number))) == list(records_of(ledger))


async def test_a_snapshot_over_another_has_all_reports_once(h: FolderHarness) -> None:
    """Told before the first one, between the two, otherwise in between, and of a record that is gone by then."""

    async def report(job_id: str, number: int, seconds: float) -> None:
        at = h.clock.now()
        said = Attempt(number, 0, "", "w", at - seconds, end=End.SUCCEEDED, ended_at=at, duration=seconds)
        await h.store.run(RecordAttempts((AttemptRecord(job_id, said),)))

    for job_id in ("stays", "goes"):
        record = Job(seq=0, id=job_id, task="t", state=State.RUNNING, last=Attempt(1, 0, "", "w", h.clock.now()))
        await h.store.run(RecordJobs((record,)))
        await report(job_id, 1, 2.0)
    await asyncio.to_thread(taken, h)
    await report("stays", 2, 3.0)
    await h.done(Delete(hard=True), "goes")
    await h.add_many(3)
    folded = await asyncio.to_thread(taken, h)
    ledger = Ledger()
    restore(ledger, read_snapshot(OsFiles(h.folder), folded.number))
    assert_same(ledger, h.store.ledger)
    hour = int(h.clock.now() // 3_600)
    assert [row[2:] for row in ledger.reports.hour(hour)] == [(3, 3, 7_000_000)]


@feature("B31", "B52")
async def test_health_tells_of_the_newest_snapshot_and_how_much_came_since(h: FolderHarness) -> None:
    assert h.store.health is not None
    assert h.store.health.snapshots.last == 0
    await lived(h)
    grown = h.store.health.snapshots.since_bytes
    folded = await asyncio.to_thread(taken, h)
    state = h.store.health.snapshots
    assert (state.last, state.jobs, state.size, state.made) == (folded.number, folded.jobs, folded.size, 1)
    assert state.since_bytes == 0 < grown
    await h.add()
    assert 0 < h.store.health.snapshots.since_bytes < grown


@feature("B32")
async def test_a_snapshot_is_a_fraction_of_its_jobs_as_json_and_its_file_says_when_it_was_made(
    h: FolderHarness,
) -> None:
    await lived(h, 200)
    before = max(path.stat().st_mtime for path in h.folder.iterdir())
    folded = await asyncio.to_thread(taken, h)
    file = h.folder / snapshot_name(folded.number)
    jobs = (await h.store.find(JobFilter(), Page(limit=1_000))).items
    as_json = sum(len(msgspec.json.encode(msgspec.structs.asdict(job))) for job in jobs)
    assert file.stat().st_size == folded.size < as_json / 2
    assert file.stat().st_mtime >= before


async def test_recovery_reads_the_newest_snapshot_and_only_what_came_after_it(h: FolderHarness) -> None:
    await lived(h)
    folded = await asyncio.to_thread(taken, h)
    await h.add_many(2)
    await h.restart()
    found = h.store.recovery
    assert found is not None
    assert (found.snapshot, found.snapshot_jobs, found.frames) == (folded.number, folded.jobs, 1)
    assert h.faults() == []


async def test_only_changed_jobs_are_folded_and_those_that_are_gone_are_left_out(h: FolderHarness) -> None:
    await h.add_many(100)
    first = await asyncio.to_thread(taken, h)
    await h.claim_and_settle(Succeeded(b"1"))
    second = await asyncio.to_thread(taken, h)
    assert (first.changed, second.changed, second.jobs) == (100, 1, 100)


async def test_jobs_that_were_purged_since_the_last_snapshot_are_not_in_the_next(h: FolderHarness) -> None:
    await h.store.change_queue(ChangeQueue(name=QUEUE, create=True, keep_succeeded_count=1))
    _, early, late, other = await h.add_many(4)
    await h.claim_and_settle(Succeeded(b"1"))
    await asyncio.to_thread(taken, h)
    await h.claim_and_settle(Succeeded(b"1"))
    await h.store.rescue()  # retention: nothing else is heard of the first between the two
    assert [job.id for job in await h.all_jobs()] == [early.id, late.id, other.id]
    for job in (early, late):
        assert (await h.order(Delete(hard=True), job.id)).done
    folded = await asyncio.to_thread(taken, h)
    assert (folded.jobs, folded.changed) == (1, 3)
    await h.restart()
    assert [job.id for job in await h.all_jobs()] == [other.id]
    assert h.faults() == []


async def test_after_a_restart_retention_still_removes_what_finished_first(h: FolderHarness) -> None:
    await h.store.change_queue(ChangeQueue(name=QUEUE, create=True, keep_succeeded_count=1))
    early, late = await h.add_many(2)
    claims = {claim.id: claim for claim in await h.claim()}
    for job in (late, early):
        await h.settle(claims[job.id], Succeeded(b"1"))
        h.clock.advance(1.0)
    await asyncio.to_thread(taken, h)
    await h.restart()
    await h.store.rescue()
    assert [job.id for job in await h.all_jobs()] == [early.id]


@feature("B28", "B33", "BW16")
async def test_old_segments_go_when_two_snapshots_reach_past_them(h: FolderHarness) -> None:
    def there() -> tuple[int, int]:
        return len(list(h.folder.glob("*.log"))), len(list(h.folder.glob("*.snap")))

    seen = []
    for _ in range(4):
        await h.add_many(10)
        await asyncio.to_thread(taken, h)
        seen.append(there())
    assert seen == [(2, 1), (2, 2), (2, 2), (2, 2)]
    await h.restart()
    assert await h.store.count(JobFilter()) == 40


@feature("BW12")
async def test_a_damaged_newest_snapshot_is_reported_and_the_one_before_it_is_used(h: FolderHarness) -> None:
    for _ in range(3):
        await lived(h, 10)
        await asyncio.to_thread(taken, h)
    await h.store.close()
    before = {job.id: job for job in h.store.ledger.table.values()}
    newest = max(h.folder.glob("*.snap"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    await h.start()
    assert {job.id for job in await h.all_jobs()} == set(before)
    assert h.store.recovery is not None
    assert [notice.file for notice in h.store.recovery.notices] == [newest.name]
    # The next snapshot starts from what recovery used, and all is well again.
    await asyncio.to_thread(taken, h)
    await h.restart()
    assert {job.id for job in await h.all_jobs()} == set(before)


@feature("B30")
def test_a_snapshot_of_a_newer_version_is_refused() -> None:
    with pytest.raises(StoreCorrupt, match="newer Holdfast"):
        restore(Ledger(), [b"H" + msgspec.msgpack.encode(Head(2, 1))])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda records: records[1:],
        lambda records: records[:-1],
        lambda records: [records[0], b"?what", *records[1:]],
        lambda records: [*records[:-1], b"+half"],
    ],
    ids=["no head", "no end", "an unknown record", "half a record"],
)
def test_a_snapshot_with_a_part_missing_is_refused(spoil: Any) -> None:
    records = spoil(list(records_of(Ledger())))
    with pytest.raises(StoreCorrupt, match="snapshot: expected"):
        restore(Ledger(), records)


async def test_records_that_do_not_decode_are_refused_by_the_number_of_their_snapshot(h: FolderHarness) -> None:
    await h.add()
    log = h.store._log
    assert log is not None
    number = log.rotate()
    assert await asyncio.to_thread(log.wait_synced, number)
    publish_snapshot(OsFiles(h.folder), number, [next(iter(records_of(Ledger()))), b"J12345678garbage"])
    with pytest.raises(StoreCorrupt, match=f"snapshot {number}: .*move the file away"):
        await h.restart()


@given(st.lists(st.binary(max_size=40).map(lambda body: b"J" + body), max_size=8), st.integers(2, 9))
def test_records_that_are_cut_are_joined_to_what_they_were(records: list[bytes], part: int) -> None:
    pieces = list(cut(records, part))
    assert all(len(piece) <= part + 1 for piece in pieces)
    assert list(joined(pieces)) == records


async def test_a_job_larger_than_a_frame_comes_through_a_snapshot(h: FolderHarness) -> None:
    text = "long " * 12_000
    attempt = Attempt(1, 1, "i", "w", 1.0, End.FAILED, 2.0, error=text, traceback=text)
    past = tuple(Attempt(n, n, "i", "w", 1.0, End.FAILED, 2.0, error=text, traceback=text) for n in range(1, 200))
    job = Job(seq=1, id="big", task="t", state=State.FAILED, past=past, last=attempt, finished_at=2.0)
    records = list(records_of_jobs(job))
    assert len(records[1]) > 16 * 1024 * 1024
    ledger = Ledger()
    restore(ledger, cut(records))
    assert ledger.job("big") == job


def records_of_jobs(*jobs: Job) -> list[bytes]:
    """A state of a few jobs, as records."""
    ledger = Ledger()
    for job in jobs:
        ledger.restore_job(job)
    return list(records_of(ledger))


# --- how it is made ------------------------------------------------------------------------------------------------


@feature("B57")
async def test_facts_about_a_job_that_never_was_are_refused() -> None:
    changes = Changes(next_seq=5)
    changes.take(f.Refused(3, 1, 1.0, "progress"))  # a late worker may speak of a purged job
    changes.assert_used()
    changes.take(f.Succeeded(3, 1, 1.0))
    with pytest.raises(StoreCorrupt, match="Succeeded speaks of job seq 3"):
        changes.assert_used()


async def test_frames_that_can_not_be_folded_are_refused_by_number() -> None:
    disk = SimDisk()
    log = recover(disk, TINY, unthreaded).log
    number = log.append([f.encode_facts([f.Added(Job(seq=1, id="x", task="t")), f.Purged(1)])])
    end = log.rotate()
    log.pump()
    with pytest.raises(StoreCorrupt, match=f"frame {number}: "):
        fold_snapshot(disk, end)


async def test_a_snapshot_that_reads_back_wrong_never_counts() -> None:
    class LyingDisk(SimDisk):
        def read(self, handle: int, size: int, offset: int) -> bytes:
            data = super().read(handle, size, offset)
            name = self._open[handle][1]
            return data[:-1] + b"?" if name.startswith("snapshot-") and size > 1_000 else data

    h = SimHarness(LyingDisk())
    await h.start()
    await lived(h)
    with pytest.raises(StoreCorrupt):
        h.snapshot()
    assert not [name for name in h.disk.list() if name.endswith((".snap", ".tmp")) and "spare" not in name]


@pytest.mark.parametrize("seed", range(12))
async def test_power_may_fail_at_any_moment_of_a_folding(seed: int) -> None:
    draw = random.Random(seed)
    h = SimHarness()
    await h.start()
    for turn in range(3):
        await lived(h, 12)
        state = {job.id: job for job in h.store.ledger.table.values()}
        h.disk.die_after(draw.randrange(1, 120))
        try:
            h.snapshot()
        except Killed:
            h.disk.revive()
        h.disk.before = None
        await h.cut(draw)
        assert {job.id for job in h.store.ledger.table.values()} == set(state), f"turn {turn}"
        assert h.faults() == []
        assert not [name for name in h.disk.list() if name.startswith("snapshot-")]


@feature("B44", "B48")
async def test_snapshot_and_tail_are_the_whole_log_at_every_point() -> None:
    h = SimHarness()
    await h.start()
    points = []
    for _ in range(6):
        await lived(h, 8)
        points.append(h.snapshot(clear=False).number)
    end = h.log.synced
    whole = replayed(h.disk, end)
    for point in points:
        assert_same(restored(h.disk, point, end), whole)
        assert_same(restored(h.disk, point, point), replayed(h.disk, point))


@feature("BW9")
async def test_a_snapshot_stands_only_where_a_sealed_segment_ends() -> None:
    h = SimHarness()
    await h.start()
    await lived(h)
    with pytest.raises(NotReady):
        fold_snapshot(h.disk, h.log.synced)


async def test_the_process_that_folds_says_what_it_did_or_why_not(
    h: FolderHarness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.nice", lambda _: 0)  # this process is not the folder's own
    await lived(h)
    log = h.store._log
    assert log is not None
    number = log.rotate()
    assert await asyncio.to_thread(log.wait_synced, number)
    assert fold_main.main([str(h.folder), str(number), "-1"]) == 0
    assert f'"number":{number}' in capsys.readouterr().out
    assert fold_main.main([str(h.folder), str(number + 1), "0"]) == 1
    assert "sealed segment" in capsys.readouterr().err
