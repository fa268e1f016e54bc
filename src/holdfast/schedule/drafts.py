"""Making schedules of what people write: checked at once, with all faults told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec

from holdfast.durations import Duration, Time, instant
from holdfast.errors import BadTime, ConfigError, ContentError
from holdfast.job.content import clean_text
from holdfast.job.ids import check_name, check_priority, shown
from holdfast.job.model import CatchUp, Overlap, Schedule, ScheduleStatus
from holdfast.schedule.plan import following
from holdfast.schedule.recurrence import RecurrenceRule, read_recurrence
from holdfast.schedule.rule import every_text, read_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DESCRIPTION_MAX: Final = 10_000
COUNT_MAX: Final = 2**53


class ScheduleOptions(TypedDict, total=False):
    """When a schedule fires, and how. Exactly one of cron, every, rule and at says when.

    cron: "0 9 * * mon-fri", "@daily"; every: an interval; rule: a recurrence rule as a dict; at: once, at this time.
    zone: the time zone of wall times ("UTC"). start, end: from and up to when. max_count: how many jobs in all (1 …).
    catch_up: what becomes of ticks that were missed: "once" (the default: one job for all), "all", or "skip".
    overlap: "skip" leaves a tick out while the job of the last one is unfinished; "allow" does not.
    queue, priority: of its jobs; the task's unless said.
    """

    cron: str
    every: Duration
    rule: Mapping[str, Any] | RecurrenceRule | str
    at: Time
    zone: str
    start: Time | None
    end: Time | None
    max_count: int | None
    catch_up: CatchUp | str
    overlap: Overlap | str
    queue: str
    priority: int
    description: str


_WHEN: Final = ("cron", "every", "rule", "at")
_TIMES: Final = {"start": "start_at", "end": "end_at"}
#: Fields of a schedule on which its next tick depends.
TIMING: Final = ("rule", "zone", "start_at", "end_at", "max_count")


def read_options(options: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
    """Return the fields of a Schedule that `options` mean. Raises ConfigError that lists every fault.

    new: for a new schedule, which must say when; else what is left out stays as it is.
    """
    faults: list[str] = []
    unknown = options.keys() - ScheduleOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(ScheduleOptions.__annotations__)
        faults.append(f"unknown option {', '.join(map(repr, sorted(unknown)))}: expected some of {known}")
    said = [name for name in _WHEN if options.get(name) is not None]
    if len(said) > 1 or (new and not said):
        faults.append(f"expected one of cron=, every=, rule= and at=, found {' and '.join(said) or 'none'}")
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name in _READERS:
            try:
                fields[_TIMES.get(name, "rule" if name in _WHEN else name)] = _READERS[name](value)
            except (ConfigError, BadTime, ContentError) as error:
                faults.append(str(error))
    if faults:
        raise ConfigError("the schedule can not be used:", faults)
    return fields


def checked(schedule: Schedule, now: float) -> Schedule:
    """Return the schedule with its next time, if it is active. Raises ConfigError that lists what is wrong with it.

    Refused: a rule or zone that is none, an end before the start, and a schedule that would never fire.
    """
    faults: list[str] = []
    for look in (lambda: check_name(schedule.name, "schedule"), lambda: read_rule(schedule.rule, schedule.zone)):
        try:
            look()
        except (ConfigError, BadTime) as error:
            faults.append(str(error))
    start, end = schedule.start_at, schedule.end_at
    if start is not None and end is not None and end < start:
        faults.append(f"expected an end at or after the start, found one {start - end:,.0f} s before it")
    if faults:
        raise ConfigError(f"schedule {schedule.name!r}:", faults)
    if start is None and _begins_when_made(schedule.rule):
        schedule = msgspec.structs.replace(schedule, start_at=float(math.ceil(now)))
    # Also what is paused must be able to fire: it will be resumed.
    first = following(schedule, now)
    if first is None and schedule.status is not ScheduleStatus.COMPLETED:
        raise ConfigError(f"schedule {schedule.name!r}: it would never fire. {_why_never(schedule, now)}")
    return msgspec.structs.replace(schedule, next_run_at=first if schedule.status is ScheduleStatus.ACTIVE else None)


def _begins_when_made(text: str) -> bool:
    """Whether a rule counts from a start and names none: then it begins when it is made."""
    return text.lstrip().startswith("{") and read_recurrence(text).starts_at is None


def _why_never(schedule: Schedule, now: float) -> str:
    if schedule.end_at is not None and schedule.end_at <= now:
        return "Its end is in the past: choose a later one."
    if schedule.end_at is not None and following(msgspec.structs.replace(schedule, end_at=None), now) is not None:
        return "Its first tick would come after its end."
    return "Its only time is in the past, or no day fits all parts of its rule."


def _read_choice(choices: Any, what: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            return choices(value)
        except ValueError:
            names = ", ".join(repr(choice.value) for choice in choices)
            raise ConfigError(f"{what}: expected one of {names}, found {value!r:.80}") from None

    return read


def _read_cron(value: Any) -> str:
    return _text(value, "cron", "an expression such as '0 9 * * mon-fri'")


def _read_recurrence(value: Any) -> str:
    """Return the text of a rule given as a dict, a struct, or any rule's text."""
    if isinstance(value, str):
        return value
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"rule: expected a dict such as {{'frequency': 'daily'}}, found {shown(value)}") from error
    read_recurrence(text)
    return text


def _read_at(value: Any) -> str:
    return msgspec.json.encode({"frequency": "none", "starts_at": instant(value, "at")}).decode()


def _read_zone(value: Any) -> str:
    return _text(value, "zone", "the name of a time zone")


def _text(value: Any, what: str, expected: str) -> str:
    if isinstance(value, str):
        return value
    raise ConfigError(f"{what}: expected {expected}, found {shown(value)}")


def _read_count(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= COUNT_MAX:
        return value
    raise ConfigError(f"max_count: expected a whole number from 1, or None for no limit, found {value!r:.80}")


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "cron": _read_cron,
    "every": every_text,
    "rule": _read_recurrence,
    "at": _read_at,
    "zone": _read_zone,
    "start": lambda value: None if value is None else instant(value, "start"),
    "end": lambda value: None if value is None else instant(value, "end"),
    "max_count": _read_count,
    "catch_up": _read_choice(CatchUp, "catch_up"),
    "overlap": _read_choice(Overlap, "overlap"),
    "queue": lambda value: check_name(value, "queue"),
    "priority": check_priority,
    "description": lambda value: clean_text(_text(value, "description", "text"), DESCRIPTION_MAX),
}
