"""Logs: one event, one line, whatever text is in it. JSON for machines, a plain form for people.

Everything is logged below the logger "holdfast"; the root logger is never touched. Fields travel with a record as
`extra={"fields": {...}}`, so that other handlers keep working.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job.content import INT_MAX, INT_MIN, clean_text, safe_str

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME: Final = "holdfast"
#: A value longer than this is cut, in bytes.
VALUE_MAX: Final = 8_192

# What ends a line somewhere, moves a cursor, or turns the reading direction: control characters (C0, DEL, C1), the line
# and paragraph separators, and the bidirectional marks with which text can pose as other text.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PLAIN: Final = re.compile(r"[\w.:/@+,\[\]-]+")
_encode: Final = msgspec.json.Encoder().encode


def one_line(text: str) -> str:
    r"""Return `text` with everything escaped that could end, move or turn a line.

    >>> print(one_line("a\nb\x1b[31m"))
    a\nb\x1b[31m
    """
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    sign = found[0]
    return _SHORT.get(sign) or (f"\\x{ord(sign):02x}" if ord(sign) < 256 else f"\\u{ord(sign):04x}")


def _json_escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the fields that a record carries."""
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # a value's own text may raise anything; the event must still be told
        return f"{safe_str(record.msg)} [whose values can not be shown: {type(error).__name__}]"


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event, then the record's fields; error and traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        found: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _message(record),
        }
        # A field can not pose as one of the four.
        found |= {f"{name}_" if name in found else name: value for name, value in fields_of(record).items()}
        if record.exc_info and record.exc_info[0] is not None:
            found["error_type"] = record.exc_info[0].__name__
            found["traceback"] = self.formatException(record.exc_info)
        cleaned = {clean_text(name, VALUE_MAX): _value(value) for name, value in found.items()}
        return _UNSAFE.sub(_json_escaped, _encode(cleaned).decode())


def _value(value: object) -> object:
    if isinstance(value, str):
        return clean_text(value, VALUE_MAX)
    if value is None or isinstance(value, float) or (isinstance(value, int) and INT_MIN <= value <= INT_MAX):
        return value
    return clean_text(safe_str(value), VALUE_MAX)


class HumanFormatter(logging.Formatter):
    """Time, level, event, then fields as name=value. With `tracebacks`, each line of one follows behind a bar, so that
    no text of an error can pose as an event; without, an error is its type and text."""

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        parts = [
            f"{_time(record):%H:%M:%S}",
            f"{record.levelname:<7}",
            one_line(clean_text(_message(record), VALUE_MAX)),
        ]
        parts += [f"{one_line(name)}={_shown(value)}" for name, value in fields_of(record).items()]
        if not record.exc_info or record.exc_info[1] is None:
            return " ".join(parts)
        error = record.exc_info[1]
        parts.append(f"error={_shown(f'{type(error).__name__}: {safe_str(error)}')}")
        if not self._tracebacks:
            return " ".join(parts)
        lines = self.formatException(record.exc_info).split("\n")
        return "\n".join([" ".join(parts), *(f"    | {one_line(line)}" for line in lines)])


def _shown(value: object) -> str:
    text = clean_text(value if isinstance(value, str) else safe_str(value), VALUE_MAX)
    return text if _PLAIN.fullmatch(text) else '"' + one_line(text).replace('"', '\\"') + '"'


def set_up(stream: IO[str], *, json: bool, level: int = logging.INFO, tracebacks: bool = False) -> Callable[[], None]:
    """Write what is logged below "holdfast" to `stream`, and no longer to the root logger's handlers; return what undoes it.

    For programs (the command line calls it); a library leaves this to its user.
    """
    logger = logging.getLogger(NAME)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if json else HumanFormatter(tracebacks=tracebacks))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False

    def undo() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]

    return undo
