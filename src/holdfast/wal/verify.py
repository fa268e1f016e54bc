"""Reading everything and telling what is there: for `holdfast journal verify`, and before a repair. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from holdfast.wal import layout, segment
from holdfast.wal.chain import Chain, Notice, survey
from holdfast.wal.errors import LogDamaged
from holdfast.wal.files import calls, opened
from holdfast.wal.segment import Cursor
from holdfast.wal.snapshot import check_snapshot, newest_valid_snapshot

if TYPE_CHECKING:
    from holdfast.wal.chain import End, SegmentFile, Survey
    from holdfast.wal.files import Files
    from holdfast.wal.layout import Identity
    from holdfast.wal.snapshot import SnapshotInfo

_LOOKS = 3  # beside a live writer, what looks like damage may be gone on a second look


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `first` to `last` are frame numbers; `bad_at` is the offset where validity ends, -1 if it does not.

    A bad file is not yet a loss: the tail of the last segment may be torn, an old segment may be covered by a snapshot.
    Whether the log opens is said by `Report.damage`.
    """

    name: str
    kind: Literal["format", "mark", "segment", "snapshot"]
    size: int
    first: int = 0
    last: int = 0
    items: int = 0
    bad_at: int = -1
    problem: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the folder. `damage` is what an open would refuse with, None if it would succeed.

    `last` is the last valid frame in the chain, `durable` what is known to have been acknowledged at least.
    """

    store_id: str
    epoch: int
    last: int
    durable: int
    snapshot: int
    files: tuple[FileReport, ...]
    notices: tuple[Notice, ...]
    damage: LogDamaged | None

    @property
    def ok(self) -> bool:
        """Whether the log opens and every file is valid."""
        return self.damage is None and all(file.bad_at < 0 for file in self.files)

    @property
    def damaged(self) -> tuple[FileReport, ...]:
        """Files that are damaged though the log may open without them: they were needed if a newer file went bad too.

        The torn tail of the last segment, and a MARK that was never finished, are what a crash leaves, and no damage.
        """
        last = max((file.first for file in self.files if file.kind == "segment"), default=0)
        return tuple(
            file
            for file in self.files
            if file.bad_at >= 0 and file.kind != "mark" and not (file.kind == "segment" and file.first == last)
        )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an open would find: the end of the log, or the damage that makes it refuse."""

    found: Survey
    snapshot: SnapshotInfo | None
    chain: Chain
    damage: LogDamaged | None

    @property
    def end(self) -> End | None:
        """Where the log ends; None if it is damaged."""
        return self.chain.end


def judge(files: Files, identity: Identity | None) -> Verdict:
    """Do what an open does up to the decision, without the lock."""
    found = survey(files, identity)
    newest = newest_valid_snapshot(files, found.snapshots, identity.store_id)[0] if identity else None
    chain = Chain(files, found, start=newest.number + 1 if newest else 1, crc=newest.crc if newest else 0)
    damage = None
    try:
        for _ in chain.frames():
            pass
    except LogDamaged as fault:
        damage = fault
    return Verdict(found=found, snapshot=newest, chain=chain, damage=damage)


def verify(files: Files) -> Report:
    """Read every file of the journal. Never raises for damage: the report tells. Raises LogIO, NewerFormat."""
    with calls(f"{files.path}: verifying the journal"):
        identity, missing = _identity(files)
        verdict = judge(files, identity)
        for _ in range(_LOOKS - 1):
            if verdict.damage is not None:
                verdict = judge(files, identity)
        found = verdict.found
        reports = [_format(files, missing), _mark(files, found)]
        reports += [_snapshot(files, number, identity) for number in reversed(found.snapshots)]
        reports += [_segment(files, file, verdict) for file in found.segments]
        return Report(
            store_id=identity.store_id.hex() if identity else "",
            epoch=found.epoch,
            last=verdict.end.number if verdict.end else 0,
            durable=verdict.chain.evidence.number,
            snapshot=verdict.snapshot.number if verdict.snapshot else 0,
            files=tuple(reports),
            notices=tuple(verdict.chain.notices),
            damage=missing or verdict.damage,
        )


def _identity(files: Files) -> tuple[Identity | None, LogDamaged | None]:
    try:
        identity = layout.read_identity(files)
    except LogDamaged as fault:
        return None, fault
    return identity, None if identity else LogDamaged(layout.FORMAT, 0, "the file is missing: there is no journal here")


def _size(files: Files, name: str) -> int:
    with opened(files, name) as handle:
        return files.size(handle)


def _format(files: Files, fault: LogDamaged | None) -> FileReport:
    size = _size(files, layout.FORMAT) if layout.FORMAT in files.list() else 0
    return FileReport(
        name=layout.FORMAT, kind="format", size=size, bad_at=0 if fault else -1, problem=fault.problem if fault else ""
    )


def _mark(files: Files, found: Survey) -> FileReport:
    size = _size(files, layout.MARK) if layout.MARK in files.list() else 0
    if found.mark is None:
        why = "missing, or neither slot validates; the next open writes it again"
        return FileReport(name=layout.MARK, kind="mark", size=size, bad_at=0, problem=why)
    return FileReport(name=layout.MARK, kind="mark", size=size, last=found.mark.durable)


def _snapshot(files: Files, number: int, identity: Identity | None) -> FileReport:
    name = layout.snapshot_name(number)
    try:
        info = check_snapshot(files, number, identity.store_id if identity else None)
    except LogDamaged as fault:
        size = _size(files, name)
        return FileReport(
            name=name, kind="snapshot", size=size, last=number, bad_at=fault.offset, problem=fault.problem
        )
    return FileReport(name=name, kind="snapshot", size=info.size, last=number, items=info.records)


def _segment(files: Files, file: SegmentFile, verdict: Verdict) -> FileReport:
    size = _size(files, file.name)
    if file.header is None:
        return FileReport(name=file.name, kind="segment", size=size, first=file.first, bad_at=0, problem=file.problem)
    with opened(files, file.name) as handle:
        cursor = Cursor(files, file.name, handle, file.header)
        for _ in cursor:
            pass
        rest = segment.search(files, handle, file.header.seed, cursor.offset)
    claimed = _claimed_end(file, verdict.found)
    bad = rest.end > cursor.offset or cursor.number < claimed
    return FileReport(
        name=file.name,
        kind="segment",
        size=size,
        first=file.first,
        last=cursor.number,
        items=cursor.count,
        bad_at=cursor.offset if bad else -1,
        problem=cursor.why if bad else "",
    )


def _claimed_end(file: SegmentFile, found: Survey) -> int:
    """The number at which this segment ends according to the next one; 0 if there is none."""
    later = (other.header for other in found.segments if other.header and other.first > file.first)
    following = next(later, None)
    return following.previous_end if following else 0
