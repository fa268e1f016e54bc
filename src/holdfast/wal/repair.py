"""Making a damaged journal open again, at a price that is named before it is paid. FORMAT.md §8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.wal import layout, segment
from holdfast.wal.errors import LogDamaged, LossRefused
from holdfast.wal.files import calls, opened
from holdfast.wal.frame import seed_of
from holdfast.wal.layout import Identity, Mark, MarkFile, segment_name
from holdfast.wal.lock import acquire
from holdfast.wal.recovery import free_name, keep, replace
from holdfast.wal.verify import judge
from holdfast.wal.writer import Options, Start, Writer

if TYPE_CHECKING:
    from holdfast.wal.files import Files
    from holdfast.wal.lock import Lock
    from holdfast.wal.verify import Verdict


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did. `lost` are ranges of frame numbers (first, last) that are no longer part of the log; `backup` is
    the folder inside the journal that holds every file as it was ("" if nothing was changed)."""

    lost: tuple[tuple[int, int], ...] = ()
    backup: str = ""
    done: tuple[str, ...] = ()


def repair(files: Files, *, accept_loss: bool = False, options: Options | None = None) -> Repaired:
    """Make the journal open again. Needs the lock, so no owner may be running.

    Raises LossRefused, which names the frames, if that can not be done without loss and `accept_loss` is not set;
    then nothing was changed. A journal that opens is left alone.
    """
    with calls(f"{files.path}: repairing the journal"):
        lock = acquire(files)
        try:
            identity, done, saved = _identity(files)
            verdict = judge(files, identity)
            if verdict.damage is None:
                return Repaired(backup=saved, done=tuple(done))
            start = _prefix(verdict)
            lost = (max(start.number + 1, verdict.damage.first), _highest(files, verdict, verdict.damage))
            if not accept_loss:
                raise LossRefused([lost], verdict.damage)
            saved = saved or _save(files)
            start = msgspec.structs.replace(start, first=lost[1] + 1)
            done += _cut(files, lock, verdict, start, options or Options())
            return Repaired(lost=(lost,), backup=saved, done=tuple(done))
        finally:
            lock.release()


def _identity(files: Files) -> tuple[Identity, list[str], str]:
    """FORMAT, made again from the segment headers if it is lost."""
    try:
        identity = layout.read_identity(files)
        fault = LogDamaged(layout.FORMAT, 0, "the file is missing")
    except LogDamaged as error:
        identity, fault = None, error
    if identity is not None:
        return identity, [], ""
    ids = _store_ids(files)
    if len(ids) != 1:
        raise LogDamaged(
            layout.FORMAT, 0, f"{fault.problem}; it can not be made again: {len(ids)} store ids in segments"
        )
    saved = _save(files)
    identity = Identity(ids.pop())
    layout.write_identity(files, identity)
    return identity, ["FORMAT made again from the segment headers"], saved


def _store_ids(files: Files) -> set[bytes]:
    ids = set()
    for name in files.list():
        if layout.segment_number(name) is not None:
            with opened(files, name) as handle:
                header = segment.decode_header(name, files.read(handle, segment.SIZE, 0))
            if header:
                ids.add(header.store_id)
    return ids


def _prefix(verdict: Verdict) -> Start:
    """The last frame before the damage, as the place where a writer would go on."""
    snapshot, identity = verdict.snapshot, verdict.found.identity
    number, crc = (snapshot.number, snapshot.crc) if snapshot else (0, 0)
    if verdict.chain.reached is not None:
        file, cursor = verdict.chain.reached
        assert file.header is not None
        number, crc = cursor.number, cursor.crc
        if not cursor.count:
            number, crc = file.header.previous_end, file.header.previous_crc
    assert identity is not None
    return Start(number=number, crc=crc, store_id=identity.store_id, epoch=verdict.found.epoch + 1)


def _highest(files: Files, verdict: Verdict, damage: LogDamaged) -> int:
    """The highest number that any file shows or speaks of; it must never be used again."""
    last = max(damage.last, verdict.chain.evidence.number)
    for file in verdict.found.segments:
        with opened(files, file.name) as handle:
            last = max(last, segment.search(files, handle, seed_of(file.salt), segment.SIZE).last)
    return last


def _save(files: Files) -> str:
    """Give every file of the journal a second name inside quarantine."""
    files.make_folder(layout.QUARANTINE)
    target = free_name(files, "repair")
    files.make_folder(target)
    for name in files.list():
        if layout.is_ours(name):
            keep(files, name, f"{target}/{name}", fixed=name != layout.MARK)
    files.sync_folder(target)
    return target


def _cut(files: Files, lock: Lock, verdict: Verdict, start: Start, options: Options) -> list[str]:
    """Keep what is valid before the damage; go on behind the highest number with a gap.

    MARK comes first: whatever is taken out afterwards, a crash in between leaves a journal that refuses to open.
    """
    mark = MarkFile(files)
    mark.settle(Mark(start.first - 1, verdict.found.epoch))
    mark.close()
    done = []
    if verdict.chain.reached is not None:
        file, cursor = verdict.chain.reached
        if cursor.count:
            replace(files, file.name, cursor.offset)
            done.append(f"{file.name}: the first {cursor.offset} bytes were kept")
    for file in verdict.found.segments:
        if file.first > start.number:
            files.unlink(file.name)
            done.append(f"{file.name}: taken out")
    files.sync_folder()
    writer = Writer(files, lock, options, start)
    try:
        writer.finish()
    finally:
        writer.close()
    return [*done, f"{segment_name(start.first)}: begins behind the gap"]
