"""Snapshots: a stream of opaque records that stands for all frames up to a number. FORMAT.md §7.

A snapshot is written under a temporary name, synced, read again from end to end, and only then gets its name. So a file
with a snapshot's name has been whole at least once; what time does to it later is found by its checksums.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from holdfast.errors import TooLarge
from holdfast.wal import layout
from holdfast.wal.chain import survey
from holdfast.wal.errors import LogDamaged, LogFull, NewerFormat, NotReady, SnapshotDamaged
from holdfast.wal.files import FULL, calls, opened, write_all
from holdfast.wal.frame import CRC, MAX_PAYLOAD, seed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.wal.files import Files

MAGIC: Final = b"HFSNAPSH"
VERSION: Final = 1
SIZE: Final = 96
CHUNK_SIZE: Final = 256 * 1024  # bytes gathered before a chunk is written
SYNC_EVERY: Final = 8 * 1024 * 1024  # bytes; keeps the last sync, and everyone else's, short
ROOM: Final = 1.1  # times the expected size that must be free
_HEADER: Final = struct.Struct("<8sHHIQII8s16sQ28s")
_CHUNK: Final = struct.Struct("<4sIIIQI")
_FOOTER: Final = struct.Struct("<4sIQQQ32s")
_LENGTH: Final = struct.Struct("<I")
_CHUNK_LIMIT: Final = CHUNK_SIZE + MAX_PAYLOAD + _LENGTH.size


class SnapshotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says about itself. `crc` is the header CRC of frame `number`; `size` in bytes."""

    number: int
    crc: int
    epoch: int
    store_id: bytes
    records: int = 0
    size: int = 0
    digest: bytes = b""


class _Writer:
    """Puts records into chunks, chunks into a file; syncs now and then."""

    def __init__(self, files: Files, handle: int, info: SnapshotInfo) -> None:
        self._files, self._handle = files, handle
        salt = os.urandom(8)
        self._seed = seed_of(salt)
        self._hash = hashlib.blake2b(digest_size=32)
        self._at = self._synced = self._chunks = self._records = 0
        head = _HEADER.pack(MAGIC, VERSION, 0, SIZE, info.number, info.crc, 0, salt, info.store_id, info.epoch, b"")
        self._put(head + CRC.pack(crc32(head)))

    def write(self, records: Iterable[bytes]) -> None:
        parts: list[bytes] = []
        waiting = count = 0
        for record in records:
            size = len(record)
            if size > MAX_PAYLOAD:
                raise TooLarge("a snapshot record", size, MAX_PAYLOAD, "bytes", "Cut it into several records.")
            parts += (_LENGTH.pack(size), record)
            count += 1
            waiting += size + 4
            if waiting >= CHUNK_SIZE:
                self._chunk(b"".join(parts), count)
                parts.clear()
                waiting = count = 0
        if count:
            self._chunk(b"".join(parts), count)

    def finish(self) -> tuple[int, int, bytes]:
        """Write the footer and sync; return count of records, size and hash."""
        digest = self._hash.digest()
        head = _FOOTER.pack(b"HFEN", 0, self._chunks, self._records, self._at, digest)
        self._put(head + CRC.pack(crc32(head, self._seed)))
        self._files.sync(self._handle)
        return self._records, self._at, digest

    def _chunk(self, body: bytes, count: int) -> None:
        head = _CHUNK.pack(b"HFCK", len(body), count, crc32(body, self._seed), self._chunks, 0)
        self._put(head + CRC.pack(crc32(head, self._seed)))
        self._put(body)
        self._chunks += 1
        self._records += count
        if self._at - self._synced >= SYNC_EVERY:
            self._files.sync(self._handle)
            self._synced = self._at

    def _put(self, data: bytes) -> None:
        write_all(self._files, self._handle, data, self._at)
        self._hash.update(data)
        self._at += len(data)


