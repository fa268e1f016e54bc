"""Recurrence rules beside an oracle that looks at every day; A29."""

import calendar
import json
import random
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import BadTime, ConfigError
from holdfast.schedule.rule import Rule, read_rule
from tests.features import feature

BERLIN: Final = ZoneInfo("Europe/Berlin")
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def rule(zone: str = "UTC", **fields: Any) -> Rule:
    return read_rule(json.dumps(fields), zone)


def at(text: str, zone: ZoneInfo | None = None) -> float:
    """A wall time of a zone (UTC unless said), as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


def first(one: Rule, count: int, after: float = 0.0, zone: ZoneInfo | None = None) -> list[str]:
    """The first ticks, as a clock of the zone shows them."""
    found: list[str] = []
    moment: float | None = after
    while len(found) < count:
        assert moment is not None
        moment = one.next_after(moment)
        if moment is None:
            break
        found.append(datetime.fromtimestamp(moment, zone or UTC).strftime("%Y-%m-%d %H:%M"))
    return found


# --- what the rules mean, by example


@feature("T32")
def test_each_frequency_counts_in_its_own_unit() -> None:
    start = "2030-01-31T09:00:30Z"
    wanted = {
        "secondly": "2030-01-31 09:00",
        "minutely": "2030-01-31 09:02",
        "hourly": "2030-01-31 11:00",
        "daily": "2030-02-02 09:00",
        "weekly": "2030-02-14 09:00",
        "monthly": "2030-03-31 09:00",
        "yearly": "2032-01-31 09:00",
    }
    for frequency, second in wanted.items():
        found = first(rule(frequency=frequency, interval=2, starts_at=start), 2)
        assert found == ["2030-01-31 09:00", second], frequency


@feature("T32")
def test_a_rule_of_no_frequency_fires_once_at_its_start() -> None:
    once = rule(frequency="none", starts_at="2030-01-01T09:00:00+01:00")
    assert first(once, 5) == ["2030-01-01 08:00"]
    assert once.next_after(at("2030-01-01T08:00")) is None


@feature("T32")
def test_before_the_start_comes_the_start_and_after_the_end_comes_nothing() -> None:
    daily = rule(frequency="daily", starts_at="2030-01-01T09:00:00Z", ends_at="2030-01-03T09:00:00Z")
    assert first(daily, 5) == ["2030-01-01 09:00", "2030-01-02 09:00", "2030-01-03 09:00"]
    assert daily.next_after(at("2030-01-03T09:00")) is None


@feature("T32", "A29", "TW16")
def test_weekdays_days_and_months_narrow_a_rule() -> None:
    start = "2030-01-01T08:00:00Z"  # a Tuesday
    fridays = rule(frequency="daily", starts_at=start, days_of_week=["Friday"])
    assert first(fridays, 2) == ["2030-01-04 08:00", "2030-01-11 08:00"]
    thirteenth = rule(frequency="daily", starts_at=start, days_of_week=["fri"], days_of_month=[13])
    assert first(thirteenth, 2) == ["2030-09-13 08:00", "2030-12-13 08:00"]
    summer = rule(frequency="weekly", starts_at=start, days_of_week=["mon", "sun"], months_of_year=[7, "august"])
    assert first(summer, 3) == ["2030-07-01 08:00", "2030-07-07 08:00", "2030-07-08 08:00"]
    hours = rule(frequency="hourly", interval=12, starts_at=start, days_of_week=["sat"])
    assert first(hours, 3) == ["2030-01-05 08:00", "2030-01-05 20:00", "2030-01-12 08:00"]


@feature("T32", "A29")
def test_every_second_week_counts_weeks_from_monday() -> None:
    start = "2030-01-03T10:00:00Z"  # a Thursday
    found = first(rule(frequency="weekly", interval=2, starts_at=start, days_of_week=["mon", "thu"]), 5)
    assert found == ["2030-01-03 10:00", "2030-01-14 10:00", "2030-01-17 10:00", "2030-01-28 10:00", "2030-01-31 10:00"]


@feature("T32", "A29")
def test_month_ends_are_the_last_day_and_months_without_a_day_are_left_out() -> None:
    start = "2028-01-31T07:00:00Z"
    ends = rule(frequency="monthly", starts_at=start, days_of_month=[-1])
    assert first(ends, 4) == ["2028-01-31 07:00", "2028-02-29 07:00", "2028-03-31 07:00", "2028-04-30 07:00"]
    exact = rule(frequency="monthly", starts_at=start)
    assert first(exact, 4) == ["2028-01-31 07:00", "2028-03-31 07:00", "2028-05-31 07:00", "2028-07-31 07:00"]
    leap = rule(frequency="yearly", starts_at="2028-02-29T07:00:00Z")
    assert first(leap, 2) == ["2028-02-29 07:00", "2032-02-29 07:00"]
    # 2100 is no leap year.
    assert first(leap, 1, at("2096-03-01T00:00")) == ["2104-02-29 07:00"]
    fridays = rule(
        frequency="monthly", starts_at=start, days_of_week=["fri"], days_of_month=[-7, -6, -5, -4, -3, -2, -1]
    )
    assert first(fridays, 3) == ["2028-02-25 07:00", "2028-03-31 07:00", "2028-04-28 07:00"]


@feature("T32", "A29")
def test_a_daily_rule_keeps_its_wall_time_and_an_hourly_one_its_distance_over_a_change_of_the_clocks() -> None:
    start = "2030-03-30T02:30:00+01:00"  # the night after, 02:30 is skipped
    assert first(rule("Europe/Berlin", frequency="daily", starts_at=start), 3, zone=BERLIN) == [
        "2030-03-30 02:30", "2030-03-31 03:00", "2030-04-01 02:30",
    ]  # fmt: skip
    autumn = rule("Europe/Berlin", frequency="daily", starts_at="2030-10-26T02:30:00+02:00")
    assert first(autumn, 3, zone=BERLIN) == ["2030-10-26 02:30", "2030-10-27 02:30", "2030-10-28 02:30"]
    assert autumn.next_after(at("2030-10-26T12:00")) == at("2030-10-27T00:30")  # the first of the two
    hourly = rule("Europe/Berlin", frequency="hourly", starts_at="2030-10-27T01:30:00+02:00")
    moments = [at("2030-10-26T23:30") + 3_600.0 * hour for hour in range(4)]
    assert [hourly.next_after(moment - 1.0) for moment in moments] == moments
    six = rule("Europe/Berlin", frequency="hourly", interval=6, starts_at="2030-03-30T20:00:00+01:00")
    assert first(six, 3, zone=BERLIN) == ["2030-03-30 20:00", "2030-03-31 03:00", "2030-03-31 09:00"]


# --- beside an oracle that knows nothing but the calendar


def _days(fields: dict[str, Any], start: date, day: date) -> bool:
    """Whether the rule's calendar has this day."""
    weekdays, monthdays = set(fields.get("days_of_week", ())), set(fields.get("days_of_month", ()))
    months = set(fields.get("months_of_year", ()))
    frequency, interval = fields["frequency"], fields["interval"]
    if frequency == "weekly":
        weekdays = weekdays or {WEEKDAYS[start.weekday()]}
        number = ((day - timedelta(day.weekday())) - (start - timedelta(start.weekday()))).days // 7
    elif frequency == "monthly":
        monthdays = monthdays if weekdays or monthdays else {start.day}
        number = (day.year - start.year) * 12 + day.month - start.month
    elif frequency == "yearly":
        monthdays = monthdays if weekdays or monthdays else {start.day}
        months = months or {start.month}
        number = day.year - start.year
    else:
        number = (day - start).days
    last = calendar.monthrange(day.year, day.month)[1]
    return (
        number % interval == 0
        and (not weekdays or WEEKDAYS[day.weekday()] in weekdays)
        and (not monthdays or day.day in monthdays or day.day - last - 1 in monthdays)
        and (not months or day.month in months)
    )


