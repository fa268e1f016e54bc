"""When snapshots are made, and when not: the owner of a journal sees to it while it works."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from holdfast.errors import StoreFull
from holdfast.job.commands import Delete
from holdfast.stores.journal import JournalOptions, JournalStore
from holdfast.stores.journal.folding import Folded, fold_snapshot
from holdfast.stores.journal.keeper import SnapshotFailed
from holdfast.wal import LogFull
from tests.features import feature
from tests.journal.harness import FolderHarness
from tests.journal.test_snapshots import lived, taken

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.wal import Files

SMALL = JournalOptions(segment_bytes=1024 * 1024, snapshot_interval=0.1, snapshot_bytes=16 * 1024, freeze=False)


class Foldings:
    """Stands where the other process is; folds here, and can be told to fail."""

    def __init__(self) -> None:
        self.made = threading.Semaphore(0)
        self.tried = threading.Semaphore(0)
        self.bases: list[int] = []
        self.error: Exception | None = None

    def __call__(self, files: Files, number: int, base: int) -> Folded:
        self.bases.append(base)
        self.tried.release()
        if self.error is not None:
            raise self.error
        folded = fold_snapshot(files, number, None if base < 0 else base)
        self.made.release()
        return folded


async def watched(folder: Path, options: JournalOptions = SMALL) -> tuple[FolderHarness, Foldings]:
    """An open journal that makes snapshots by itself."""
    foldings = Foldings()
    h = FolderHarness(folder, options)
    h.store = h.source = JournalStore(h.disk, options, clock=h.clock, fold=foldings)
    await h.open()
    return h, foldings


@feature("B43")
async def test_a_snapshot_is_made_whenever_the_log_has_grown_enough(folder: Path) -> None:
    h, foldings = await watched(folder)
    for _ in range(3):
        while not foldings.made.acquire(blocking=False):
            await lived(h, 20)  # half the size of the last snapshot must have come, and that grows too
    await h.close()
    assert foldings.bases[0] == 0
    assert foldings.bases == sorted(foldings.bases)
    assert len(list(folder.glob("*.snap"))) <= 2


@pytest.mark.parametrize(
    "options", [{"snapshot_interval": 0.1}, {"snapshot_interval": 0, "snapshot_bytes": 0}], ids=str
)
async def test_no_snapshot_is_made_of_a_log_that_hardly_grew_or_when_none_are_wanted(
    folder: Path, options: dict[str, float]
) -> None:
    h, foldings = await watched(folder, JournalOptions(freeze=False, **options))  # type: ignore[arg-type]  # numbers of two kinds
    await lived(h, 200)
    await h.close()
    assert foldings.bases == []
    assert list(folder.glob("*.snap")) == []


async def test_a_snapshot_that_fails_is_told_and_tried_again_from_a_base_that_is_looked_for(folder: Path) -> None:
    h, foldings = await watched(folder)
    foldings.error = SnapshotFailed("the other process was killed")
    await lived(h, 200)
    assert await asyncio.to_thread(foldings.tried.acquire, timeout=60)
    await h.add()  # the store goes on
    foldings.error = None
    assert await asyncio.to_thread(foldings.made.acquire, timeout=60)
    await h.close()
    assert foldings.bases[:2] == [0, -1]
    assert h.store.health is not None


async def test_the_problem_of_the_last_try_stands_in_the_health_report(folder: Path) -> None:
    h, foldings = await watched(folder)
    foldings.error = StoreFull("no room for it")
    await lived(h, 200)
    for _ in range(2):  # the second try begins after the first was written down
        assert await asyncio.to_thread(foldings.tried.acquire, timeout=60)
    assert h.store.health is not None
    assert h.store.health.snapshots.problem == "no room for it"
    await h.close()


async def test_a_full_disk_ends_no_segment_for_a_snapshot_that_would_not_fit(folder: Path) -> None:
    h = FolderHarness(folder, JournalOptions(segment_bytes=16 * 1024, snapshot_interval=0, freeze=False))
    await h.open()
    h.disk.full = True
    with pytest.raises(StoreFull):
        await asyncio.gather(*[h.add(payload=b'"' + b"x" * 1_000 + b'"') for _ in range(200)])
    h.disk.free = lambda: 0  # type: ignore[method-assign]  # nothing is left at all
    before = len(list(folder.glob("*.log")))
    with pytest.raises(LogFull, match="a snapshot may need"):
        await asyncio.to_thread(taken, h)
    assert len(list(folder.glob("*.log"))) == before
    await h.close()


async def test_a_full_disk_ends_one_segment_at_most_for_a_snapshot_however_often_that_fails(folder: Path) -> None:
    """Under a quota there is room by what the system says, and the snapshot does not fit all the same."""
    options = JournalOptions(segment_bytes=512 * 1024, snapshot_interval=0, freeze=False)
    h, foldings = await watched(folder, options)
    jobs = await h.add_many(3)
    h.disk.full = True

    async def fill() -> None:
        while True:
            await h.add(payload=b'"' + b"x" * 10_000 + b'"')

    with pytest.raises(StoreFull):
        await fill()
    before, foldings.error = len(list(folder.glob("*.log"))), SnapshotFailed("the quota is used up")
    for job in jobs:
        await h.order(
            Delete(hard=True), job.id
        )  # what ends work goes on, and stands in the segment that could be ended
        with pytest.raises(SnapshotFailed):
            await asyncio.to_thread(taken, h)
    assert len(list(folder.glob("*.log"))) <= before + 1
    foldings.error = None
    await asyncio.to_thread(taken, h)
    await h.close()
    await h.start()
    assert h.faults() == []


async def test_closing_ends_a_folding_that_is_at_work(h: FolderHarness) -> None:
    await lived(h)
    making = asyncio.ensure_future(asyncio.to_thread(taken, h))
    while h.store._keeper is not None and h.store._keeper._child is None and not making.done():  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0)
    await h.store.close()
    with pytest.raises(SnapshotFailed, match="was not made"):
        await making
    await h.start()
    assert h.faults() == []
