"""What an exporter was not told of is known after snapshots and restarts: also that a person purged a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from holdfast.job import facts as f
from holdfast.job.commands import Delete
from holdfast.job.ledger import Ledger
from holdfast.job.ledger.snapshot import records_of, restore
from holdfast.job.state import State
from holdfast.stores.journal.folding import Changes
from holdfast.testing.contract.feed import feed, told
from holdfast.wal import OsFiles, read_snapshot
from tests.journal.simulated import assert_same

if TYPE_CHECKING:
    from holdfast.job.model import Job
    from tests.journal.harness import FolderHarness


async def snapshot(h: FolderHarness) -> None:
    """Make one now, and see that it says what the live ledger does."""
    assert h.store._keeper is not None
    folded = await asyncio.to_thread(h.store._keeper.take)
    ledger = Ledger()
    restore(ledger, read_snapshot(OsFiles(h.folder), folded.number))
    assert_same(ledger, h.store.ledger)


async def exported_job(h: FolderHarness) -> Job:
    job = await h.in_state(State.SUCCEEDED)
    assert set(await told(h)) == {job.id}
    return job


@pytest.mark.parametrize("snapshots", [0, 1, 3])
async def test_a_purge_while_the_history_is_away_is_told_after_snapshots_and_a_restart(
    h: FolderHarness, snapshots: int
) -> None:
    await feed(h).start_export()
    job = await exported_job(h)
    before = (await feed(h).changes(10)).items
    await h.done(Delete(hard=True), job.id)
    for _ in range(snapshots):
        await snapshot(h)
        await h.in_state(State.SCHEDULED)
    await h.restart()
    found = await told(h)
    assert before == ()
    assert set(found) == {str(job.seq)}
    assert found[str(job.seq)].job is None
    # And when it was told, it is not told for ever.
    await snapshot(h)
    await h.restart()
    assert str(job.seq) not in await told(h)
    assert h.store.ledger.gone == set()


async def test_a_purge_that_was_told_before_the_snapshot_is_not_told_again(h: FolderHarness) -> None:
    await feed(h).start_export()
    first, second = await exported_job(h), await exported_job(h)
    await h.done(Delete(hard=True), first.id)
    receipt = (await feed(h).changes(10)).receipt
    await h.done(Delete(hard=True), second.id)
    await feed(h).exported(receipt)
    assert h.store.ledger.gone == {second.seq}
    await snapshot(h)
    await h.restart()
    assert set(await told(h)) == {str(second.seq)}


async def test_nobody_is_told_of_purges_where_there_is_no_exporter(h: FolderHarness) -> None:
    job = await h.in_state(State.SUCCEEDED)
    await h.done(Delete(hard=True), job.id)
    assert h.store.ledger.gone == set()
    await feed(h).start_export()
    other = await exported_job(h)
    await h.done(Delete(hard=True), other.id)
    assert h.store.ledger.gone == {other.seq}
    await feed(h).stop_export()
    await snapshot(h)
    assert h.store.ledger.gone == set()


def test_a_snapshot_names_all_purges_that_were_not_told() -> None:
    ledger, again = Ledger(), Ledger()
    ledger.replay([f.Exported(on=True, upto=3), f.Forgotten(tuple(range(25_000)))])
    restore(again, records_of(ledger))
    assert (again.exported, again.gone) == (3, set(range(25_000)))


def test_what_retention_lets_go_is_no_purge_by_a_person() -> None:
    changes = Changes(next_seq=5)
    changes.take(f.Purged(1, lapsed=True))
    changes.take(f.Purged(2))
    assert changes.rest == [f.Forgotten((2,))]
