"""T29 of the reliability plan: cron in every zone, around every change of the clocks, beside a minute-by-minute oracle.

`make test` takes zones that do unusual things and two years; `make soak` takes all zones and eight years.
"""

import bisect
import random
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import pytest

from holdfast.schedule.cron import Cron
from tests.features import feature
from tests.schedule.oracle import EXPRESSIONS, Minute, Pattern, chained, changes, minutes, signature, ticks, window

#: An hour, half an hour, changes at midnight, at 24:00, twice around Ramadan, of two hours, none; quarter-hour offsets.
ZONES: Final = (
    "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Santiago", "America/Havana",
    "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Chatham", "Africa/Casablanca", "Africa/Cairo", "Asia/Gaza",
    "Asia/Beirut", "Asia/Kathmandu", "Antarctica/Troll", "America/Scoresbysund", "Atlantic/Azores", "Europe/Dublin",
    "America/Asuncion", "UTC",
)  # fmt: skip
FEW: Final = EXPRESSIONS[3::2]


def check(zone: ZoneInfo, span: list[Minute], expressions: tuple[str, ...], chance: random.Random) -> None:
    """Ask for the ticks of the span one after another, and from moments in between."""
    begin, end = span[0].instant, span[-1].instant + 60.0
    for text in expressions:
        cron, wanted = Cron(text, zone), ticks(Pattern(text), span)
        # The oracle does not know what was skipped before its first minute.
        assert chained(cron.next_after, begin, end) == [tick for tick in wanted if tick > begin], (zone.key, text)
        for _ in range(5):
            moment = chance.uniform(begin, end - 60.0)
            place = bisect.bisect_right(wanted, moment)
            found = cron.next_after(moment)
            assert found is not None
            assert found == (wanted[place] if place < len(wanted) else max(found, end)), (zone.key, text, moment)


def weeks(year: int, chance: random.Random) -> tuple[datetime, datetime]:
    begin = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=chance.randrange(358))
    return begin, begin + timedelta(days=7)


def check_zone(name: str, years: range, expressions: tuple[str, ...]) -> int:
    """Check a zone around all its changes, and for one week of each year; return how many spans that were."""
    zone, chance = ZoneInfo(name), random.Random(name)
    spans = [window(at) for at in changes(zone, years[0], years[-1])]
    spans += [weeks(year, chance) for year in years]
    for begin, end in spans:
        check(zone, minutes(zone, begin, end), expressions, chance)
    return len(spans)


@feature("T31", "T32", "A29")
@pytest.mark.parametrize("name", ZONES)
def test_cron_fires_as_the_oracle_says_around_every_change_of_the_clocks(name: str) -> None:
    assert check_zone(name, range(2026, 2027), FEW) >= 1


@feature("T31", "T32", "A29")
@pytest.mark.parametrize("name", ["Europe/Berlin", "Australia/Lord_Howe"])
def test_expressions_of_every_kind_fire_as_the_oracle_says(name: str) -> None:
    assert check_zone(name, range(2027, 2028), EXPRESSIONS) == 3


@feature("T32")
def test_a_day_that_a_zone_left_out_fires_once_when_the_next_one_begins() -> None:
    # Samoa moved over the date line: after Thursday the 29th came Saturday the 31st of December 2011.
    zone = ZoneInfo("Pacific/Apia")
    skipped = datetime(2011, 12, 31, tzinfo=zone).timestamp()
    before = skipped - 3_600.0
    for text in ("0 12 30 12 *", "0 9 * * fri", "@daily"):
        assert Cron(text, zone).next_after(before) == skipped
    check(zone, minutes(zone, *window(datetime(2011, 12, 30, 10, tzinfo=UTC), 60)), EXPRESSIONS, random.Random(1))


def _distinct(years: range) -> list[str]:
    """Return one name for each way in which clocks go."""
    found: dict[tuple[object, ...], str] = {}
    for name in sorted(available_timezones() - {"localtime", "posixrules", "Factory"}):
        found.setdefault(signature(ZoneInfo(name), years[0], years[-1]), name)
    return sorted(found.values())


@pytest.mark.soak
@feature("T31", "T32", "A29")
def test_cron_fires_as_the_oracle_says_in_all_zones_for_eight_years() -> None:
    years = range(2024, 2032)
    spans = sum(check_zone(name, years, EXPRESSIONS) for name in _distinct(years))
    assert spans > 1_000
