"""`holdfast schedules`: list, show, make, edit, run, pause and resume schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from holdfast.app.byname import job_of
from holdfast.app.schedules import upcoming
from holdfast.chance import IdMaker
from holdfast.cli.filters import read_object, read_time
from holdfast.cli.listing import Listing
from holdfast.cli.output import json_of, when
from holdfast.cli.session import Session, shared
from holdfast.job.ids import check_name
from holdfast.job.model import CatchUp, Overlap, Schedule, ScheduleStatus
from holdfast.schedule import steering
from holdfast.schedule.drafts import checked, read_options
from holdfast.schedule.rule import read_rule
from holdfast.schedule.zones import zone_of
from holdfast.wire.definitions import schedule_doc
from holdfast.wire.documents import job_doc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from holdfast.store import Store

_DEFAULT: Final = "UTC"


@click.group("schedules", cls=Listing)
def command() -> None:
    """List, show, make, edit, run, pause and resume schedules."""


# --- reading -------------------------------------------------------------------------------------------------------


@command.command("ls")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@shared(offline=True)
def list_schedules(session: Session, deleted: bool) -> int:
    """List schedules by name."""
    return session.run(_list(session, deleted=deleted))


async def _list(session: Session, *, deleted: bool) -> int:
    async with session.store() as store:
        found = await store.schedules(deleted=deleted)
    if session.out.as_json:
        session.out.value(list(map(schedule_doc, found)))
        return 0
    rows = [
        [one.name, _state(one), one.rule, one.zone, one.task, _count(one), when(one.last_run_at), when(one.next_run_at)]
        for one in found
    ]
    session.out.table(["schedule", "state", "rule", "zone", "task", "jobs", "last (UTC)", "next (UTC)"], rows)
    return 0


def _state(schedule: Schedule) -> str:
    return "deleted" if schedule.deleted_at is not None else schedule.status.value


def _count(schedule: Schedule) -> str:
    return f"{schedule.count} of {schedule.max_count}" if schedule.max_count else str(schedule.count)


@command.command("show")
@click.argument("name")
@shared(offline=True)
def show(session: Session, name: str) -> int:
    """Show a schedule and its last job."""
    return session.run(_show(session, name))


async def _show(session: Session, name: str) -> int:
    async with session.store() as store:
        one = await steering.find(store, name)
        [last] = await store.jobs([one.last_job]) if one.last_job else [None]
    if session.out.as_json:
        session.out.value(schedule_doc(one))
        return 0
    session.out.pairs(
        [
            ("schedule", one.name),
            ("description", one.description),
            ("state", _state(one)),
            ("rule", one.rule),
            ("zone", one.zone),
            ("from", when(one.start_at) if one.start_at else None),
            ("up to", when(one.end_at) if one.end_at else None),
            ("task", one.task),
            ("queue", one.queue),
            ("arguments", json_of(one.payload)),
            ("jobs made", _count(one)),
            ("missed ticks", {"once": "one job for all", "all": "a job for each", "skip": "left out"}[one.catch_up]),
            (
                "overlap",
                "a tick waits for no job" if one.overlap is Overlap.ALLOW else "left out while the last job goes on",
            ),
            ("last", f"{when(one.last_run_at)} UTC" if one.last_run_at else None),
            ("last job", f"{last.id} ({last.state})" if last is not None else one.last_job),
            ("next", f"{when(one.next_run_at)} UTC" if one.next_run_at else None),
        ]
    )
    return 0


@command.command("next")
@click.argument("name", required=False)
@click.option("--count", "-n", default=5, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--rule", help="Try a rule that is no schedule yet: cron, 'every 5m', or JSON.")
@click.option("--zone", default=None, help="Time zone of --rule, and in which times are shown.")
@shared(offline=True)
def next_times(session: Session, name: str | None, count: int, rule: str | None, zone: str | None) -> int:
    """Show when a schedule fires next, or when a rule would."""
    if (name is None) == (rule is None):
        raise click.UsageError("expected the name of a schedule, or --rule.")
    if rule is not None:
        now = session.clock.now()
        read_rule(rule, zone or _DEFAULT)
        tried = Schedule(name="tried", rule=rule, zone=zone or _DEFAULT, task="t", created_at=now)
        tried = checked(msgspec.structs.replace(tried, status=ScheduleStatus.ACTIVE), now)
        return _tell_times(session, upcoming(tried, now, count), zone or _DEFAULT)
    return session.run(_next(session, name or "", count, zone))


async def _next(session: Session, name: str, count: int, zone: str | None) -> int:
    async with session.store() as store:
        one = await steering.find(store, name)
        times = upcoming(one, store.now(), count)
    if one.status is not ScheduleStatus.ACTIVE:
        session.out.note(f"schedule {name} is {one.status}: it fires at none of these until it is resumed.")
    return _tell_times(session, times, zone or one.zone)


def _tell_times(session: Session, times: Sequence[datetime], zone: str) -> int:
    place = zone_of(zone)
    if session.out.as_json:
        session.out.value([moment.isoformat() for moment in times])
        return 0
    rows = [
        (at.astimezone(place).strftime("%a %Y-%m-%d %H:%M:%S %z"), at.astimezone(UTC).strftime("%H:%M:%S"))
        for at in times
    ]
    session.out.table([f"next ({zone})", "UTC"], rows)
    return 0


# --- steering ------------------------------------------------------------------------------------------------------


_OPTIONS: Final = (
    click.option("--cron", help="A cron expression: '0 9 * * mon-fri', '@daily'."),
    click.option("--every", help="An interval: 30s, 5m, 1h30m."),
    click.option("--rule", help="A recurrence rule as JSON."),
    click.option("--at", help="Once, at this time (ISO 8601 with an offset)."),
    click.option("--zone", help="Time zone of the rule (default UTC)."),
    click.option("--start", help="Not before this time (ISO 8601 with an offset)."),
    click.option("--end", help="Not after this time."),
    click.option("--max-count", type=int, help="How many jobs in all."),
    click.option(
        "--catch-up", type=click.Choice([choice.value for choice in CatchUp]), help="What becomes of missed ticks."
    ),
    click.option(
        "--overlap", type=click.Choice([choice.value for choice in Overlap]), help="While the last job goes on."
    ),
    click.option("--queue", help="Queue of its jobs (default: the task's)."),
    click.option("--priority", type=int, help="Priority of its jobs."),
    click.option("--description", help="For people."),
)


def _schedule_options(function: Any) -> Any:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@command.command("add")
@click.argument("name")
@click.argument("task", metavar="TASK")
@click.argument("payload", default="{}", metavar="[ARGUMENTS]")
@_schedule_options
@click.option("--draft", is_flag=True, help="Make it without letting it fire; resume it later.")
@shared()
def add(session: Session, name: str, task: str, payload: str, draft: bool, **options: Any) -> int:
    """Make a schedule of TASK with ARGUMENTS (a JSON object)."""
    fields = read_options(_given(options), new=True)
    arguments = read_object(payload, "arguments")
    status = ScheduleStatus.DRAFT if draft else ScheduleStatus.ACTIVE
    return session.run(_add(session, check_name(name, "schedule"), task, arguments, {"status": status, **fields}))


async def _add(session: Session, name: str, task: str, arguments: dict[str, Any], fields: dict[str, Any]) -> int:
    async with session.store() as store:
        definition = await steering.definition_for(store, task)
        job, _ = job_of(definition, arguments, {}, IdMaker(session.clock.now))
        place = {"payload": job.payload, "queue": job.queue}
        made = await steering.create(store, Schedule(**{**place, **fields}, name=name, task=definition.alias))
        await session.note(store, "save_schedule", name, detail=made.status)
    return _tell(session, made)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    given = {word: value for word, value in options.items() if value is not None}
    for word in ("at", "start", "end"):
        if word in given:
            given[word] = read_time(given[word], f"--{word}")
    return given


@command.command("edit")
@click.argument("name")
@_schedule_options
@click.option("--arguments", metavar="JSON", help="Other arguments of its jobs, as a JSON object.")
@shared()
def edit(session: Session, name: str, arguments: str | None, **options: Any) -> int:
    """Change a schedule; what is left out stays. Its next time follows when its times change."""
    given = _given(options)
    if not given and arguments is None:
        raise click.UsageError("expected something to change, such as --cron, --end or --arguments.")
    payload = None if arguments is None else read_object(arguments, "--arguments")
    return session.run(_edit(session, name, given, payload))


async def _edit(session: Session, name: str, given: dict[str, Any], arguments: dict[str, Any] | None) -> int:
    async with session.store() as store:
        fields: dict[str, Any] = {}
        if arguments is not None:
            definition = await steering.definition_for(store, (await steering.find(store, name)).task)
            job, _ = job_of(definition, arguments, {}, IdMaker(session.clock.now))
            fields["payload"] = job.payload
        changed = await steering.edit(store, name, given, **fields)
        await session.note(store, "save_schedule", name, detail=changed.status)
    return _tell(session, changed)


@command.command("run")
@click.argument("name")
@shared()
def run(session: Session, name: str) -> int:
    """Enqueue a job of a schedule now, beside its ticks."""
    return session.run(_run(session, name))


async def _run(session: Session, name: str) -> int:
    async with session.store() as store:
        answer = await steering.run_now(store, name, IdMaker(session.clock.now))
    if session.out.as_json:
        session.out.value(job_doc(answer.job))
    session.out.line(f"{answer.id}  {answer.job.task} in queue {answer.job.queue}")
    return 0


def _order(name: str, help_text: str, do: Callable[[Store, str], Awaitable[Schedule]]) -> None:
    """Add a command that does one thing to one schedule."""

    @command.command(name, help=help_text)
    @click.argument("name", metavar="NAME")
    @shared()
    def ordered(session: Session, name: str) -> int:
        return session.run(_do(session, name, do))


async def _do(session: Session, name: str, do: Callable[[Store, str], Awaitable[Schedule]]) -> int:
    async with session.store() as store:
        changed = await do(store, name)
        await session.note(store, "save_schedule", name, detail=changed.status)
    return _tell(session, changed)


def _tell(session: Session, schedule: Schedule) -> int:
    if session.out.as_json:
        session.out.value(schedule_doc(schedule))
    following = f"; next at {when(schedule.next_run_at)} UTC" if schedule.next_run_at is not None else ""
    session.out.line(f"schedule {schedule.name} is {_state(schedule)}{following}.")
    return 0


_order("pause", "Let a schedule fire no more until it is resumed.", steering.pause)
_order("resume", "Let a draft or paused schedule fire from now on.", steering.resume)
_order("rm", "Hide a schedule; it fires no more. Its jobs stay.", steering.delete)
