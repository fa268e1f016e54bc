"""The log as one chain of frames over all segments, and the rule that tells a torn tail from damage. FORMAT.md §5.

Everyone who reads the log, be it recovery, verify, dump or the maker of snapshots, folds the one generator
`Chain.replay`. It yields each valid frame in order and, at the first frame that is invalid or missing, decides:

- p, the number expected there, is above all evidence of durability: the end of the log. `end` says what was found.
- p is at or below it: something acknowledged is gone. LogDamaged, and no file is touched.

Evidence is only what is written *after* the sync that it speaks of. Seals are not: they may reach the disk before their
neighbours. Evidence behind the first invalid frame is looked for only then, since it takes reading the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import msgspec

from holdfast.wal import layout, segment
from holdfast.wal.errors import LogDamaged
from holdfast.wal.files import calls, opened
from holdfast.wal.frame import DATA, seed_of
from holdfast.wal.layout import Identity, Mark
from holdfast.wal.segment import Cursor, Remains, SegmentHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.wal.files import Files
    from holdfast.wal.frame import Frame


class SegmentFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file named like a segment. `header` is None if it does not validate, or belongs to another number or store."""

    name: str
    first: int
    header: SegmentHeader | None
    salt: bytes
    problem: str = ""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the folder, before any frame was read. `snapshots` are the numbers in file names, newest first."""

    identity: Identity | None
    mark: Mark | None
    segments: tuple[SegmentFile, ...]
    snapshots: tuple[int, ...]

    @property
    def epoch(self) -> int:
        """The highest epoch ever served, as far as the files tell."""
        headers = (s.header.epoch for s in self.segments if s.header)
        return max(self.mark.epoch if self.mark else 0, *headers, 0)


def survey(files: Files, identity: Identity | None) -> Survey:
    """Look at names and headers. Raises NewerFormat if a header is from the future.

    MARK is read before the names: a live writer may go on in between, and then the evidence must be the older.
    """
    mark = layout.read_mark(files)
    names = files.list()
    snapshots = (layout.snapshot_number(name) for name in names)
    segments = (_look(files, name, identity) for name in names if layout.segment_number(name) is not None)
    return Survey(
        identity=identity,
        mark=mark,
        segments=tuple(segments),
        snapshots=tuple(sorted((n for n in snapshots if n is not None), reverse=True)),
    )


def _look(files: Files, name: str, identity: Identity | None) -> SegmentFile:
    with opened(files, name) as handle:
        data = files.read(handle, segment.SIZE, 0)
    header, first = segment.decode_header(name, data), layout.segment_number(name) or 0
    problem = _misfit(header, first, identity)
    return SegmentFile(
        name=name, first=first, header=None if problem else header, salt=segment.salt_in(data), problem=problem
    )


def _misfit(header: SegmentHeader | None, first: int, identity: Identity | None) -> str:
    if header is None:
        return "its header does not validate"
    if header.first != first:
        return f"its header says that it starts with frame {header.first}; it was renamed or copied"
    if identity is not None and header.store_id != identity.store_id:
        return f"it belongs to another store ({header.store_id.hex()}, not {identity.store_id.hex()})"
    return ""


class Evidence:
    """The highest number known to have been durable, and who says so."""

    def __init__(self, found: Survey) -> None:
        self.number, self.witness = 0, "nothing was ever known to be durable"
        if found.mark:
            self.add(found.mark.durable, layout.MARK)
        for file in found.segments:
            if file.header:
                self.add(file.header.previous_end, f"the header of {file.name}")
        if found.snapshots:
            self.add(found.snapshots[0], layout.snapshot_name(found.snapshots[0]))

    def add(self, number: int, source: str) -> None:
        """Take a witness into account."""
        if number > self.number:
            self.number, self.witness = number, f"{source} shows that frames up to {number} were durable"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something odd that costs nothing, for the report: where, what, and the frame numbers concerned if any."""

    file: str
    offset: int
    text: str
    first: int = 0
    last: int = 0


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log ends: behind frame `number`, at byte `offset` of `file` (None if there is no segment).

    `torn_to` is the offset behind the last byte that is not zero; beyond `offset` it means a torn tail. `junk` are the
    names of segment files behind the end that hold nothing. `frames` counts the valid frames of `file`.
    """

    number: int
    crc: int
    file: SegmentFile | None
    offset: int
    torn_to: int
    sealed: bool
    frames: int
    junk: tuple[str, ...]


class Chain:
    """All frames from number `start` on. `crc` is the header CRC of frame `start` - 1 if the caller knows it.

    After `replay` is exhausted, `end` is set and `notices` tells what was odd. If it raised, `reached` is the last segment
    read and where its valid frames end; None if not even the first could be read.
    """

    def __init__(self, files: Files, found: Survey, *, start: int = 1, crc: int | None = None) -> None:
        self._files, self._found = files, found
        self._start, self._crc = start, crc
        self._by_first = {file.first: file for file in found.segments}
        self.evidence = Evidence(found)
        self.end: End | None = None
        self.reached: tuple[SegmentFile, Cursor] | None = None
        self.notices: list[Notice] = []

    def replay(self) -> Iterator[Frame]:
        """Yield data frames from `start` on, in order. Raises LogDamaged where the rule of FORMAT.md §5 says so."""
        for frame in self.frames():
            if frame.kind == DATA and frame.number >= self._start:
                yield frame

    def frames(self) -> Iterator[Frame]:
        """As `replay`, with frames of all types, from the start of the first segment needed."""
        with calls(f"{self._files.path}: reading the journal"):
            file = self._entry()
            while file is not None and file.header is not None:
                with opened(self._files, file.name) as handle:
                    cursor = Cursor(self._files, file.name, handle, file.header)
                    yield from cursor
                    self.evidence.add(cursor.synced, f"a frame in {file.name}")
                    file = self._leave(file, handle, cursor)

    def _entry(self) -> SegmentFile | None:
        """The segment that holds frame `start`, or None if the log ends right here."""
        before = self._start - 1
        file = self._successor(before, self._crc)
        if file is None and self._start not in self._by_first:
            earlier = (file for file in self._found.segments if file.first < self._start)
            file = max(earlier, key=lambda file: file.first, default=None)
        if file is None or file.header is None:
            why, name = (file.problem, file.name) if file else self._missing(self._start)
            self._judge(self._start, name, 0, why)
            self._end_here(before, self._crc or 0)
            return None
        return file

    def _leave(self, file: SegmentFile, handle: int, cursor: Cursor) -> SegmentFile | None:
        """Having read all of `file`: the segment that follows, or None after deciding what the end means."""
        self.reached = (file, cursor)
        following = self._successor(cursor.number, cursor.crc)
        if following is not None and following.first == file.first:
            following = None  # a segment without frames looks like its own successor
        remains = segment.search(self._files, handle, seed_of(file.salt), cursor.offset)
        if following is None:
            self._finish(file, cursor, remains)
        elif remains.end > cursor.offset:
            text = f"{remains.end - cursor.offset} bytes behind the last frame; the next segment proves that none is missing"
            self.notices.append(Notice(file=file.name, offset=cursor.offset, text=text))
        return following

    def _successor(self, number: int, crc: int | None) -> SegmentFile | None:
        """The segment that continues behind frame `number`, if its header says so."""
        file = self._gap_after(number) or self._by_first.get(number + 1)
        if file is None or file.header is None:
            return None
        header = file.header
        if header.gap and header.previous_end < number:
            return file  # a reader starts right behind a gap
        if header.previous_end != number or (crc is not None and header.previous_crc != crc):
            self._refuse_file(file, f"its header does not fit frame {number} before it; it is from another time")
        return file

    def _gap_after(self, number: int) -> SegmentFile | None:
        gaps = (f for f in self._found.segments if f.header and f.header.gap and f.header.previous_end == number)
        return max(gaps, key=lambda file: file.first, default=None)

    def _missing(self, number: int) -> tuple[str, str]:
        """Why the segment that should start with `number` does not help, and its name."""
        file = self._by_first.get(number)
        return (file.problem, file.name) if file else ("the file is missing", layout.segment_name(number))

    def _finish(self, file: SegmentFile, cursor: Cursor, remains: Remains) -> None:
        self.evidence.add(remains.synced, f"a frame in {file.name}")
        expected = cursor.number + 1
        why, name, offset = cursor.why, file.name, cursor.offset
        if cursor.sealed or (cursor.count and expected in self._by_first):
            (why, name), offset = self._missing(expected), 0
        self._judge(expected, name, offset, why, remains.last)
        if remains.end > cursor.offset:
            text = f"torn tail: {remains.end - cursor.offset} bytes that were never acknowledged ({cursor.why})"
            last = max(remains.last, expected)
            self.notices.append(Notice(file=file.name, offset=cursor.offset, text=text, first=expected, last=last))
        self._end_here(cursor.number, cursor.crc, file, cursor, remains.end)

    def _end_here(
        self, number: int, crc: int, file: SegmentFile | None = None, cursor: Cursor | None = None, torn_to: int = 0
    ) -> None:
        junk = tuple(file for file in self._found.segments if file.first > number and file.header is None)
        for odd in junk:
            self.notices.append(Notice(file=odd.name, offset=0, text=f"holds no acknowledged frame: {odd.problem}"))
        self.end = End(
            number=number,
            crc=crc,
            file=file,
            offset=cursor.offset if cursor else 0,
            torn_to=torn_to,
            sealed=cursor.sealed if cursor else False,
            frames=cursor.count if cursor else 0,
            junk=tuple(odd.name for odd in junk),
        )

    def _judge(self, expected: int, name: str, offset: int, why: str, last_seen: int = 0) -> None:
        """Apply the rule to number `expected`, after looking for evidence in all files behind it."""
        for file in self._found.segments:
            if file.first >= expected and len(file.salt) == 8:
                with opened(self._files, file.name) as handle:
                    remains = segment.search(self._files, handle, seed_of(file.salt), segment.SIZE)
                self.evidence.add(remains.synced, f"a frame in {file.name}")
                last_seen = max(last_seen, remains.last)
        if expected <= self.evidence.number:
            self._refuse(expected, name, offset, why, last_seen)

    def _refuse(self, expected: int, name: str, offset: int, why: str, last_seen: int = 0) -> NoReturn:
        raise LogDamaged(
            name,
            offset,
            why,
            first=expected,
            last=max(self.evidence.number, last_seen, expected),
            witness=self.evidence.witness,
            candidates=self._candidates(expected),
        )

    def _refuse_file(self, file: SegmentFile, why: str) -> NoReturn:
        raise LogDamaged(file.name, 0, why, first=file.first, last=file.first, witness="the chain says otherwise")

    def _candidates(self, expected: int) -> list[str]:
        """Files that may hold what is missing."""
        names = [f"{layout.QUARANTINE}/{name}" for name in self._files.list(layout.QUARANTINE)]
        odd = [f"{file.name} ({file.problem})" for file in self._found.segments if file.problem]
        spare = [
            f"{file.name}, which goes on after the damage" for file in self._found.segments if file.first > expected
        ]
        return [*odd, *spare[:3], *names[:5]]
