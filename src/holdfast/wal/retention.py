"""What may be forgotten: snapshots beyond the newest two, and segments that both of them make unnecessary.

Measured by the *older* of the two kept snapshots: should the newer turn out to be damaged, the older one and the
segments behind it still give the whole state. FORMAT.md §7, S7 and S8.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.wal import layout
from holdfast.wal.chain import survey
from holdfast.wal.errors import SnapshotDamaged
from holdfast.wal.files import calls
from holdfast.wal.snapshot import check_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.wal.chain import Survey
    from holdfast.wal.files import Files

KEPT: Final = 2  # valid snapshots that stay


class SealedSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that will never change again: frames `first` to `last`, `size` bytes."""

    name: str
    first: int
    last: int
    size: int


class Retirement(msgspec.Struct, frozen=True, kw_only=True):
    """Files that may go. `kept` are the snapshots that were read from end to end to decide it, newest first."""

    kept: tuple[int, ...]
    names: tuple[str, ...]


def sealed_segments(files: Files) -> list[SealedSegment]:
    """All segments that have a successor, oldest first; a snapshot may stand at the `last` of each."""
    with calls(f"{files.path}: looking at segments"):
        found = survey(files, layout.read_identity(files))
        return [
            SealedSegment(name=layout.segment_name(first), first=first, last=last, size=_size(files, first))
            for first, last in _spans(found)
        ]


def _size(files: Files, first: int) -> int:
    handle = files.open(layout.segment_name(first))
    try:
        return files.size(handle)
    finally:
        files.close(handle)


def _spans(found: Survey) -> Iterator[tuple[int, int]]:
    """(first, last) of each segment, by what its successor's header says."""
    headers = [file.header for file in found.segments if file.header]
    for header, following in pairwise(headers):
        yield header.first, following.previous_end


def plan_retirement(files: Files) -> Retirement:
    """Decide what may go; reads both snapshots, changes nothing. Any process may call this."""
    with calls(f"{files.path}: planning retention"):
        identity = layout.read_identity(files)
        found = survey(files, identity)
        kept: list[int] = []
        for number in found.snapshots:
            if len(kept) < KEPT and _is_valid(files, number, identity.store_id if identity else None):
                kept.append(number)
        if len(kept) < KEPT:
            return Retirement(kept=tuple(kept), names=())
        older = kept[-1]
        segments = [layout.segment_name(first) for first, last in _spans(found) if last <= older]
        snapshots = [layout.snapshot_name(number) for number in found.snapshots if number < older]
        return Retirement(kept=tuple(kept), names=(*snapshots, *segments))


def _is_valid(files: Files, number: int, store_id: bytes | None) -> bool:
    try:
        check_snapshot(files, number, store_id)
    except SnapshotDamaged:
        return False
    return True


def retire(files: Files, plan: Retirement | None = None) -> tuple[str, ...]:
    """Remove what `plan` names (made now if not given) and return the names removed. For the owner of the log only."""
    plan = plan or plan_retirement(files)
    with calls(f"{files.path}: removing what two snapshots make unnecessary"):
        # The kept snapshots may have got their names from a process that died before it synced the folder.
        files.sync_folder()
        there = set(files.list())
        if not plan.names or not there.issuperset(map(layout.snapshot_name, plan.kept)):
            return ()
        gone = tuple(name for name in plan.names if name in there)
        for name in gone:
            files.unlink(name)
        files.sync_folder()
        return gone