class SnapshotReader:
    """Reads one snapshot front to back, in memory bounded by one chunk.

    `info` is known at once; `records` yields the records and raises SnapshotDamaged when anything does not validate, at
    the latest at the end. So nothing that was yielded may be relied on before the iterator is exhausted.
    """

    def __init__(self, files: Files, name: str, handle: int) -> None:
        self._files, self._name, self._handle = files, name, handle
        head = files.read(handle, SIZE, 0)
        if len(head) < SIZE or head[:8] != MAGIC or CRC.unpack_from(head, SIZE - 4)[0] != crc32(head[: SIZE - 4]):
            raise SnapshotDamaged(name, 0, "the header does not validate")
        _, version, _, _, number, crc, _, salt, store_id, epoch, _ = _HEADER.unpack_from(head)
        if version > VERSION:
            raise NewerFormat(name, "snapshot version", version, VERSION)
        self.info = SnapshotInfo(number=number, crc=crc, epoch=epoch, store_id=store_id, size=files.size(handle))
        self._seed = seed_of(salt)
        self._hash = hashlib.blake2b(head, digest_size=32)
        self._at, self._chunks, self._records = SIZE, 0, 0

    def records(self) -> Iterator[bytes]:
        """Yield each record."""
        while (chunk := self._chunk()) is not None:
            body, expected = chunk
            count, at, last = 0, 0, len(body) - _LENGTH.size
            while at <= last:
                start = at + _LENGTH.size
                at = start + _LENGTH.unpack_from(body, at)[0]
                yield body[start:at]
                count += 1
            if at != len(body) or count != expected:
                self._refuse(f"a chunk does not hold exactly {expected} records")
            self._records += count
        self._footer()

    def _chunk(self) -> tuple[bytes, int] | None:
        head = self._files.read(self._handle, _CHUNK.size + 4, self._at)
        if head[:4] == b"HFEN":
            return None
        if len(head) < _CHUNK.size + 4 or CRC.unpack_from(head, _CHUNK.size)[0] != crc32(head[:-4], self._seed):
            self._refuse("the header of a chunk does not validate")
        magic, size, count, crc, index, _ = _CHUNK.unpack_from(head)
        if magic != b"HFCK" or index != self._chunks or size > _CHUNK_LIMIT:
            self._refuse(f"a chunk is out of place; expected chunk {self._chunks}")
        body = self._files.read(self._handle, size, self._at + len(head))
        if len(body) < size or crc32(body, self._seed) != crc:
            self._refuse(f"chunk {index} does not match its checksum")
        self._hash.update(head)
        self._hash.update(body)
        self._at += len(head) + size
        self._chunks += 1
        return body, count

    def _footer(self) -> None:
        size = _FOOTER.size + 4
        foot = self._files.read(self._handle, size + 1, self._at)
        if len(foot) != size or CRC.unpack_from(foot, size - 4)[0] != crc32(foot[:-4], self._seed):
            self._refuse("the footer does not validate, or something follows it")
        _, _, chunks, records, at, digest = _FOOTER.unpack_from(foot)
        if (chunks, records, at, digest) != (self._chunks, self._records, self._at, self._hash.digest()):
            self._refuse("count, size or hash in the footer differ from what was read")
        self.info = msgspec.structs.replace(self.info, records=records, digest=digest)

    def _refuse(self, why: str) -> None:
        raise SnapshotDamaged(self._name, self._at, why)


def read_snapshot(files: Files, number: int) -> Iterator[bytes]:
    """Yield the records of a snapshot; valid only when exhausted. Raises SnapshotDamaged."""
    name = layout.snapshot_name(number)
    with calls(f"{files.path}: reading {name}"), opened(files, name) as handle:
        reader = SnapshotReader(files, name, handle)
        _belongs(reader.info, number, name)
        yield from reader.records()


