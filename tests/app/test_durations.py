"""Durations and times: every accepted form, and each wrong one with a message that says what to write."""

import math
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.durations import instant, seconds
from holdfast.errors import BadTime


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("250ms", 0.25),
        ("3s", 3.0),
        ("5m", 300.0),
        ("1h30m", 5_400.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("1.5h", 5_400.0),
        (" 10s ", 10.0),
        (0, 0.0),
        (7, 7.0),
        (0.125, 0.125),
        (timedelta(minutes=1, milliseconds=5), 60.005),
    ],
)
def test_a_duration_is_read_in_every_form(written: str | float | timedelta, meant: float) -> None:
    assert seconds(written) == pytest.approx(meant, abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_parts_of_a_duration_add_up(days: int, hours: int, minutes: int, rest: int) -> None:
    text = f"{days}d{hours}h{minutes}m{rest}s"
    assert seconds(text) == timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds()


@pytest.mark.parametrize(
    "wrong", ["", "5 minutes", "soon", "-5m", "1h 30m", "5M", "h", "1e3s", None, True, [5], b"5m", "٥m5"]
)
def test_what_is_no_duration_is_refused_with_the_accepted_forms(wrong: object) -> None:
    with pytest.raises(BadTime, match=r'^delay: expected a timedelta, .* or a text like "250ms", "3s", "5m"'):
        seconds(wrong, "delay")  # type: ignore[arg-type]


def test_a_number_as_text_is_told_to_carry_its_unit() -> None:
    with pytest.raises(BadTime, match=r'The text has no unit: write 30 or "30s"'):
        seconds("30")


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, -math.inf, 10**400, timedelta(days=-1), "40000d"])
def test_negative_and_endless_durations_are_refused(wrong: float) -> None:
    with pytest.raises(BadTime, match=r"^timeout: expected 0 or more seconds and at most 100 years"):
        seconds(wrong, "timeout")


def test_zero_is_no_time_limit() -> None:
    with pytest.raises(BadTime, match="expected more than 0"):
        seconds(0, "timeout", positive=True)


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9000, 1, 1)), st.integers(-23, 23))  # noqa: DTZ001 - without a zone, on purpose
def test_an_aware_time_means_the_same_moment_in_every_zone(naive: datetime, hours: int) -> None:
    moment = naive.replace(tzinfo=UTC)
    assert instant(moment.astimezone(timezone(timedelta(hours=hours)))) == moment.timestamp()


def test_seconds_since_the_epoch_are_a_time() -> None:
    assert instant(1_800_000_000) == 1_800_000_000.0
    assert instant(datetime(2030, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))) == 1_909_130_400.0


def test_a_time_without_a_zone_is_refused_with_what_to_write() -> None:
    with pytest.raises(
        BadTime, match=r"^run_at: expected a datetime with a time zone, .*Use datetime.now\(timezone.utc\)"
    ):
        instant(datetime(2030, 1, 1), "run_at")  # noqa: DTZ001 - without a zone, on purpose


def test_milliseconds_are_recognised_as_a_mistake() -> None:
    with pytest.raises(BadTime, match="It looks like milliseconds: divide by 1000"):
        instant(1_800_000_000_000)


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, 10**400])
def test_times_out_of_all_bounds_are_refused(wrong: float) -> None:
    with pytest.raises(BadTime, match="expected a moment between the years 1970 and 9999"):
        instant(wrong)


@pytest.mark.parametrize("wrong", ["2030-01-01", None, True, timedelta(hours=1)])
def test_what_is_no_time_is_refused_and_delay_is_named(wrong: object) -> None:
    with pytest.raises(BadTime, match="For a wait from now use delay="):
        instant(wrong)  # type: ignore[arg-type]
