"""Reading without the lock, beside a live writer: for tools, and for the process that folds snapshots. Changes nothing.

A writer may move on between two looks at the folder: it rotates, removes old segments, fills what was empty a moment
ago. What looks like damage because of that is gone on a second look, so damage counts only if it stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.wal import layout, segment
from holdfast.wal.chain import Chain, survey
from holdfast.wal.errors import LogDamaged, LogIO, NotReady
from holdfast.wal.files import calls, opened
from holdfast.wal.frame import DATA, FIELDS, HEADER_SIZE, Frame, seed_of
from holdfast.wal.segment import Cursor, SegmentHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.wal.files import Files

_LOOKS: Final = 3


def scan(files: Files, first: int = 1, last: int | None = None) -> Iterator[Frame]:
    """Yield data frames `first` to `last` (None: to the end, as it is now).

    Raises LogDamaged where an open would; NotReady if the log ends before `last`.
    """
    expected, looks = first, 0
    while True:
        looks += 1
        try:
            for frame in _look(files, expected):
                if last is not None and frame.number > last:
                    return
                expected, looks = frame.number + 1, 1
                if frame.kind == DATA:
                    yield frame
        except (LogDamaged, LogIO):
            if looks == _LOOKS:
                raise
            continue
        if last is not None and expected <= last:
            raise NotReady(last)
        return


def _look(files: Files, start: int) -> Iterator[Frame]:
    with calls(f"{files.path}: reading the journal"):
        found = survey(files, layout.read_identity(files))
    for frame in Chain(files, found, start=start).frames():
        if frame.number >= start:
            yield frame


def salvage(files: Files, name: str) -> Iterator[Frame]:
    """Yield every valid frame of one segment file, in file order, going on behind damage; also of one in quarantine.

    For looking at, never for replay: the frames need not be a chain. Uses the salt in the header even if the header is
    damaged.
    """
    with calls(f"{files.path}: reading {name}"), opened(files, name) as handle:
        salt = segment.salt_in(files.read(handle, segment.SIZE, 0))
        size, at = files.size(handle), segment.SIZE
        while at + HEADER_SIZE <= size:
            head = files.read(handle, HEADER_SIZE, at)
            number = next(iter(segment.headers_in(head, seed_of(salt))), (0, 0))[0]
            frame = _one(files, name, handle, salt, at, head) if number else None
            if frame is None:
                at += 8
                continue
            yield frame
            at += HEADER_SIZE + (len(frame.payload) + 7 & ~7)


def _one(files: Files, name: str, handle: int, salt: bytes, at: int, head: bytes) -> Frame | None:
    """The frame at `at`, taken on its own: whatever it says about its predecessor is believed."""
    _, _, _, _, _, _, _, number, _, previous = FIELDS.unpack_from(head)
    alone = SegmentHeader(
        first=number, previous_end=number - 1, previous_crc=previous, salt=salt, store_id=b"", epoch=0
    )
    cursor = Cursor(files, name, handle, alone, offset=at)
    return next(iter(cursor), None)