def _moment(wall: datetime, zone: ZoneInfo) -> float:
    """The first instant of a wall time, or the end of the span that is skipped with it: found minute by minute."""
    found = int(wall.replace(tzinfo=zone).timestamp()) - 7_200
    while datetime.fromtimestamp(found, zone).replace(tzinfo=None, fold=0) < wall:
        found += 60
    return float(found)


def oracle(fields: dict[str, Any], zone: ZoneInfo, start: datetime, days: int) -> list[float]:
    """All ticks of the first `days` days."""
    begin = start.date()
    fitting = [begin + timedelta(days=day) for day in range(days)]
    found = [_moment(datetime.combine(day, start.time()), zone) for day in fitting if _days(fields, begin, day)]
    return sorted({tick for tick in found if tick >= _moment(start, zone)})


_fields = st.fixed_dictionaries(
    {"frequency": st.sampled_from(("daily", "weekly", "monthly", "yearly")), "interval": st.integers(1, 5)},
    optional={
        "days_of_week": st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=3, unique=True),
        "days_of_month": st.lists(st.integers(1, 31) | st.integers(-4, -1), min_size=1, max_size=4, unique=True),
        "months_of_year": st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True),
    },
)
_zones = st.sampled_from(("UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"))
_starts = st.builds(
    lambda day, minute: datetime.combine(date(2025, 1, 1) + timedelta(days=day), time(minute // 60, minute % 60)),
    st.integers(0, 900),
    st.integers(0, 1_439),
)


@feature("T32", "A29")
@given(fields=_fields, name=_zones, start=_starts)
@settings(max_examples=60, deadline=None)
def test_any_rule_fires_on_the_days_of_the_calendar(fields: dict[str, Any], name: str, start: datetime) -> None:
    zone, days = ZoneInfo(name), 600
    begin = _moment(start, zone)
    start = datetime.fromtimestamp(begin, zone).replace(tzinfo=None, fold=0)  # a skipped start begins after the gap
    one = rule(name, **fields, starts_at=begin)
    end = _moment(datetime.combine(start.date() + timedelta(days=days - 1), time()), zone)
    found, moment = [], one.next_after(0.0)
    while moment is not None and moment < end:
        found.append(moment)
        moment = one.next_after(moment)
    assert found == [tick for tick in oracle(fields, zone, start, days) if tick < end]


@feature("T32", "A29", "TW16")
def test_a29_ten_thousand_occurrences_of_a_rule_come_one_by_one_without_an_end() -> None:
    fields: dict[str, Any] = {"frequency": "weekly", "interval": 1, "days_of_week": ["mon", "wed", "sun"]}
    start = datetime(2026, 1, 5, 2, 30)  # noqa: DTZ001 - a wall time, in the hour that is skipped and repeated
    one = rule("Europe/Berlin", **fields, starts_at=_moment(start, BERLIN))
    wanted = oracle(fields, BERLIN, start, 10_000 * 7 // 3 + 7)[:10_000]
    found, moment = [], 0.0
    for _ in range(10_000):
        following = one.next_after(moment)
        assert following is not None
        moment = following
        found.append(moment)
    assert found == wanted


@feature("T32")
@given(
    seconds=st.integers(0, 4_000_000_000) | st.floats(0, 4e9),
    text=st.sampled_from(("*/5 * * * *", "30 2 * * *", "every 90s", '{"frequency":"hourly","interval":7}')),
    name=_zones,
)
@settings(max_examples=200, deadline=None)
def test_the_next_tick_is_later_and_nothing_lies_between(seconds: float, text: str, name: str) -> None:
    one = read_rule(text, name, made=0.0)
    found = one.next_after(seconds)
    assert found is not None
    assert found > seconds
    between = random.Random(seconds).uniform(seconds, found)
    if seconds < between < found:
        assert one.next_after(between) == found


# --- intervals


@feature("T31")
def test_an_interval_counts_from_its_start_or_from_the_epoch_and_may_be_below_a_minute() -> None:
    assert read_rule("every 15m").next_after(at("2030-01-01T10:07")) == at("2030-01-01T10:15")
    started = read_rule("every 15m", start=at("2030-01-01T10:07"))
    assert started.next_after(at("2030-01-01T09:00")) == at("2030-01-01T10:07")
    assert started.next_after(at("2030-01-01T10:07")) == at("2030-01-01T10:22")
    tenth = read_rule("@every 100ms", start=1_800_000_000.0)
    moment = 1_800_000_000.0
    for count in range(1, 1_000):
        moment = tenth.next_after(moment) or 0.0
        assert moment == pytest.approx(1_800_000_000.0 + count / 10, abs=1e-6)


@feature("T31")
def test_an_interval_does_not_follow_the_clocks() -> None:
    day = read_rule("every 1d", "Europe/Berlin", start=at("2030-03-30T12:00"))
    assert day.next_after(at("2030-03-30T12:00")) == at("2030-03-31T12:00")


@feature("T31")
@pytest.mark.parametrize(
    ("name", "same"),
    [("@daily", "0 0 * * *"), ("@Hourly", "0 * * * *"), ("@weekly", "0 0 * * 0"), ("@monthly", "0 0 1 * *"),
     ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@midnight", "0 0 * * *")],
)  # fmt: skip
def test_names_stand_for_expressions(name: str, same: str) -> None:
    assert first(read_rule(name), 5, 1.8e9) == first(read_rule(same), 5, 1.8e9)


@feature("T31")
def test_a_sixth_field_is_seconds() -> None:
    assert read_rule("*/20 * * * * *").next_after(at("2030-01-01T00:00") + 1) == at("2030-01-01T00:00") + 20


# --- bad input


@feature("T31", "T32")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 to 1,000 characters"),
        ("* " * 600, "1 to 1,000 characters"),
        ("* * * *", "five fields"),
        ("61 * * * *", "Bad minute"),
        ("* 24 * * *", "Bad hour"),
        ("*/0 * * * *", "Bad minute"),
        ("0 0 30 2 *", "Does the day exist"),
        ("tomorrow", "five fields"),
        ("@reboot", "lifespan"),
        ("1-5-7 * * * *", "Bad minute"),
        ("* * * * MON#2/3", "day-of-week"),
        ("١ * * * *", "Bad minute"),
        ("every never", "every: expected"),
        ("every 0s", "more than 0"),
        ("every -5s", "every: expected"),
        ("every 5", 'write 5 or "5s"'),
        ("every 1ms", "Loop in one job"),
        ("every 999999w", "at most 100 years"),
        ("{", "recurrence rule"),
        ("{}", "frequency"),
        ('{"frequency": "often"}', "often"),
        ('{"frequency": "daily", "interval": 0}', "interval: expected a whole number from 1"),
        ('{"frequency": "daily", "interval": -1}', "found -1"),
        ('{"frequency": "daily", "interval": 1.5}', "int"),
        ('{"frequency": "daily", "days_of_week": ["noday"]}', "mon, tue"),
        ('{"frequency": "daily", "days_of_week": ["month"]}', "mon, tue"),
        ('{"frequency": "daily", "days_of_month": [0]}', "1 to 31"),
        ('{"frequency": "daily", "days_of_month": [32]}', "1 to 31"),
        ('{"frequency": "daily", "months_of_year": [13]}', "jan, feb"),
        ('{"frequency": "daily", "hours": [1]}', "hours"),
        ('{"frequency": "daily", "starts_at": "2030-01-01T00:00:00"}', "time zone"),
        ('{"frequency": "daily", "starts_at": 2000000000, "ends_at": 1999999999}', "end at or after the start"),
        ('{"frequency": "daily", "starts_at": -5}', "1970"),
        ("[" * 500, "five fields"),
        ('{"frequency":' + "[" * 900, "recurrence rule"),
    ],
)
def test_a_rule_that_is_none_is_refused_and_says_what_was_expected(text: str, says: str) -> None:
    with pytest.raises((ConfigError, BadTime)) as raised:
        read_rule(text)
    assert says in str(raised.value)


@feature("T31")
@pytest.mark.parametrize(
    "name", ["", "Berlin", "Europe/Berlyn", "Europe", "../etc/passwd", "localtime", "CEST", "UTC+2"]
)
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="zone: expected the name of a time zone"):
        read_rule("@daily", name)


def test_a_misspelt_zone_is_told_with_a_near_one() -> None:
    with pytest.raises(ConfigError, match="Europe/Berlin"):
        read_rule("@daily", "Europe/Berln")


@feature("T32")
@pytest.mark.parametrize(
    "text",
    [
        '{"frequency": "daily", "interval": 7, "starts_at": 1799625600, "days_of_week": ["sun"]}',  # starts on a Monday
        '{"frequency": "monthly", "days_of_month": [30, 31], "months_of_year": ["feb"]}',
        '{"frequency": "yearly", "days_of_month": [31], "months_of_year": [4, 6]}',
        '{"frequency": "hourly", "days_of_month": [31], "months_of_year": [2]}',
        '{"frequency": "secondly", "days_of_month": [30], "months_of_year": [2]}',
        "0 0 1 1 mon#2",
        "0 0 */31 2 mon#2",
    ],
)
def test_a_rule_that_never_fires_is_found_out_at_once(text: str) -> None:
    one = read_rule(text)
    found = one.next_after(1.8e9)
    assert found is None or text == "0 0 1 1 mon#2"  # of which one of the two is enough


@given(st.text(alphabet="0123456789*/-,#LWl mon@every{}\"': ", max_size=40) | st.text(max_size=30))
@settings(max_examples=1_500, deadline=None)
def test_any_text_is_a_rule_or_is_refused_by_type(text: str) -> None:
    try:
        one = read_rule(text, "Europe/Berlin")
    except (ConfigError, BadTime):
        return
    found = one.next_after(1.8e9)
    assert found is None or found > 1.8e9


@feature("T32")
def test_the_end_of_the_calendar_ends_a_rule() -> None:
    late = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
    for text in ("0 0 1 1 *", '{"frequency": "daily"}', '{"frequency": "yearly"}', '{"frequency": "monthly"}'):
        assert read_rule(text, "Europe/Berlin").next_after(late + 86_400.0) is None
