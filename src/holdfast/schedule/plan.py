"""What is to be done about a schedule now: pure, so that every scheduler comes to the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.job.model import CatchUp, ScheduleStatus
from holdfast.schedule.rule import read_rule

if TYPE_CHECKING:
    from holdfast.job.model import Schedule
    from holdfast.schedule.rule import Rule

#: How many missed ticks one step makes jobs of; with more, the next step follows at once.
BATCH: Final = 100
#: A tick that is older than this when it is seen counts as missed, for schedules that skip what they missed. Seconds.
GRACE: Final = 60.0
#: Less than any interval, more than the rounding of seconds in a float.
_BEFORE: Final = 1e-5


class Step(msgspec.Struct, frozen=True):
    """The ticks that become jobs, perhaps none; and the first tick behind those that were looked at."""

    ticks: tuple[float, ...]
    after: float | None


def rule_of(schedule: Schedule) -> Rule:
    """Return a schedule's rule. Raises ConfigError or BadTime when its text is none."""
    return read_rule(schedule.rule, schedule.zone, schedule.start_at, schedule.created_at)


def following(schedule: Schedule, moment: float, rule: Rule | None = None) -> float | None:
    """Return the schedule's first tick after `moment`, from its start on and up to its end; None: there is none."""
    if schedule.start_at is not None:
        moment = max(moment, schedule.start_at - _BEFORE)
    found = (rule or rule_of(schedule)).next_after(moment)
    return None if found is None or (schedule.end_at is not None and found > schedule.end_at) else found


def step_of(schedule: Schedule, now: float) -> Step | None:
    """Return what is due at `now`; None: nothing is, or the schedule does not fire.

    catch_up says what becomes of ticks that nobody saw in time: all become jobs, or the last of them does, or none that is
    older than GRACE.
    """
    due = schedule.next_run_at
    fires = schedule.status is ScheduleStatus.ACTIVE and schedule.deleted_at is None
    if not fires or due is None or due > now:
        return None
    rule = rule_of(schedule)
    room = schedule.max_count - schedule.count if schedule.max_count else BATCH
    if schedule.catch_up is CatchUp.ALL:
        ticks, after = _all(schedule, rule, due, now, max(1, min(BATCH, room)))
    else:
        last = _last(schedule, rule, due, now)
        is_missed = schedule.catch_up is CatchUp.SKIP and now - last > GRACE
        ticks, after = () if is_missed else (last,), following(schedule, now, rule)
    return Step(ticks, after)


def next_of(schedule: Schedule, step: Step, made: int) -> float | None:
    """Return when a schedule comes next whose step made so many jobs; None: it has come to its end."""
    is_full = schedule.max_count and schedule.count + made >= schedule.max_count
    return None if is_full else step.after


def _all(schedule: Schedule, rule: Rule, due: float, now: float, most: int) -> tuple[tuple[float, ...], float | None]:
    """Return up to `most` ticks from `due` to `now`, and the one behind them."""
    ticks = [due]
    after = following(schedule, due, rule)
    while after is not None and after <= now and len(ticks) < most:
        ticks.append(after)
        after = following(schedule, after, rule)
    return tuple(ticks), after


def _last(schedule: Schedule, rule: Rule, due: float, now: float) -> float:
    """Return the last tick from `due` to `now`: looked for from the end, because a year of minutes may lie between."""
    span = 1.0
    while now - span > due:
        found = following(schedule, now - span, rule)
        if found is not None and found <= now:
            return _forward(schedule, rule, found, now)
        span *= 2
    return _forward(schedule, rule, due, now)


def _forward(schedule: Schedule, rule: Rule, tick: float, now: float) -> float:
    while (after := following(schedule, tick, rule)) is not None and after <= now:
        tick = after
    return tick
