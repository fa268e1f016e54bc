"""The writer's hands: descriptors, offsets, the order of system calls. FORMAT.md §3 and §4.

One thread at a time may use it; it holds no lock and starts no thread (log.py does). Every OSError that leaves `write`,
`rotate`, `tend` or `finish` means that the log is FAILED: the caller must not call any of them again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ConfigError
from holdfast.wal import segment
from holdfast.wal.errors import OwnerLost
from holdfast.wal.files import FULL, write_all
from holdfast.wal.frame import HEADER_SIZE, MAX_PAYLOAD, SEAL, SEAL_SIZE, encode_group
from holdfast.wal.layout import Mark, MarkFile, segment_name
from holdfast.wal.segment import SegmentHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.wal.files import Files
    from holdfast.wal.lock import Lock

AHEAD: Final = 64 * 1024  # bytes of zeros written behind a small group
SMALL: Final = 32 * 1024  # bytes; a group above this gains nothing from zeros ahead
_ZEROS: Final = bytes(AHEAD)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the log is kept.

    `segment_bytes`: size of a segment, 4 KiB to 64 MiB; no frame is larger. `reserve_segments`: how many are kept for
    essential appends on a full disk, 0 to 8; one more is always allocated ahead. `mark_seconds`: MARK is synced at most
    this long after a change. `paranoid`: sync MARK with every group (two syncs instead of one). `retry_seconds`: how often a
    full log tries to allocate again. `allow_network`: also work on a network file system.
    """

    segment_bytes: int = 16 * 1024 * 1024
    reserve_segments: int = 2
    mark_seconds: float = 0.1
    paranoid: bool = False
    retry_seconds: float = 1.0
    allow_network: bool = False

    def __post_init__(self) -> None:
        faults = []
        if not 4096 <= self.segment_bytes <= 64 * 1024 * 1024 or self.segment_bytes % 8:
            faults.append(f"segment_bytes: expected a multiple of 8 from 4096 to 67108864, found {self.segment_bytes}")
        if not 0 <= self.reserve_segments <= 8:
            faults.append(f"reserve_segments: expected 0 to 8, found {self.reserve_segments}")
        if self.mark_seconds < 0 or self.retry_seconds <= 0:
            faults.append("mark_seconds, retry_seconds: expected positive seconds")
        if faults:
            raise ConfigError("the journal's options are wrong", faults)

    @property
    def capacity(self) -> int:
        """Where the frames of a segment must end, so that its seal still fits."""
        return self.segment_bytes - SEAL_SIZE

    @property
    def payload_limit(self) -> int:
        """The largest payload that fits into a segment of its own."""
        return min(MAX_PAYLOAD, self.capacity - segment.SIZE - HEADER_SIZE)


