"""Opening a journal: O0 to O7 of FORMAT.md §6, in this order.

    recovery = Recovery.begin(OsFiles("data"))      # O0 to O3: lock, FORMAT, own leftovers, newest valid snapshot
    for record in recovery.records(): ...           # the state at recovery.snapshot.number
    for frame in recovery.replay(): ...             # O4: what happened after it
    log = recovery.serve()                          # O5 to O7: from here on it may be written

Up to `serve` no file of the journal is changed, so a refusal leaves everything as it was found.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from holdfast.wal import layout, segment
from holdfast.wal.chain import Chain, Notice, survey
from holdfast.wal.errors import LogDamaged, LogIO, UnsafeFolder
from holdfast.wal.files import calls, created, opened, write_all
from holdfast.wal.frame import seed_of
from holdfast.wal.layout import Identity
from holdfast.wal.lock import acquire
from holdfast.wal.log import Log
from holdfast.wal.snapshot import newest_valid_snapshot, read_snapshot
from holdfast.wal.writer import Options, Start, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.wal.chain import End, Survey
    from holdfast.wal.files import Files
    from holdfast.wal.frame import Frame
    from holdfast.wal.lock import Lock
    from holdfast.wal.snapshot import SnapshotInfo

NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "fuse.sshfs", "glusterfs", "ceph"})
_COPY: Final = 1 << 20  # bytes copied at once


class Recovery:
    """A journal that is locked and being read. `snapshot` is where reading starts, None for the very beginning.

    `fresh` tells that the folder held no store yet; `notices` what was odd and cost nothing.
    """

    def __init__(self, files: Files, lock: Lock, options: Options) -> None:
        self.files, self._lock, self._options = files, lock, options
        identity = layout.read_identity(files)
        for name in files.list():
            if layout.is_temporary(name):
                files.unlink(name)
        self._found = survey(files, identity)
        self.fresh = identity is None
        if identity is None:
            _assert_fresh(files, self._found)
        self._identity = identity or Identity(os.urandom(16))
        self.snapshot, faults = newest_valid_snapshot(files, self._found.snapshots, self.store_id)
        self._faults = [_bad_snapshot(fault) for fault in faults]
        self._chain: Chain | None = None

    @classmethod
    def begin(cls, files: Files, options: Options | None = None) -> Recovery:
        """O0 to O3. Raises LogHeld, NewerFormat, LogDamaged, UnsafeFolder, LogIO."""
        options = options or Options()
        with calls(f"{files.path}: opening the journal"):
            if files.kind() in NETWORK and not options.allow_network:
                raise UnsafeFolder(files.path, files.kind())
            files.make_folder()
            lock = acquire(files)
            try:
                return cls(files, lock, options)
            except BaseException:
                lock.release()
                raise

    @property
    def store_id(self) -> bytes:
        """16 bytes that tell this store from all others, a restored copy of it included."""
        return self._identity.store_id

    @property
    def notices(self) -> list[Notice]:
        """What was odd. Complete after `serve`."""
        return self._faults + (self._chain.notices if self._chain else [])

    def records(self) -> Iterator[bytes]:
        """The records of the snapshot; none without one."""
        return read_snapshot(self.files, self.snapshot.number) if self.snapshot else iter(())

    def replay(self) -> Iterator[Frame]:
        """O4: each data frame after the snapshot, in order. Raises LogDamaged, NewerFormat, LogIO."""
        self._chain = _chain(self.files, self._found, self.snapshot)
        return self._chain.replay()

    def serve(self, *, threaded: bool = True, monotonic: Callable[[], float] | None = None) -> Log:
        """O5 to O7. Replays first, if `replay` was not read to its end. Raises as `replay`.

        Without a writer thread (`threaded=False`) the owner calls `Log.pump`. `monotonic` counts seconds.
        """
        try:
            end = self._read_all()
            with calls(f"{self.files.path}: preparing the journal"):
                writer = Writer(self.files, self._lock, self._options, self._settle_end(end))
                try:
                    log = self._start(writer, threaded, monotonic)
                except BaseException:
                    writer.close()
                    raise
        except BaseException as error:
            try:
                self.close()
            except LogIO as refused:
                # A descriptor is gone even when its close is refused, so what came first is what counts.
                error.add_note(str(refused))
            raise
        self._lock.on_fork(log.disown)
        return log

    def close(self) -> None:
        """Give up: let the lock go, change nothing. Raises LogIO; the lock is gone all the same."""
        with calls(f"{self.files.path}: letting the lock go"):
            self._lock.release()

    def _read_all(self) -> End:
        if self._chain is None or self._chain.end is None:
            self._chain = _chain(self.files, self._found, self.snapshot)
            for _ in self._chain.frames():
                pass
        assert self._chain.end is not None
        return self._chain.end

    def _settle_end(self, end: End) -> Start:
        """O5: what is torn goes to quarantine, what is valid into a file that was synced from its first byte."""
        number, crc, first = end.number, end.crc, 0
        empty = end.file is not None and not end.frames
        if not self.fresh:
            self.files.make_folder(layout.QUARANTINE)
            set_aside(self.files, end)
            clean = end.sealed and end.torn_to <= end.offset and self._durable >= end.number
            if end.file is not None and end.frames and not clean:
                replace(self.files, end.file.name, end.offset)
        if empty and end.file is not None and end.file.header is not None:
            header = end.file.header
            number, crc, first = header.previous_end, header.previous_crc, header.first
        replaces = empty or self.fresh
        return Start(
            number=number, crc=crc, store_id=self.store_id, epoch=self._found.epoch + 1, first=first, replaces=replaces
        )

    @property
    def _durable(self) -> int:
        return self._found.mark.durable if self._found.mark else 0

    def _start(self, writer: Writer, threaded: bool, monotonic: Callable[[], float] | None) -> Log:
        """O7; for a new store FORMAT is what makes it one."""
        if self.fresh:
            self.files.make_folder(layout.QUARANTINE)
            layout.write_identity(self.files, self._identity)
        if monotonic is None:
            return Log(self.files, writer, self._options, threaded=threaded)
        return Log(self.files, writer, self._options, threaded=threaded, monotonic=monotonic)


def open_log(files: Files, options: Options | None = None, *, threaded: bool = True) -> Log:
    """Open a journal whose content the caller does not want to see."""
    return Recovery.begin(files, options).serve(threaded=threaded)


def _chain(files: Files, found: Survey, snapshot: SnapshotInfo | None) -> Chain:
    if snapshot is None:
        return Chain(files, found, start=1, crc=0)
    return Chain(files, found, start=snapshot.number + 1, crc=snapshot.crc)


def _bad_snapshot(fault: LogDamaged) -> Notice:
    return Notice(file=fault.file, offset=fault.offset, text=f"{fault.problem}; an older snapshot is used")


def _assert_fresh(files: Files, found: Survey) -> None:
    """Without FORMAT there may be at most what an interrupted creation leaves: MARK, and a first segment without frames."""
    leftovers = {layout.segment_name(1)}
    strange = [file.name for file in found.segments if file.name not in leftovers]
    for file in found.segments:
        with opened(files, file.name) as handle:
            if segment.search(files, handle, seed_of(file.salt), segment.SIZE).last:
                strange.append(file.name)
    strange += [layout.snapshot_name(number) for number in found.snapshots]
    if found.mark and found.mark.durable:
        strange.append(layout.MARK)
    if strange:
        why = f"the file is missing, although the folder holds a journal ({', '.join(strange[:3])})"
        raise LogDamaged(layout.FORMAT, 0, why)


def set_aside(files: Files, end: End) -> None:
    """Move files that hold nothing, and copy a torn tail, into quarantine. May be repeated after a crash."""
    for name in end.junk:
        files.rename(name, free_name(files, name))
    if end.file is not None and end.torn_to > end.offset:
        target = free_name(files, f"{end.file.name}-tail-at-{end.offset}")
        copy(files, end.file.name, target, end.offset, end.torn_to)
        files.sync_folder(layout.QUARANTINE)
    if end.junk:
        files.sync_folder(layout.QUARANTINE)
        files.sync_folder()


def free_name(files: Files, name: str) -> str:
    """A name in quarantine that nothing has yet."""
    taken = set(files.list(layout.QUARANTINE))
    return next(f"{layout.QUARANTINE}/{name}-{n}" for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)


def replace(files: Files, name: str, size: int) -> None:
    """Put a synced copy of the first `size` bytes in place of a file, in one step."""
    temporary = f"replace-{layout.segment_number(name) or 0}.tmp"
    copy(files, name, temporary, 0, size)
    files.rename(temporary, name)
    files.sync_folder()


def copy(files: Files, name: str, target: str, start: int, stop: int, into: Files | None = None) -> None:
    """Copy bytes `start` to `stop` of a file into a new one, and sync it."""
    into = into or files
    with opened(files, name) as source, created(into, target) as handle:
        at = start
        while at < stop and (data := files.read(source, min(_COPY, stop - at), at)):
            write_all(into, handle, data, at - start)
            at += len(data)
        into.sync(handle)


def keep(files: Files, name: str, target: str, *, into: Files | None = None, fixed: bool = True) -> None:
    """Give a file that never changes (`fixed`) a second name, or copy it where that can not be."""
    if fixed and files.link(name, target, into):
        return
    with opened(files, name) as handle:
        size = files.size(handle)
    copy(files, name, target, 0, size, into)
