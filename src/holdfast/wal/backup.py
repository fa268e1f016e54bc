"""Copies of a journal: `backup` beside a live writer, `restore` into an empty folder. FORMAT.md §8."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ConfigError
from holdfast.wal import layout, segment
from holdfast.wal.errors import LogDamaged, LogIO, SnapshotDamaged
from holdfast.wal.files import calls, opened, write_all
from holdfast.wal.layout import Identity, Mark, MarkFile
from holdfast.wal.recovery import copy, keep
from holdfast.wal.segment import Cursor
from holdfast.wal.snapshot import check_snapshot, read_snapshot, write_snapshot
from holdfast.wal.verify import judge

if TYPE_CHECKING:
    from holdfast.wal.chain import SegmentFile, Survey
    from holdfast.wal.files import Files
    from holdfast.wal.segment import SegmentHeader
    from holdfast.wal.verify import Verdict

#: An epoch counts starts in its low bits. Above them stands 0, and in a restored journal a number drawn at random: so two
#: that were restored from one backup have no epoch in common, however often each is started.
COUNT_BITS: Final = 32
EPOCH_STEP: Final = 1024  # more than the starts that a lost store can have made since its backup
#: The count of a restored journal goes by the time as well, ten minutes each since 2024: who is restored later counts higher.
_ZERO: Final = 1_704_067_200
_COUNTED: Final = 600
NUMBER_LIMIT: Final = 2**64
_LOOKS: Final = 5


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """A finished backup or restore: frames up to `last`, the names of the files, their bytes."""

    last: int
    names: tuple[str, ...]
    size: int


def backup(files: Files, target: Files) -> BackedUp:
    """Copy a journal, which may be in use, into an empty folder: all that was durable when this began.

    Sealed segments and snapshots get a second name where both folders lie on one file system, else they are copied.
    Raises LogDamaged if the journal is damaged, ConfigError if `target` is not empty, LogIO.
    """
    _assert_empty(target)
    with calls(f"{target.path}: writing a backup of {files.path}"):
        for _ in range(_LOOKS - 1):
            try:
                return _backup(files, target)
            except (FileNotFoundError, LogDamaged, LogIO):
                # The writer may have gone on in between: it rotated, or removed what two snapshots make unnecessary.
                _clear(target)
        return _backup(files, target)


def _assert_empty(target: Files) -> None:
    if target.list():
        raise ConfigError(f"{target.path}: expected an empty or missing folder, found files in it. Choose another one.")
    with calls(f"{target.path}: making the folder"):
        target.make_folder()


def _clear(target: Files) -> None:
    for name in target.list():
        target.unlink(name)


def _backup(files: Files, target: Files) -> BackedUp:
    verdict = _sound(files)
    found, end = verdict.found, verdict.end
    assert end is not None
    last = found.mark.durable if found.mark else end.number
    for number in _valid_snapshots(files, found):
        keep(files, layout.snapshot_name(number), layout.snapshot_name(number), into=target)
    for file in found.segments:
        if file.header is not None and file.first <= last:
            if _is_sealed(file, found):
                keep(files, file.name, file.name, into=target)
            else:
                copy(files, file.name, file.name, 0, _offset_behind(files, file, last), into=target)
    return _finish(target, Identity(_id(found)), Mark(last, found.epoch))


def restore(source: Files, target: Files, *, now: float | None = None) -> BackedUp:
    """Make a store of its own, in an empty folder, from a backup or any stopped journal.

    It gets a new store id and new epochs, which neither the lost store has nor another that is restored from the same
    backup, so that tokens of both are dead here. now: seconds since 1970; None: by the clock. Raises LogDamaged if the
    source is damaged, ConfigError if `target` is not empty, LogIO.
    """
    _assert_empty(target)
    with calls(f"{target.path}: restoring {source.path}"):
        verdict = _sound(source)
        found, end = verdict.found, verdict.end
        assert end is not None
        identity = Identity(os.urandom(16))
        epoch = _epoch(found.epoch, time.time() if now is None else now)
        for number in _valid_snapshots(source, found):
            info = msgspec.structs.replace(check_snapshot(source, number), store_id=identity.store_id, epoch=epoch)
            write_snapshot(target, layout.snapshot_name(number), info, read_snapshot(source, number))
        for file in found.segments:
            if file.header is not None:
                header = msgspec.structs.replace(file.header, store_id=identity.store_id, epoch=epoch)
                _rewrite(source, target, file, header)
        return _finish(target, identity, Mark(end.number, epoch))


def _epoch(known: int, now: float) -> int:
    """Return an epoch that follows the known one, and that nobody else has."""
    count = max(known % (1 << COUNT_BITS) + EPOCH_STEP, int(now - _ZERO) // _COUNTED)
    drawn = 1 + int.from_bytes(os.urandom(4), "big") // 2
    return (drawn << COUNT_BITS) + count


def _sound(files: Files) -> Verdict:
    """What an open would find; raises what it would refuse with."""
    identity = layout.read_identity(files)
    if identity is None:
        raise LogDamaged(layout.FORMAT, 0, "the file is missing: there is no journal here")
    verdict = judge(files, identity)
    if verdict.damage is not None:
        raise verdict.damage
    return verdict


def _id(found: Survey) -> bytes:
    assert found.identity is not None
    return found.identity.store_id


def _valid_snapshots(files: Files, found: Survey) -> list[int]:
    valid = []
    for number in found.snapshots:
        try:
            check_snapshot(files, number, _id(found))
        except SnapshotDamaged:
            continue
        valid.append(number)
    return valid


def _is_sealed(file: SegmentFile, found: Survey) -> bool:
    """Whether a later segment exists; then this one never changes again."""
    return any(other.header and other.first > file.first for other in found.segments)


def _offset_behind(files: Files, file: SegmentFile, last: int) -> int:
    """Where the frames of a segment end if nothing above `last` counts."""
    assert file.header is not None
    with opened(files, file.name) as handle:
        cursor = Cursor(files, file.name, handle, file.header)
        offset = cursor.offset
        for frame in cursor:
            if frame.number > last:
                break
            offset = cursor.offset
    return offset


def _rewrite(source: Files, target: Files, file: SegmentFile, header: SegmentHeader) -> None:
    """Copy the valid frames of a segment under another header; its salt stays, so the frames remain as they are."""
    size = _offset_behind(source, file, NUMBER_LIMIT)
    copy(source, file.name, file.name, 0, size, into=target)
    with opened(target, file.name, write=True) as handle:
        write_all(target, handle, segment.encode_header(header), 0)
        target.sync(handle)


def _finish(target: Files, identity: Identity, mark: Mark) -> BackedUp:
    """MARK, and at last FORMAT, which makes the folder a store."""
    mark_file = MarkFile(target)
    mark_file.settle(mark)
    mark_file.close()
    target.make_folder(layout.QUARANTINE)
    target.sync_folder()
    layout.write_identity(target, identity)
    names = tuple(name for name in target.list() if layout.is_ours(name))
    size = 0
    for name in names:
        with opened(target, name) as handle:
            size += target.size(handle)
    return BackedUp(last=mark.durable, names=names, size=size)