class Spares:
    """Segments allocated ahead, still under temporary names."""

    def __init__(self, files: Files, options: Options) -> None:
        self._files, self._size = files, options.segment_bytes
        self._wanted = options.reserve_segments + 1
        self._ready: list[tuple[int, str]] = []
        self._made = 0
        self.problem = ""

    @property
    def missing(self) -> int:
        """How many are still to be made."""
        return self._wanted - len(self._ready)

    def __len__(self) -> int:
        return len(self._ready)

    def prepare(self) -> bool:
        """Allocate one more. False if the system refuses; `problem` then says why, and it may be tried again."""
        name = f"spare-{self._made}.tmp"
        try:
            handle = self._files.create(name)
        except OSError as error:
            self.problem = str(error)
            return False
        self._made += 1
        try:
            self._files.allocate(handle, self._size)
        except OSError as error:
            self.problem = str(error)
            self._files.close(handle)
            self._files.unlink(name)
            return False
        self._ready.append((handle, name))
        self.problem = ""
        return True

    def take(self) -> tuple[int, str]:
        """One of them. If none is ready it is made now; the system's refusal is then final."""
        if not self._ready and not self.prepare():
            raise OSError(self.problem)
        return self._ready.pop(0)

    def drop(self) -> None:
        """Give the room back."""
        while self._ready:
            handle, name = self._ready.pop()
            self._files.close(handle)
            self._files.unlink(name)

    def close(self) -> None:
        """Close the descriptors only; the next owner removes the files."""
        while self._ready:
            self._files.close(self._ready.pop()[0])


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a writer begins: behind frame `number`, whose header CRC is `crc`. `replaces` an empty segment there."""

    number: int
    crc: int
    store_id: bytes
    epoch: int
    first: int = 0  # 0: number + 1; else a gap is left
    replaces: bool = False


class Writer:
    """Appends frames to the last segment and opens the next. `number` is the last frame that is durable."""

    def __init__(self, files: Files, lock: Lock, options: Options, start: Start) -> None:
        self._files, self._lock, self._options = files, lock, options
        self._handle = -1
        self._offset = self._zeroed = segment.SIZE
        self._mark_file = MarkFile(files)
        self.spares = Spares(files, options)
        self.epoch, self._store_id = start.epoch, start.store_id
        self.number, self._crc = start.number, start.crc
        try:
            self._begin(start.first or start.number + 1, start)
        except BaseException:
            self.close()
            raise

    def _begin(self, first: int, start: Start) -> None:
        """O6: the first segment of this opening, then the epoch into MARK."""
        self._open_segment(first, gap=first != start.number + 1, replaces=start.replaces)
        self.number = first - 1
        self._mark_file.settle(Mark(self.number, self.epoch))

    @property
    def offset(self) -> int:
        """Where the next frame goes in the present segment."""
        return self._offset

    @property
    def mark_dirty(self) -> bool:
        """Whether MARK has changed since it was last synced."""
        return self._mark_file.dirty

    def write(self, payloads: Sequence[bytes]) -> bool:
        """Write frames with one write and one sync; they fit into the segment. False if the disk turned out to be full
        and they went into a spare segment instead."""
        if self._write(payloads):
            return True
        self._open_segment(self.number + 1)
        if not self._write(payloads):
            raise OSError("the disk is full although room was allocated")
        return False

    def _write(self, payloads: Sequence[bytes]) -> bool:
        data, crc = encode_group(
            payloads, after=self.number, synced=self.number, previous_crc=self._crc, seed=self._header.seed
        )
        if not self._put(data):
            return False
        self._files.sync(self._handle)
        self._advance(len(payloads), crc)
        return True

    def _put(self, data: bytes) -> bool:
        """Write at the end of the segment; False if the disk is full, the segment then is as before."""
        end = self._offset + len(data)
        written = data
        if end > self._zeroed and len(data) <= SMALL:
            room = max(0, min(AHEAD, self._options.segment_bytes - end))
            written, self._zeroed = data + _ZEROS[:room], end + room
        try:
            write_all(self._files, self._handle, written, self._offset)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._files.truncate(self._handle, self._offset)
            self._files.sync(self._handle)
            return False
        self._offset = end
        return True

    def _advance(self, count: int, crc: int) -> None:
        self.number, self._crc = self.number + count, crc
        self._mark_file.write(Mark(self.number, self.epoch))
        if self._options.paranoid:
            self._mark_file.sync()

    def rotate(self) -> None:
        """Seal the segment and open the next; R0 to R3. The seal takes a number."""
        self._seal()
        self._open_segment(self.number + 1)

    def _seal(self) -> None:
        data, crc = encode_group(
            [b""], after=self.number, synced=self.number, previous_crc=self._crc, seed=self._header.seed, kind=SEAL
        )
        write_all(self._files, self._handle, data, self._offset)
        self._offset += len(data)
        self._files.truncate(self._handle, self._offset)
        self._files.sync(self._handle)
        self._advance(1, crc)

    def _open_segment(self, first: int, *, gap: bool = False, replaces: bool = False) -> None:
        self._assert_owner()
        header = SegmentHeader(
            first=first,
            previous_end=self.number,
            previous_crc=self._crc,
            salt=os.urandom(8),
            store_id=self._store_id,
            epoch=self.epoch,
            gap=gap,
        )
        handle, spare = self.spares.take()
        old, self._handle = self._handle, handle
        if old >= 0:
            self._files.close(old)
        write_all(self._files, handle, segment.encode_header(header), 0)
        self._files.sync(handle)
        name = segment_name(first)
        if not replaces and name in self._files.list():
            raise FileExistsError(f"{name} is in the way of a new segment")
        self._files.rename(spare, name)
        self._files.sync_folder()
        self._header, self._offset, self._zeroed = header, segment.SIZE, segment.SIZE

    def _assert_owner(self) -> None:
        mark = self._mark_file.read()
        if not self._lock.held or (mark is not None and mark.epoch > self.epoch):
            raise OwnerLost(self._files.path)

    def sync_mark(self) -> None:
        """Make the evidence durable too."""
        self._mark_file.sync()

    def finish(self) -> None:
        """Stop cleanly: seal what was written, give unused room back, sync MARK."""
        if self._offset > segment.SIZE:
            self._seal()
        else:
            self._files.truncate(self._handle, self._offset)
        self._mark_file.sync()
        self.spares.drop()

    def close(self) -> None:
        """Close all descriptors, whatever state they are in, and let the lock go. Writes nothing.

        The lock goes even if a descriptor refuses to close; the first refusal is raised.
        """
        try:
            self.spares.close()
        finally:
            try:
                self._mark_file.close()
            finally:
                try:
                    handle, self._handle = self._handle, -1
                    if handle >= 0:
                        self._files.close(handle)
                finally:
                    self._lock.release()
