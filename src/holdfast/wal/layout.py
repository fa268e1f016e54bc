"""Names of the files in a journal's folder, and the two small files that describe it: FORMAT and MARK. FORMAT.md §1."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from holdfast.wal.errors import LogDamaged, NewerFormat
from holdfast.wal.files import opened, put, write_all
from holdfast.wal.frame import CRC

if TYPE_CHECKING:
    from holdfast.wal.files import Files

FORMAT: Final = "FORMAT"
LOCK: Final = "LOCK"
MARK: Final = "MARK"
QUARANTINE: Final = "quarantine"
FORMAT_NUMBER: Final = 1
_SEGMENT: Final = re.compile(r"([0-9]{20})\.log")
_SNAPSHOT: Final = re.compile(r"([0-9]{20})\.snap")
_TEMPORARY: Final = re.compile(r"(spare|replace|format|snapshot|repair)-[0-9a-z-]+\.tmp")
_IDENTITY: Final = struct.Struct("<8sIIII16s20s")
_SLOT: Final = struct.Struct("<4sIQQI")
_SLOTS: Final = (0, 4096)
MARK_SIZE: Final = 4128


def segment_name(first: int) -> str:
    """File name of the segment whose first frame has this number."""
    return f"{first:020}.log"


def snapshot_name(number: int) -> str:
    """File name of the snapshot of all frames up to this number."""
    return f"{number:020}.snap"


def segment_number(name: str) -> int | None:
    """The number in a segment's name; None if it is none."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else None


def snapshot_number(name: str) -> int | None:
    """The number in a snapshot's name; None if it is none."""
    match = _SNAPSHOT.fullmatch(name)
    return int(match[1]) if match else None


def is_temporary(name: str) -> bool:
    """Whether this is unfinished work of ours, which the next owner removes."""
    return _TEMPORARY.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Whether the file belongs to the journal's content (not LOCK, not temporary work, nothing of others)."""
    return name in (FORMAT, MARK) or segment_number(name) is not None or snapshot_number(name) is not None


class Identity(msgspec.Struct, frozen=True):
    """What FORMAT says. `compatible` flags may be ignored by a reader that does not know them."""

    store_id: bytes
    compatible: int = 0


def encode_identity(identity: Identity) -> bytes:
    """The 64 bytes of FORMAT."""
    head = _IDENTITY.pack(b"HOLDFAST", FORMAT_NUMBER, identity.compatible, 0, 0, identity.store_id, b"")
    return head + CRC.pack(crc32(head))


def read_identity(files: Files) -> Identity | None:
    """Read FORMAT; None if there is none. Raises NewerFormat, or LogDamaged if it does not validate."""
    if FORMAT not in files.list():
        return None
    with opened(files, FORMAT) as handle:
        data = files.read(handle, 4096, 0)
    size = _IDENTITY.size
    if len(data) != size + 4 or data[:8] != b"HOLDFAST" or CRC.unpack_from(data, size)[0] != crc32(data[:size]):
        raise LogDamaged(FORMAT, 0, "expected 64 bytes with a valid checksum, found something else")
    _, number, compatible, incompatible, _, store_id, _ = _IDENTITY.unpack_from(data)
    if number > FORMAT_NUMBER:
        raise NewerFormat(FORMAT, "format", number, FORMAT_NUMBER)
    if incompatible:
        raise NewerFormat(FORMAT, "incompatible flags", incompatible, 0)
    return Identity(store_id, compatible)


def write_identity(files: Files, identity: Identity) -> None:
    """Write FORMAT durably, in one step."""
    put(files, FORMAT, encode_identity(identity), "format-0.tmp")


class Mark(msgspec.Struct, frozen=True):
    """What MARK says: frames up to `durable` are on disk; `epoch` is the highest that was served."""

    durable: int = 0
    epoch: int = 0


def encode_slot(mark: Mark) -> bytes:
    """The 32 bytes of one slot."""
    head = _SLOT.pack(b"HFMK", 0, mark.durable, mark.epoch, 0)
    return head + CRC.pack(crc32(head))


def decode_mark(data: bytes) -> Mark | None:
    """The larger of the valid slots; None if there is none."""
    found = []
    for at in _SLOTS:
        slot = data[at : at + _SLOT.size + 4]
        if len(slot) == _SLOT.size + 4 and CRC.unpack_from(slot, _SLOT.size)[0] == crc32(slot[: _SLOT.size]):
            magic, _, durable, epoch, _ = _SLOT.unpack_from(slot)
            if magic == b"HFMK":
                found.append((durable, epoch))
    return Mark(max(f[0] for f in found), max(f[1] for f in found)) if found else None


def read_mark(files: Files) -> Mark | None:
    """Read MARK; None if it is missing or neither slot validates."""
    if MARK not in files.list():
        return None
    with opened(files, MARK) as handle:
        return decode_mark(files.read(handle, MARK_SIZE, 0))


class MarkFile:
    """MARK in the hands of the writer. Slots are used in turn, so that a torn write leaves the other."""

    def __init__(self, files: Files) -> None:
        self._files = files
        missing = MARK not in files.list()
        self._handle = files.create(MARK) if missing else files.open(MARK, write=True)
        self._turn = 0
        self.dirty = False

    def write(self, mark: Mark) -> None:
        """Overwrite the older slot; not synced."""
        write_all(self._files, self._handle, encode_slot(mark), _SLOTS[self._turn])
        self._turn ^= 1
        self.dirty = True

    def settle(self, mark: Mark) -> None:
        """Write both slots and sync: what stood there before no longer counts."""
        for _ in _SLOTS:
            self.write(mark)
            self.sync()

    def sync(self) -> None:
        """Make the last writes durable."""
        self._files.sync(self._handle)
        self.dirty = False

    def read(self) -> Mark | None:
        """What the file says now; another writer may have been here."""
        return decode_mark(self._files.read(self._handle, MARK_SIZE, 0))

    def close(self) -> None:
        """Give the file back."""
        self._files.close(self._handle)
