"""Opening: what is found, what it means for claims and tokens, and what is refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec
import pytest

from holdfast.errors import ConfigError, ContentError, StoreCorrupt, StoreError, StoreUnavailable
from holdfast.job import facts as f
from holdfast.job.commands import Beat, ContinueOperation, Define, JobFilter, Order, Pause, Selection, Succeeded
from holdfast.job.ledger import canonical
from holdfast.job.model import Instance, Job, NewJob
from holdfast.job.state import End, State
from holdfast.stores.journal import open_journal
from holdfast.testing.contract.harness import LEASE
from holdfast.wal import LogHeld, NewerFormat, OsFiles, backup, open_log, restore
from tests.features import feature
from tests.journal.harness import FolderHarness

if TYPE_CHECKING:
    from pathlib import Path


@feature("B22", "B30", "B39", "B52", "BW1")
async def test_no_files_are_an_empty_store_and_everything_is_there_again_after_a_restart(h: FolderHarness) -> None:
    found = h.store.recovery
    assert found is not None
    assert (found.fresh, found.jobs, found.epoch) == (True, 0, 1)
    await h.add_many(3)
    await h.claim_and_settle(Succeeded(b"1"))
    before = {job.id: job for job in await h.all_jobs()}
    await h.restart()
    assert {job.id: job for job in await h.all_jobs()} == before
    found = h.store.recovery
    assert found is not None
    assert (found.fresh, found.jobs, found.frames, found.epoch) == (False, 3, 4, 2)
    assert found.seconds > 0


@feature("B48")
async def test_recovering_twice_is_recovering_once(h: FolderHarness) -> None:
    await h.add_many(5)
    await h.claim(2)
    await h.restart()
    once = {job.id: job for job in await h.all_jobs()}
    epoch = h.store.ledger.epoch
    await h.restart()
    assert {job.id: job for job in await h.all_jobs()} == once
    assert h.store.ledger.epoch == epoch + 1


@feature("B3", "B17")
async def test_claims_of_the_stores_own_process_end_at_once_and_those_of_others_get_a_new_lease(
    h: FolderHarness,
) -> None:
    await h.store.heartbeat(Beat(instance=Instance(id="here", worker="w", local=True)))
    await h.store.heartbeat(Beat(instance=Instance(id="there", worker="w", local=False)))
    mine, theirs = await h.add_many(2)
    await h.claim(1, "here")
    claim = await h.claim_one("there")
    h.clock.advance(LEASE * 10)
    await h.restart()
    lost = await h.job(mine.id)
    assert lost.last is not None
    assert (lost.state, lost.last.end) == (State.QUEUED, End.LOST)
    assert h.store.recovery is not None
    assert h.store.recovery.lost == 1
    assert (await h.job(theirs.id)).state is State.RUNNING
    h.clock.advance(LEASE - 1)
    await h.store.rescue()
    assert (await h.settle(claim, Succeeded(b"1"))).state is State.SUCCEEDED


async def test_tokens_grow_over_restarts_and_over_a_restored_backup(h: FolderHarness, tmp_path: Path) -> None:
    job = await h.add()
    tokens = []
    for _ in range(3):
        tokens.append((await h.claim_one()).token)
        await h.restart()
    await h.store.close()
    copy, other = OsFiles(tmp_path / "backup"), tmp_path / "other"
    backup(OsFiles(h.folder), copy)
    await h.start()
    tokens.append((await h.claim_one()).token)  # after the backup: the restored store must not give it again
    restore(copy, OsFiles(other))
    twin = FolderHarness(other)
    await twin.open()
    claim = await twin.claim_one()
    assert claim.id == job.id
    tokens.append(claim.token)
    assert tokens == sorted(set(tokens))
    await twin.close()


async def test_a_bulk_operation_that_a_crash_interrupted_is_finished_at_the_next_start(h: FolderHarness) -> None:
    await h.add_many(2_500)
    order = Order(action=Pause(), selection=Selection(filter=JobFilter(states=(State.QUEUED,))), who="ann")
    begun = await h.store.run(order)
    await h.store.run(ContinueOperation(id=begun.operation.id))  # one batch; the engine stops before the next
    assert 0 < await h.store.count(JobFilter(states=(State.PAUSED,))) < 2_500
    await h.restart()
    assert await h.store.count(JobFilter(states=(State.PAUSED,))) == 2_500


# --- refused -------------------------------------------------------------------------------------------------------


@feature("B57")
async def test_a_second_owner_is_told_who_the_first_one_is(h: FolderHarness) -> None:
    with pytest.raises(LogHeld, match=f"process {os.getpid()} on .* holds LOCK") as caught:
        await open_journal(h.folder).open()
    assert isinstance(caught.value, StoreUnavailable)
    code = (
        "import asyncio, sys\nfrom holdfast.stores.journal import open_journal\n"
        "try: asyncio.run(open_journal(sys.argv[1]).open())\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, h.folder], capture_output=True, text=True, check=True).stdout
    assert told.startswith("LogHeld")
    assert f"process {os.getpid()}" in told
    await h.add()


async def test_a_start_that_was_refused_may_be_tried_again(h: FolderHarness) -> None:
    second = open_journal(h.folder, snapshot_interval=0, freeze=False)
    with pytest.raises(LogHeld):
        await second.open()
    await h.add(id="before")
    await h.store.close()
    await second.open()
    assert await second.count(JobFilter()) == 1
    await second.close()


async def test_an_opening_that_is_cancelled_leaves_the_folder_free(h: FolderHarness) -> None:
    await h.store.close()
    h.disk.hold()
    task = asyncio.ensure_future(h.store.open())
    await asyncio.to_thread(h.disk.begun.wait, 60)
    task.cancel()
    h.disk.let_go()
    with pytest.raises(asyncio.CancelledError):
        await task
    await h.start()


@feature("B24", "B30")
async def test_a_damaged_journal_is_refused_with_file_and_offset_and_left_as_it_is(h: FolderHarness) -> None:
    for _ in range(10):
        await h.add(payload=b'"' + b"x" * 100 + b'"')
    await h.store.close()
    [segment, *_] = sorted(h.folder.glob("*.log"))
    whole = bytearray(segment.read_bytes())
    whole[1_500] ^= 0x40
    segment.write_bytes(whole)
    before = {path.name: path.read_bytes() for path in h.folder.iterdir() if path.is_file()}
    with pytest.raises(StoreCorrupt, match=rf"{segment.name} at byte \d+.*Nothing was changed.*repair"):
        await h.store.open()
    assert {path.name: path.read_bytes() for path in h.folder.iterdir() if path.is_file()} == before


@feature("B30")
async def test_a_journal_of_a_newer_format_is_refused(h: FolderHarness) -> None:
    await h.store.close()
    file = h.folder / "FORMAT"
    data = bytearray(file.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    data[60:64] = crc32(bytes(data[:60])).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(NewerFormat, match="newer Holdfast"):
        await h.store.open()


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (msgspec.msgpack.encode([[99, 1]]), "newer Holdfast may have written it"),
        (b"\x01garbage", "newer Holdfast may have written it"),
        (f.encode_facts([f.Succeeded(5, 1, 1.0)]), "job seq 5, which is not there"),
        (f.encode_facts([f.Added(Job(seq=1, id="x", task="t")), f.Purged(1)]), "no transition"),
        (f.encode_facts([f.QueueDeleted("no such queue")]), "no such queue"),
    ],
    ids=["a newer fact", "no facts", "a fact about nothing", "a fact that can not be", "a name that is not there"],
)
async def test_frames_that_make_no_sense_are_refused_by_number(folder: Path, payload: bytes, why: str) -> None:
    log = open_log(OsFiles(folder))
    number = log.append([payload])
    log.close()
    with pytest.raises(StoreCorrupt, match=rf"frame {number}: .*{why}.*Nothing was changed"):
        await open_journal(folder).open()
    log = open_log(OsFiles(folder))  # the lock was let go
    log.close()


def test_options_that_can_not_be_are_all_told_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError, match="sync: no such option") as caught:
        open_journal(folder, sync="never", fsync=False)
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="snapshot_interval: expected 0 or") as caught:
        open_journal(folder, snapshot_interval=0.001, snapshot_bytes=-1)
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="multiple of 8"):
        open_journal(folder, segment_bytes=4097)
    with pytest.raises(ConfigError, match="snapshot_interval"):
        open_journal(folder, snapshot_interval="soon")


async def test_every_error_of_opening_is_one_of_the_stores(folder: Path) -> None:
    folder.write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="opening the journal"):
        await open_journal(folder).open()


async def test_the_same_state_has_the_same_hash_before_and_after_a_clean_restart(h: FolderHarness) -> None:
    await h.add_many(4)
    await h.run_all()
    await h.store.close()
    before = h.store.ledger
    await h.start()
    after = h.store.ledger
    after.epoch = before.epoch  # each opening begins its own
    assert canonical(after) == canonical(before)


async def test_a_job_of_wrong_types_is_refused_and_the_journal_opens_again(tmp_path: Path) -> None:
    store = open_journal(tmp_path, snapshot_interval=0)
    await store.open()
    await store.define([Define(alias="a")])
    wrong = NewJob(id="wrong", task="a", timeout="30s")  # type: ignore[arg-type]
    with pytest.raises(ContentError, match="timeout"):
        await store.enqueue([NewJob(id="right", task="a"), wrong])
    await store.enqueue([NewJob(id="next", task="a")])
    await store.close()
    await store.open()
    assert [job is not None for job in await store.jobs(["right", "wrong", "next"])] == [False, False, True]
    await store.close()
