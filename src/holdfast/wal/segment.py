"""One segment file: its header, and a cursor that reads its frames front to back in bounded memory.

The cursor never trusts a length before the header's own CRC has vouched for it, so damage can neither lead it astray nor
make it allocate more than one frame. It stops at the first frame that is not the expected one and says why; whether
that is a torn tail or damage is not for one file to decide (chain.py).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from holdfast.wal import frame as frames
from holdfast.wal.errors import NewerFormat
from holdfast.wal.frame import (
    CRC,
    DATA,
    FIELDS,
    HEADER_SIZE,
    MAX_PAYLOAD,
    MUST_UNDERSTAND,
    SEAL,
    Frame,
    header_crc,
    seed_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.wal.files import Files

MAGIC: Final = b"HFSEGMNT"
VERSION: Final = 1
GAP: Final = 1  # flag: the numbers before `first` were given up by a repair
SIZE: Final = 96
_FIELDS: Final = struct.Struct("<8sHHIQQII8s16sQ20s")
_SALT: Final = slice(40, 48)
_WINDOW: Final = 1 << 20  # bytes read at once


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment says about itself. `previous_crc` is the header CRC of frame `previous_end`."""

    first: int
    previous_end: int
    previous_crc: int
    salt: bytes
    store_id: bytes
    epoch: int
    gap: bool = False

    @property
    def seed(self) -> int:
        """Where the CRCs of this segment start."""
        return seed_of(self.salt)


def encode_header(header: SegmentHeader) -> bytes:
    """The 96 bytes at the start of the file."""
    head = _FIELDS.pack(
        MAGIC,
        VERSION,
        GAP if header.gap else 0,
        SIZE,
        header.first,
        header.previous_end,
        header.previous_crc,
        0,
        header.salt,
        header.store_id,
        header.epoch,
        b"",
    )
    return head + CRC.pack(crc32(head))


def decode_header(name: str, data: bytes) -> SegmentHeader | None:
    """The header in `data`, or None if it does not validate. Raises NewerFormat if it does, but is from the future."""
    if len(data) < SIZE or data[:8] != MAGIC or CRC.unpack_from(data, SIZE - 4)[0] != crc32(data[: SIZE - 4]):
        return None
    _, version, flags, _, first, end, crc, _, salt, store_id, epoch, _ = _FIELDS.unpack_from(data)
    if version > VERSION:
        raise NewerFormat(name, "segment version", version, VERSION)
    return SegmentHeader(
        first=first,
        previous_end=end,
        previous_crc=crc,
        salt=salt,
        store_id=store_id,
        epoch=epoch,
        gap=bool(flags & GAP),
    )


def salt_in(data: bytes) -> bytes:
    """The salt at its place in a header that may be damaged elsewhere; b"" if the file is too short."""
    return data[_SALT] if len(data) >= _SALT.stop else b""


class Cursor:
    """Where a reader stands in one segment.

    `offset` is the end of the last valid frame, `number` and `crc` belong to it, `synced` is the highest synced-up-to
    seen, `sealed` tells whether it was a seal. After iteration `why` says what stopped it.
    """

    def __init__(self, files: Files, name: str, handle: int, header: SegmentHeader, offset: int = SIZE) -> None:
        self._files, self._name, self._handle, self._seed = files, name, handle, header.seed
        self.offset = offset
        self.number = header.first - 1
        self.crc = header.previous_crc
        self.synced = 0
        self.sealed = False
        self.count = 0
        self.why = ""
        self._window, self._base = b"", offset

    def __iter__(self) -> Iterator[Frame]:
        """Yield valid frames in order; those of unknown but harmless types are yielded too."""
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        at = self._reach(HEADER_SIZE)
        if at < 0:
            self.why = "the file ends here"
            return None
        window, seed = self._window, self._seed
        magic, version, kind, flags, _, size, payload_crc, number, synced, previous = FIELDS.unpack_from(window, at)
        crc = CRC.unpack_from(window, at + FIELDS.size)[0]
        if magic != b"HFR" or header_crc(window[at : at + FIELDS.size], seed) != crc:
            self.why = "no valid frame header"
            return None
        if version > frames.VERSION:
            raise NewerFormat(self._name, f"frame {number} of version", version, frames.VERSION)
        if number != self.number + 1 or previous != self.crc or synced >= number or size > MAX_PAYLOAD:
            self.why = f"a frame that does not follow frame {self.number}"
            return None
        padded = size + 7 & ~7
        at = self._reach(HEADER_SIZE + padded)
        if at < 0:
            self.why = f"frame {number} is cut off"
            return None
        start = at + HEADER_SIZE
        payload = self._window[start : start + size]
        if crc32(payload, seed) != payload_crc or any(self._window[start + size : start + padded]):
            self.why = f"the payload of frame {number} does not match its checksum"
            return None
        if kind not in (DATA, SEAL) and flags & MUST_UNDERSTAND:
            raise NewerFormat(self._name, f"frame {number} of type", kind, SEAL)
        self.offset += HEADER_SIZE + padded
        self.number, self.crc, self.sealed = number, crc, kind == SEAL
        self.synced = max(self.synced, synced)
        self.count += 1
        return Frame(number, kind, payload, synced, crc)

    def _reach(self, need: int) -> int:
        """Have `need` bytes from `offset` on in the window; return where they start in it, or -1 if the file is short."""
        at = self.offset - self._base
        if len(self._window) - at >= need:
            return at
        rest = self._window[at:]
        more = self._files.read(self._handle, max(_WINDOW, need - len(rest)), self.offset + len(rest))
        self._window, self._base = rest + more, self.offset
        return 0 if len(self._window) >= need else -1


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """What lies behind the first invalid frame of a file. Numbers are 0 where nothing was found.

    `end` is the offset behind the last byte that is not zero; `synced` the highest synced-up-to, `first` and `last` the
    lowest and highest number of frame headers that validate.
    """

    end: int
    synced: int = 0
    first: int = 0
    last: int = 0


def search(files: Files, handle: int, seed: int, start: int) -> Remains:
    """Look for evidence from `start` on: frame headers that validate under `seed`, at multiples of eight."""
    end, synced, numbers = start, 0, set[int]()
    at = start & ~7
    while window := files.read(handle, _WINDOW, at):
        filled = len(window.rstrip(b"\0"))
        if filled:
            end = max(end, at + filled)
            for number, found in headers_in(window, seed):
                synced = max(synced, found)
                numbers = {min(numbers | {number}), max(numbers | {number})}
        if len(window) < _WINDOW:
            break
        at += _WINDOW - HEADER_SIZE  # a header may lie across the border of two windows
    return Remains(end=end, synced=synced, first=min(numbers, default=0), last=max(numbers, default=0))


def headers_in(window: bytes, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (number, synced up to) of every frame header in `window` that validates."""
    at = window.find(frames.MAGIC)
    while at >= 0:
        if not at & 7 and at + HEADER_SIZE <= len(window):
            head = window[at : at + FIELDS.size]
            if header_crc(head, seed) == CRC.unpack_from(window, at + FIELDS.size)[0]:
                fields = FIELDS.unpack(head)
                yield fields[7], fields[8]
        at = window.find(frames.MAGIC, at + 1)
