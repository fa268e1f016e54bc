"""Durations and times as people write them, turned into seconds. One parser for every surface.

A duration is a `timedelta`, a number of seconds, or a text such as "250ms", "3s", "5m", "1h30m", "2d". A time is an
aware `datetime`, or seconds since the epoch. A datetime without a zone is refused: it may mean any of 26 hours.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Final, TypeGuard

from holdfast.errors import BadTime

Duration = timedelta | float | str
Time = datetime | float

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_ACCEPTED: Final = 'a timedelta, a number of seconds, or a text like "250ms", "3s", "5m", "1h30m", "2d"'
#: The longest duration, in seconds: a hundred years. What is longer is a mistake of units.
DURATION_MAX: Final = 36_525 * 86_400.0
#: The last second of the year 9999. What is later is a mistake of units (milliseconds, say).
_TIME_MAX: Final = 253_402_300_799.0


def seconds(value: Duration, what: str = "duration", *, positive: bool = False) -> float:
    """Return the duration `value` in seconds. `what` names it in errors; with `positive` zero is refused too.

    Raises BadTime for negative, infinite, unreadable and absurdly long durations, and says what is accepted.

    >>> seconds("1h30m"), seconds(2.5), seconds(timedelta(minutes=1)), seconds("250ms")
    (5400.0, 2.5, 60.0, 0.25)
    """
    found = _read(value, what)
    if not 0 <= found <= DURATION_MAX or (positive and found == 0):
        bounds = "more than 0" if positive else "0 or more"
        raise BadTime(
            f"{what}: expected {bounds} seconds and at most 100 years, found {_shown(value)}. Use {_ACCEPTED}."
        )
    return found


def _read(value: Duration, what: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if _is_number(value):
        return _to_float(value)
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        hint = f' The text has no unit: write {value.strip()} or "{value.strip()}s".'
    raise BadTime(f"{what}: expected {_ACCEPTED}, found {_shown(value)}.{hint}")


def instant(value: Time, what: str = "time") -> float:
    """Return the moment `value` in seconds since the epoch (UTC). `what` names it in errors.

    Raises BadTime for a datetime without a zone, a number out of the years 1970 to 9999, and anything else.

    >>> from datetime import UTC
    >>> instant(datetime(2030, 1, 1, tzinfo=UTC))
    1893456000.0
    """
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise BadTime(
                f"{what}: expected a datetime with a time zone, found {value.isoformat()} without one. "
                "Use datetime.now(timezone.utc), or add the zone: value.replace(tzinfo=ZoneInfo('Europe/Berlin'))."
            )
        found = value.timestamp()
    elif _is_number(value):
        found = _to_float(value)
    else:
        raise BadTime(
            f"{what}: expected a datetime with a time zone or seconds since the epoch, found {_shown(value)}. "
            "For a wait from now use delay=."
        )
    if not 0 <= found <= _TIME_MAX:
        hint = " It looks like milliseconds: divide by 1000." if _TIME_MAX < found < _TIME_MAX * 1_000 else ""
        raise BadTime(f"{what}: expected a moment between the years 1970 and 9999, found {value!r}.{hint}")
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond every float, and so beyond every bound
        return math.inf


def _shown(value: object) -> str:
    return f"{value!r:.100}" if isinstance(value, str) else f"{value!r:.100} ({type(value).__name__})"
