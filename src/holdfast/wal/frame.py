"""One frame: a checksummed header, a payload, zeros up to a multiple of eight. FORMAT.md §2."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"HFR\x01"  # the fourth byte is the version
VERSION: Final = 1
DATA: Final = 1
SEAL: Final = 2
MUST_UNDERSTAND: Final = 1
MAX_PAYLOAD: Final = 16 * 1024 * 1024  # bytes

# Everything of the header but its own CRC, which follows.
FIELDS: Final = struct.Struct("<3sBBBHIIQQI")
CRC: Final = struct.Struct("<I")
HEADER_SIZE: Final = FIELDS.size + CRC.size
SEAL_SIZE: Final = HEADER_SIZE
_PADDING: Final = tuple(bytes(n) for n in range(8))


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A valid frame as a reader sees it. `number` is its sequence number, `crc` that of its header."""

    number: int
    kind: int
    payload: bytes
    synced: int
    crc: int


def frame_size(payload_size: int) -> int:
    """Bytes on disk of a frame with a payload of `payload_size` bytes."""
    return HEADER_SIZE + (payload_size + 7 & ~7)


def seed_of(salt: bytes) -> int:
    """The value from which all CRCs of a file with this salt start."""
    return crc32(salt)


def header_crc(head: bytes, seed: int) -> int:
    """The checksum of a frame header, over all of `head`: the length most of all."""
    return crc32(head, seed)


def encode_group(
    payloads: Sequence[bytes], *, after: int, synced: int, previous_crc: int, seed: int, kind: int = DATA
) -> tuple[bytes, int]:
    """Return the bytes of consecutive frames numbered from `after` + 1, and the header CRC of the last one.

    `synced` is what is durable now; `previous_crc` the header CRC of frame `after`.
    """
    parts: list[bytes] = []
    crc, number, pack = previous_crc, after, FIELDS.pack
    for payload in payloads:
        number += 1
        size = len(payload)
        head = pack(b"HFR", VERSION, kind, MUST_UNDERSTAND, 0, size, crc32(payload, seed), number, synced, crc)
        crc = header_crc(head, seed)
        parts += (head, CRC.pack(crc), payload, _PADDING[-size & 7])
    return b"".join(parts), crc
