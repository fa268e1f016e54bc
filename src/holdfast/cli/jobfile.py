"""A file of jobs: a JSON array, or JSON lines. Read whole and checked whole, so that nothing of a bad file is stored.

Each job is `{"id"?, "task", "payload", "queue"?, "delay"?, "priority"?, …}`; the older form `{"id", "payload": {"type": …}}`
works too.
"""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ContentError
from holdfast.job.commands import ENQUEUE_BYTES_MAX, ENQUEUE_JOBS_MAX
from holdfast.wire.requests import JobRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A file of the most jobs with the largest payload and room for what surrounds it, in bytes.
FILE_MAX: Final = 2 * ENQUEUE_BYTES_MAX
_SPACE: Final = " \t\r\n"
_DECODER: Final = msgspec.json.Decoder(JobRequest)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"expected a number of at most 1.8e308, found {text[:40]}. Send it as text")
    return number


def _refuse_constant(text: str) -> float:
    raise ValueError(f"expected JSON, which has no {text}. Use null, or send it as text")


_SCANNER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


class BadJobFile(ContentError):
    """A file of jobs can not be accepted; the message names the line."""


class JobLine(msgspec.Struct, frozen=True):
    """A job and the line on which it begins."""

    line: int
    request: JobRequest


def read_job_file(path: Path) -> list[JobLine]:
    """Return the jobs of a file ("-": standard input). Raises BadJobFile, which names file, line and reason."""
    name, text = _read(path)
    start = _skip(text, 0)
    if start == len(text):
        raise BadJobFile(f"{name}:1: expected a JSON array of jobs or one job a line, found nothing.")
    items = _array(name, text, start) if text[start] == "[" else _lines(name, text)
    found: list[JobLine] = []
    for line, piece in items:
        if len(found) == ENQUEUE_JOBS_MAX:
            raise BadJobFile(
                f"{name}:{line}: expected at most {ENQUEUE_JOBS_MAX:,} jobs, found more. Nothing was stored: split the file."
            )
        found.append(JobLine(line, _job(name, line, piece)))
    return found


def _read(path: Path) -> tuple[str, str]:
    if str(path) == "-":
        name, data = "standard input", sys.stdin.buffer.read(FILE_MAX + 1)
    else:
        name = str(path)
        try:
            with path.open("rb") as file:
                data = file.read(FILE_MAX + 1)
        except OSError as error:
            raise BadJobFile(f"{name}: expected a file of jobs, but it can not be read ({error.strerror}).") from error
    if len(data) > FILE_MAX:
        raise BadJobFile(
            f"{name}: expected at most {FILE_MAX:,} bytes, found more. Nothing was stored: split the file."
        )
    try:
        return name, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadJobFile(
            f"{name}:{line}: expected UTF-8, found the byte {data[error.start]:#04x}. Save it as UTF-8."
        ) from None


def _array(name: str, text: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield the items of the array that begins at `start`, with their lines."""
    lines = _Lines(text)
    at = _skip(text, start + 1)
    if text[at : at + 1] == "]":
        at += 1
    else:
        while True:
            end = _end_of(name, text, at, lines)
            yield lines.of(at), text[at:end]
            at = _skip(text, end)
            sign = text[at : at + 1]
            if sign not in (",", "]"):
                raise BadJobFile(f"{name}:{lines.of(at)}: expected , or ] behind a job, found {sign or 'the end'!r}.")
            at = _skip(text, at + 1)
            if sign == "]":
                break
    at = _skip(text, at)
    if at < len(text):
        raise BadJobFile(f"{name}:{lines.of(at)}: expected nothing behind the array, found {text[at]!r}.")


def _lines(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the items of a file with one job a line; empty lines are passed over."""
    lines = _Lines(text)
    at = _skip(text, 0)
    while at < len(text):
        end = _end_of(name, text, at, lines)
        yield lines.of(at), text[at:end]
        rest = text[end : text.find("\n", end) if "\n" in text[end:] else len(text)]
        if rest.strip(_SPACE):
            raise BadJobFile(f"{name}:{lines.of(end)}: expected one job a line, found more: {rest.strip()[:40]!r}.")
        at = _skip(text, end)


class _Lines:
    """Tells the line of a position; positions only grow."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1

    def of(self, position: int) -> int:
        self._line += self._text.count("\n", self._at, position)
        self._at = max(self._at, position)
        return self._line


def _end_of(name: str, text: str, at: int, lines: _Lines) -> int:
    try:
        return _SCANNER.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise BadJobFile(
            f"{name}:{error.lineno}: not JSON: {error.msg[:1].lower()}{error.msg[1:]} (column {error.colno})."
        ) from None
    except RecursionError:
        raise BadJobFile(f"{name}:{lines.of(at)}: expected at most 100 levels of nesting, found more.") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadJobFile(f"{name}:{lines.of(at)}: {error}.") from None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _job(name: str, line: int, piece: str) -> JobRequest:
    try:
        return _DECODER.decode(piece.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadJobFile(f"{name}:{line}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = str(error).replace("`", "'")
    return f"{text[:1].lower()}{text[1:]}. Nothing was stored; mend the line and try again."
