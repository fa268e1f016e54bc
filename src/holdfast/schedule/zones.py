"""Wall clocks and instants: what a local time means where clocks are put forward and back.

A **wall time** is a datetime without a zone, as a clock on the wall shows it. An instant is seconds since the epoch. Each
wall time is taken to one instant: the first at which a clock of the zone shows it; if clocks skip it, the end of the
skipped span. This keeps order (a later wall time is never taken to an earlier instant), so that looking for the next
tick among wall times finds the next instant as well. A wall time that comes twice has a second instant besides.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from holdfast.errors import ConfigError

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - counted in wall times
_SECOND: Final = timedelta(seconds=1)
#: Names that the machine may have, and that mean another zone on another machine.
_LOCAL: Final = ("localtime", "posixrules", "factory")


def zone_of(name: str) -> tzinfo:
    """Return the zone of an IANA name. Raises ConfigError that names near ones.

    >>> str(zone_of("Europe/Berlin"))
    'Europe/Berlin'
    """
    if name == "UTC":
        return UTC
    try:
        if name.lower() not in _LOCAL:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError, AttributeError):
        pass  # no zone: told below. (A folder of zones is an OSError.)
    near = difflib.get_close_matches(str(name), available_timezones(), 3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else " Use a name such as 'UTC' or 'Europe/Berlin'."
    raise ConfigError(f"zone: expected the name of a time zone, found {name!r:.80}.{hint}")


def wall_of(instant: float, zone: tzinfo) -> datetime:
    """Return what a clock of the zone shows at `instant`, to the second."""
    return datetime.fromtimestamp(int(instant // 1), zone).replace(tzinfo=None, fold=0)


def first_instant(wall: datetime, zone: tzinfo) -> float:
    """Return the first instant at which a clock of the zone shows `wall`; if it is skipped, the end of what is skipped."""
    before, after = _offsets(wall, zone)
    if before >= after:
        return _seconds(wall - before)
    return first_with(zone, after, _seconds(wall - after), _seconds(wall - before))


def second_instant(wall: datetime, zone: tzinfo) -> float | None:
    """Return the second instant at which a clock shows `wall`; None for wall times that come once or never."""
    before, after = _offsets(wall, zone)
    return _seconds(wall - after) if before > after else None


def repeat_of(instant: float, zone: tzinfo) -> tuple[float, datetime] | None:
    """Return when clocks will be put back over what they show now, and to which wall time; None when they will not."""
    wall = wall_of(instant, zone)
    again = second_instant(wall, zone)
    if again is None or again <= instant:
        return None
    offset = _offsets(wall, zone)[1]
    begins = first_with(zone, offset, instant // 1, again)
    return begins, _EPOCH + timedelta(seconds=begins) + offset


def first_with(zone: tzinfo, offset: timedelta, low: float, high: float) -> float:
    """Return the first whole second after `low`, up to `high`, at which the zone has `offset`; it has it at `high`."""
    before, after = int(low), int(high)
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return float(after)


def _offsets(wall: datetime, zone: tzinfo) -> tuple[timedelta, timedelta]:
    """Return the offsets for the first and the second reading of `wall`: equal but around a change of the clocks."""
    aware = wall.replace(tzinfo=zone)
    return aware.utcoffset() or timedelta(0), aware.replace(fold=1).utcoffset() or timedelta(0)


def _seconds(utc: datetime) -> float:
    return float((utc - _EPOCH) // _SECOND)