def check_snapshot(files: Files, number: int, store_id: bytes | None = None) -> SnapshotInfo:
    """Read a snapshot from end to end and return what it says. Raises SnapshotDamaged."""
    name = layout.snapshot_name(number)
    with calls(f"{files.path}: checking {name}"), opened(files, name) as handle:
        reader = SnapshotReader(files, name, handle)
        _belongs(reader.info, number, name, store_id)
        for _ in reader.records():
            pass
        return reader.info


def _belongs(info: SnapshotInfo, number: int, name: str, store_id: bytes | None = None) -> None:
    if info.number != number:
        raise SnapshotDamaged(name, 0, f"it says that it is number {info.number}; it was renamed or copied")
    if store_id is not None and info.store_id != store_id:
        raise SnapshotDamaged(name, 0, f"it belongs to another store ({info.store_id.hex()})")


def publish_snapshot(
    files: Files,
    number: int,
    records: Iterable[bytes],
    *,
    check: Callable[[Iterator[bytes]], bool] | None = None,
    expected_size: int = 0,
) -> SnapshotInfo:
    """Write a snapshot of all frames up to `number`; S1 to S6 of FORMAT.md §7. Any process may call this.

    `number` must be the end of a sealed segment (`Log.rotate`), else NotReady. `check` is given the records as read back
    and says whether they decode to what was meant. `expected_size` in bytes: with less than 1.1 times that free,
    LogFull is raised at once; also when the disk fills up on the way. Nothing is left behind by a failure.
    """
    with calls(f"{files.path}: writing snapshot {number}"):
        info = _place(files, number)
        if expected_size and files.free() < expected_size * ROOM:
            raise LogFull(essential=False, cause=f"a snapshot needs {int(expected_size * ROOM):,} bytes")
        temporary = f"snapshot-{number}-{os.getpid()}-{os.urandom(4).hex()}.tmp"
        try:
            info = write_snapshot(files, temporary, info, records)
            _verify(files, temporary, info, check)
            files.rename(temporary, layout.snapshot_name(number))
        except BaseException as error:
            if temporary in files.list():
                files.unlink(temporary)
            if isinstance(error, OSError) and error.errno in FULL:
                raise LogFull(essential=False, cause=str(error)) from error
            raise
        files.sync_folder()
        return info


def _place(files: Files, number: int) -> SnapshotInfo:
    """S1: the successor's header proves that `number` is durable, and knows the CRC of that frame."""
    identity = layout.read_identity(files)
    for file in survey(files, identity).segments:
        header = file.header
        if header and header.previous_end == number and number:
            return SnapshotInfo(number=number, crc=header.previous_crc, epoch=header.epoch, store_id=header.store_id)
    raise NotReady(number)


def write_snapshot(files: Files, name: str, info: SnapshotInfo, records: Iterable[bytes]) -> SnapshotInfo:
    """S2 and S3: a synced file of that name; the info comes back with count, size and hash."""
    handle = files.create(name)
    try:
        writer = _Writer(files, handle, info)
        writer.write(records)
        count, size, digest = writer.finish()
    finally:
        files.close(handle)
    return msgspec.structs.replace(info, records=count, size=size, digest=digest)


def _verify(files: Files, name: str, info: SnapshotInfo, check: Callable[[Iterator[bytes]], bool] | None) -> None:
    """S4: what was written is what is read."""
    with opened(files, name) as handle:
        reader = SnapshotReader(files, name, handle)
        records = reader.records()
        good = check(records) if check else True
        for _ in records:
            pass
        if not good or reader.info != info:
            raise SnapshotDamaged(name, 0, "read back, it differs from what was written; it was removed")


def newest_valid_snapshot(
    files: Files, numbers: Iterable[int], store_id: bytes
) -> tuple[SnapshotInfo | None, list[LogDamaged]]:
    """The first of `numbers` (newest first) that validates from end to end, and what was wrong with those before it."""
    faults: list[LogDamaged] = []
    for number in numbers:
        try:
            return check_snapshot(files, number, store_id), faults
        except SnapshotDamaged as fault:
            faults.append(fault)
    return None, faults
