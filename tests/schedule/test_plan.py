"""What is due, what was missed, what comes next: without a store."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.job.model import CatchUp, Schedule, ScheduleStatus
from holdfast.schedule.drafts import checked, read_options
from holdfast.schedule.plan import BATCH, GRACE, Step, following, next_of, step_of
from tests.features import feature

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


def hourly(**fields: Any) -> Schedule:
    """An active schedule of every full hour whose next time is noon."""
    base: dict[str, Any] = {"name": "s", "rule": "0 * * * *", "task": "t", "status": ScheduleStatus.ACTIVE}
    return Schedule(**{**base, "next_run_at": NOON, "catch_up": CatchUp.ONCE, **fields})


@feature("T31")
def test_nothing_is_due_before_its_time_and_a_tick_is_due_at_it() -> None:
    assert step_of(hourly(), NOON - 1e-3) is None
    assert step_of(hourly(), NOON) == Step((NOON,), NOON + HOUR)


@feature("T31")
@pytest.mark.parametrize("status", [status for status in ScheduleStatus if status is not ScheduleStatus.ACTIVE])
def test_only_active_schedules_are_due(status: ScheduleStatus) -> None:
    assert step_of(hourly(status=status), NOON) is None
    assert step_of(hourly(deleted_at=NOON), NOON) is None
    assert step_of(hourly(next_run_at=None), NOON) is None


@feature("T31", "TW16")
def test_missed_ticks_become_one_job_or_all_or_none() -> None:
    late = NOON + 5 * HOUR + 30 * MINUTE
    after = NOON + 6 * HOUR
    assert step_of(hourly(), late) == Step((NOON + 5 * HOUR,), after)
    assert step_of(hourly(catch_up=CatchUp.ALL), late) == Step(tuple(NOON + hour * HOUR for hour in range(6)), after)
    assert step_of(hourly(catch_up=CatchUp.SKIP), late) == Step((), after)
    just = NOON + 5 * HOUR + GRACE
    assert step_of(hourly(catch_up=CatchUp.SKIP), just) == Step((NOON + 5 * HOUR,), after)


@feature("T31")
def test_all_missed_ticks_come_in_steps_that_leave_none_out() -> None:
    schedule = hourly(rule="every 1m", catch_up=CatchUp.ALL)
    now = NOON + 3 * BATCH * MINUTE
    ticks: list[float] = []
    while (step := step_of(schedule, now)) is not None:
        assert len(step.ticks) <= BATCH
        ticks += step.ticks
        schedule = hourly(rule="every 1m", catch_up=CatchUp.ALL, next_run_at=step.after)
    assert ticks == [NOON + minute * MINUTE for minute in range(3 * BATCH + 1)]


@feature("T31")
def test_the_last_of_a_million_missed_ticks_is_found_from_the_end() -> None:
    schedule = hourly(rule="* * * * * *")
    assert step_of(schedule, NOON + 365 * DAY + 0.5) == Step((NOON + 365 * DAY,), NOON + 365 * DAY + 1)
    busy = hourly(rule="* * 2 * * *", next_run_at=NOON - 10 * HOUR)
    assert step_of(busy, NOON + 30 * DAY) == Step((NOON + 29 * DAY + 15 * HOUR - 1,), NOON + 30 * DAY + 14 * HOUR)


@feature("T31")
def test_a_number_of_jobs_ends_a_schedule_and_only_jobs_that_were_made_count() -> None:
    schedule = hourly(max_count=3, count=2)
    step = step_of(schedule, NOON)
    assert step == Step((NOON,), NOON + HOUR)
    assert (next_of(schedule, step, 1), next_of(schedule, step, 0)) == (None, NOON + HOUR)
    caught_up = hourly(max_count=5, count=2, catch_up=CatchUp.ALL)
    step = step_of(caught_up, NOON + 10 * HOUR)
    assert step is not None
    assert (len(step.ticks), next_of(caught_up, step, 3)) == (3, None)


@feature("T31")
def test_start_and_end_are_kept_to_the_second_and_both_may_be_ticks() -> None:
    schedule = hourly(start_at=NOON, end_at=NOON + 2 * HOUR)
    assert following(schedule, NOON - DAY) == NOON
    assert following(schedule, NOON) == NOON + HOUR
    assert following(schedule, NOON + HOUR) == NOON + 2 * HOUR
    assert following(schedule, NOON + 2 * HOUR) is None
    assert following(hourly(end_at=NOON + 2 * HOUR - 1), NOON + HOUR) is None


@feature("T31")
@given(
    rule=st.sampled_from(
        ("*/7 * * * *", "30 2 * * *", "every 11m", "0 9 * * mon", '{"frequency":"daily","interval":3}')
    ),
    zone=st.sampled_from(("UTC", "Europe/Berlin", "Africa/Casablanca")),
    gaps=st.lists(st.floats(0.0, 3 * DAY), min_size=1, max_size=12),
    catch_up=st.sampled_from(CatchUp),
)
def test_however_seldom_one_looks_each_tick_is_met_once_or_left_out_as_the_policy_says(
    rule: str, zone: str, gaps: list[float], catch_up: CatchUp
) -> None:
    schedule = hourly(rule=rule, zone=zone, start_at=NOON, catch_up=catch_up)
    first = following(schedule, NOON - 1)
    schedule = hourly(rule=rule, zone=zone, start_at=NOON, catch_up=catch_up, next_run_at=first)
    now = NOON
    fired: list[float] = []
    for gap in gaps:
        now += gap
        while (step := step_of(schedule, now)) is not None:
            fired += step.ticks
            schedule = hourly(rule=rule, zone=zone, start_at=NOON, catch_up=catch_up, next_run_at=step.after)
    wanted, tick = [], first
    while tick is not None and tick <= now:
        wanted.append(tick)
        tick = following(schedule, tick)
    assert schedule.next_run_at == tick
    assert fired == wanted if catch_up is CatchUp.ALL else set(fired) <= set(wanted)
    assert fired == sorted(set(fired))


# --- bad input


@feature("T31", "T32")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "expected one of cron=, every=, rule= and at=, found none"),
        ({"cron": "@daily", "every": "5m"}, "found cron and every"),
        ({"cron": 5}, "cron: expected an expression"),
        ({"cron": "@daily", "max_count": 0}, "max_count: expected a whole number from 1"),
        ({"cron": "@daily", "max_count": -3}, "max_count"),
        ({"cron": "@daily", "max_count": True}, "max_count"),
        ({"cron": "@daily", "catch_up": "never"}, "'skip', 'once', 'all'"),
        ({"cron": "@daily", "overlap": "yes"}, "'allow', 'skip'"),
        ({"cron": "@daily", "zone": None}, "zone: expected the name"),
        ({"cron": "@daily", "start": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is what is refused
        ({"cron": "@daily", "queue": ""}, "queue: expected 1 to 100"),
        ({"cron": "@daily", "queue": "q" * 101}, "queue: expected 1 to 100"),
        ({"cron": "@daily", "priority": 101}, "priority"),
        ({"cron": "@daily", "colour": "red"}, "unknown option 'colour'"),
        ({"every": "0s"}, "more than 0"),
        ({"every": -5}, "more than 0"),
        ({"rule": {"frequency": "sometimes"}}, "sometimes"),
        ({"rule": {"frequency": "daily", "interval": object()}}, "rule: expected a dict"),
        ({"at": "tomorrow"}, "at: expected"),
    ],
)
def test_bad_options_are_refused_in_words(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_options(options, new=True)
    assert says in str(raised.value)


@feature("T31")
def test_all_faults_of_the_options_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read_options({"every": "no", "max_count": 0, "overlap": 3}, new=True)
    assert len(raised.value.faults) == 3


@feature("T31", "T32")
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "schedule: expected 1 to 100"),
        ({"name": "n" * 101}, "schedule: expected 1 to 100"),
        ({"rule": "nonsense"}, "cron: expected"),
        ({"zone": "Mars/Olympus"}, "zone: expected"),
        ({"start_at": NOON + 10, "end_at": NOON}, "end at or after the start"),
        ({"end_at": NOON - DAY}, "Its end is in the past"),
        ({"rule": "0 0 1 1 *", "end_at": NOON + DAY}, "after its end"),
        ({"rule": '{"frequency": "none", "starts_at": 1000000000}'}, "in the past"),
        ({"rule": '{"frequency": "monthly", "days_of_month": [31], "months_of_year": ["feb"]}'}, "no day fits"),
    ],
)
def test_a_schedule_that_could_never_fire_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        checked(hourly(**fields), NOON)
    assert says in str(raised.value)


@feature("T31")
def test_a_rule_without_a_start_begins_when_it_is_made() -> None:
    made = checked(hourly(rule='{"frequency": "daily", "interval": 2}', next_run_at=None), NOON + 0.4)
    assert (made.start_at, made.next_run_at) == (NOON + 1, NOON + 1)
    assert following(made, NOON + 1) == NOON + 1 + 2 * DAY


@feature("T31")
def test_only_an_active_schedule_gets_a_next_time() -> None:
    assert checked(hourly(), NOON).next_run_at == NOON + HOUR
    assert checked(hourly(status=ScheduleStatus.DRAFT), NOON).next_run_at is None
