"""The file of `holdfast export`: JSON lines that say all that a store holds. The last line counts the rest.

{"holdfast": "export", "version": 1, "at": …}
{"audit": …}  {"figure": …}  {"queue": …}  {"definition": …}  {"schedule": …}  {"worker": …}  {"link": …}  {"job": …}  …
{"end": {"lines": n, "jobs": n, "epoch": n}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.audit import AuditEntry
from holdfast.errors import ContentError
from holdfast.job.commands import KeyLink
from holdfast.job.model import EPOCH_BITS, Queue, WorkerConfig
from holdfast.wire.definitions import DefinitionDoc, ScheduleDoc
from holdfast.wire.documents import JobDoc
from holdfast.wire.records import FigureDoc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSION: Final = 1
_FORMAT: Final = "export"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    holdfast: str = _FORMAT
    version: int = VERSION
    at: float = 0.0


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What the last line says: how many lines there are before it, how many jobs, and the highest epoch of their tokens."""

    lines: int
    jobs: int
    epoch: int


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line: one of these."""

    queue: Queue | None = None
    definition: DefinitionDoc | None = None
    schedule: ScheduleDoc | None = None
    worker: WorkerConfig | None = None
    audit: AuditEntry | None = None
    figure: FigureDoc | None = None
    link: KeyLink | None = None
    job: JobDoc | None = None
    end: End | None = None


_encode: Final = msgspec.json.Encoder().encode
_LINE: Final = msgspec.json.Decoder(Line)
_HEAD: Final = msgspec.json.Decoder(Head)


class Writer:
    """Makes the lines, and counts them."""

    def __init__(self) -> None:
        self._lines = self._jobs = self._epoch = 0

    def head(self, at: float) -> bytes:
        """Return the first line. `at`: seconds since the epoch."""
        self._lines = 1
        return _encode(Head(at=at)) + b"\n"

    def line(self, line: Line) -> bytes:
        """Return a line."""
        self._lines += 1
        if line.job is not None:
            self._jobs += 1
            self._epoch = max(self._epoch, line.job.token >> EPOCH_BITS)
        return _encode(line) + b"\n"

    def end(self) -> bytes:
        """Return the last line."""
        return _encode(Line(end=End(lines=self._lines, jobs=self._jobs, epoch=self._epoch))) + b"\n"


def read(lines: Iterable[bytes]) -> Iterator[Line]:
    """Yield the lines of a file, the last one too. Raises ContentError that names the line where it is none, or cut."""
    number, ended = 0, False
    for number, data in enumerate(lines, start=1):
        if ended:
            raise ContentError(f"line {number}: expected nothing behind the last line of an export, found more.")
        if number == 1:
            _check_head(data)
            continue
        try:
            line = _LINE.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ContentError(
                f"line {number}: expected a line of an export, found something else: {error}."
            ) from error
        ended = line.end is not None
        if line.end is not None and line.end.lines != number - 1:
            raise ContentError(f"line {number}: expected {line.end.lines:,} lines before it, found {number - 1:,}.")
        yield line
    if not ended:
        raise ContentError(f"line {number}: expected an export with its last line, found one that was cut there.")


def _check_head(data: bytes) -> None:
    try:
        head = _HEAD.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        head = Head(holdfast="")
    if head.holdfast != _FORMAT or head.version != VERSION:
        raise ContentError(f"line 1: expected an export of version {VERSION}, found {data[:80]!r}.")
