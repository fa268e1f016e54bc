"""`holdfast jobs`: list, show, explain and steer jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from holdfast.cli.filters import filter_options, read_filter, read_object, read_time
from holdfast.cli.listing import Listing
from holdfast.cli.output import json_of, matched_of, shortened, when
from holdfast.cli.session import Session, shared
from holdfast.durations import instant
from holdfast.errors import UnknownJob
from holdfast.hub.evidence import lines_of, trail_of, with_beat
from holdfast.hub.why import explain, look
from holdfast.job.commands import (
    NO_SUCH_JOB,
    Action,
    Cancel,
    Delete,
    Edit,
    JobFilter,
    JobPage,
    Order,
    Page,
    Pause,
    Replay,
    Resume,
    Retry,
    RunNow,
    Selection,
)
from holdfast.job.content import encode_arguments
from holdfast.job.ids import check_name
from holdfast.job.ledger.search import has_window, is_search
from holdfast.job.model import PRIORITY_MAX, PRIORITY_MIN
from holdfast.wire.documents import job_doc
from holdfast.wire.orders import answer_doc

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.commands import JobCount, Ordered
    from holdfast.job.model import Job
    from holdfast.store import Store

_UNKNOWN: Final = 9
_REFUSED: Final = 10
_SHOWN: Final = 20
#: Seconds between two looks at an action that is under way.
_LOOK: Final = 0.2


@click.group("jobs", cls=Listing)
def command() -> None:
    """List, show, explain and steer jobs."""


# --- reading -------------------------------------------------------------------------------------------------------


@command.command("ls")
@filter_options
@click.option("--limit", "-n", default=50, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--cursor", default="", help="Go on behind the page before.")
@click.option("--oldest-first", is_flag=True)
@click.option("--by-end", is_flag=True, help="Those that have ended, by when they did.")
@shared(offline=True)
def list_jobs(session: Session, limit: int, cursor: str, oldest_first: bool, by_end: bool, **options: Any) -> int:
    """List jobs, newest first."""
    which = read_filter(options, session.clock.now()) or JobFilter()
    page = Page(limit=limit, cursor=cursor, newest_first=not oldest_first, by_end=by_end)
    return session.run(_list(session, which, page))


async def _list(session: Session, which: JobFilter, page: Page) -> int:
    async with session.store() as store:
        found = await _page(store, which, page)
    out = session.out
    if out.as_json:
        out.value({"items": [job_doc(job, all_attempts=False) for job in found.items], "cursor": found.cursor})
        return 0
    rows = [
        (
            job.id,
            job.task,
            job.queue,
            job.state,
            f"{job.failures}/{job.retry.max_attempts}",
            when(job.created_at),
            _note(job),
        )
        for job in found.items
    ]
    out.table(["id", "task", "queue", "state", "failures", "created (UTC)", ""], rows)
    if found.cursor:
        out.note(f"more: --cursor {found.cursor}")
    if is_search(which) and has_window(which) and which.created_after is None:
        out.note("looked at what was enqueued within a day; --since 7d looks further back")
    return 0


async def _page(store: Store, which: JobFilter, page: Page) -> JobPage:
    """A page of the list. One of a search may end before it is full: this goes on until it is, or until all is seen."""
    found = await store.find(which, page)
    items = [*found.items]
    while found.cursor and len(items) < page.limit:
        found = await store.find(which, replace(page, limit=page.limit - len(items), cursor=found.cursor))
        items += found.items
    return replace(found, items=tuple(items))


def _note(job: Job) -> str:
    if job.error and job.state != "succeeded":
        return shortened(job.error, 40)
    return f"key {job.key}" if job.key else ""


@command.command("show")
@click.argument("job_id", metavar="ID")
@click.option("--attempt", "-a", "number", type=click.IntRange(1), help="All that is known of this attempt.")
@shared(offline=True)
def show(session: Session, job_id: str, number: int | None) -> int:
    """Show a job with all its attempts, and why it is where it is."""
    return session.run(_show(session, job_id, number))


async def _show(session: Session, job_id: str, number: int | None = None) -> int:
    async with session.store() as store:
        job = await _one(store, job_id)
        around = await look(store, job)
        job = with_beat(job, around.instances)
        reasons = explain(job, around)
    out = session.out
    if out.as_json:
        out.value({"job": job_doc(job), "why": reasons})
        return 0
    if number is not None:
        return _show_attempt(session, job, number)
    out.pairs(_pairs(job))
    out.pairs([("why", " ".join(reason.text for reason in reasons))])
    if job.attempts:
        out.line()
        rows = [
            (
                one.number,
                one.end or "running",
                one.worker,
                when(one.started_at),
                _seconds(one.duration),
                shortened(one.error or one.reason, 70),
            )
            for one in job.attempts
        ]
        out.table(["attempt", "end", "worker", "started (UTC)", "seconds", "error or reason"], rows)
    if job.last is not None and job.last.traceback and job.state != "succeeded":
        out.line()
        out.line(job.last.traceback)
    return 0


def _seconds(duration: float | None) -> str | None:
    return None if duration is None else f"{duration:,.4f}"


def _show_attempt(session: Session, job: Job, number: int) -> int:
    """Show what is known of one attempt: who, when, why it ended, what it told."""
    one = next((one for one in job.attempts if one.number == number), None)
    if one is None:
        known = ", ".join(str(one.number) for one in job.attempts) or "none"
        raise click.UsageError(f"--attempt: expected one that job {job.id} has ({known}), found {number}.")
    out = session.out
    waited = None if one.queued_at is None else f"{max(0.0, one.started_at - one.queued_at):.3f} s"
    out.pairs(
        [
            ("job", job.id),
            ("attempt", one.number),
            ("end", one.end or "running"),
            ("reason", one.reason),
            ("worker", one.worker),
            ("process", one.instance),
            ("version", one.version),
            ("token", one.token),
            ("waited", waited),
            ("started", f"{when(one.started_at)} UTC"),
            ("heard of", f"{when(one.heartbeat_at)} UTC" if one.heartbeat_at else None),
            ("ended", f"{when(one.ended_at)} UTC" if one.ended_at else None),
            ("seconds", _seconds(one.duration)),
            ("trace", one.trace_id),
            ("span", one.span_id),
            ("error", f"{one.error_type}: {one.error}" if one.error_type else one.error),
        ]
    )
    rows = [(when(at), "progress", shortened(text, 200)) for at, text in trail_of(one.trail)]
    rows += [(when(at), level, shortened(text, 200)) for at, level, text in lines_of(one.log)]
    if rows:
        out.line()
        out.table(["at (UTC)", "", "told"], sorted(rows))
    if one.traceback:
        out.line()
        out.line(one.traceback)
    return 0


def _pairs(job: Job) -> list[tuple[str, object]]:
    return [
        ("id", job.id),
        ("task", job.task),
        ("queue", job.queue),
        ("state", job.state),
        ("priority", job.priority),
        ("key", job.key),
        ("unique", job.unique),
        ("tags", ", ".join(job.tags)),
        ("payload", _json(job.payload)),
        ("data", _json(job.data)),
        ("result", _json(job.result)),
        ("created", f"{when(job.created_at)} UTC"),
        ("runs at", f"{when(job.run_at)} UTC" if not job.final else None),
        ("finished", f"{when(job.finished_at)} UTC" if job.finished_at else None),
        ("deleted", f"{when(job.deleted_at)} UTC; hidden, purged by retention" if job.deleted_at else None),
        ("failures", f"{job.failures} of {job.retry.max_attempts}"),
        ("replay of", job.replay_of),
    ]


def _json(data: bytes | None) -> str | None:
    return shortened(data.decode(errors="replace"), 500) if data else None


@command.command("why")
@click.argument("job_id", metavar="ID")
@shared(offline=True)
def why(session: Session, job_id: str) -> int:
    """Say in words why a job is not running."""
    return session.run(_why(session, job_id))


async def _why(session: Session, job_id: str) -> int:
    async with session.store() as store:
        job = await _one(store, job_id)
        reasons = explain(job, await look(store, job))
    if session.out.as_json:
        session.out.value({"id": job.id, "state": job.state, "why": reasons})
    for reason in reasons:
        session.out.line(reason.text)
    return 0


async def _one(store: Store, job_id: str) -> Job:
    [job] = await store.jobs([job_id])
    if job is None:
        raise UnknownJob(job_id)
    return job


@command.command("result")
@click.argument("job_id", metavar="ID")
@click.option("--wait", "timeout", default=0.0, type=click.FloatRange(0), help="Seconds to wait for its end.")
@shared()
def result(session: Session, job_id: str, timeout: float) -> int:
    """Print the result of a job; exit code 10 unless it succeeded."""
    return session.run(_result(session, job_id, timeout))


async def _result(session: Session, job_id: str, timeout: float) -> int:
    async with session.store() as store:
        ended = await store.finished([job_id], timeout)
        job = ended[0] if ended else await _one(store, job_id)
    if session.out.as_json:
        session.out.value({"id": job.id, "state": job.state, "result": json_of(job.result), "error": job.error})
    else:
        session.out.line(_json(job.result) or f"{job.state}{f': {shortened(job.error)}' if job.error else ''}")
    return 0 if job.state == "succeeded" else _REFUSED


# --- steering ------------------------------------------------------------------------------------------------------


def _arguments(payload: str | None) -> bytes | None:
    return None if payload is None else encode_arguments(read_object(payload, "--payload"))


def _queue(name: str | None) -> str | None:
    return None if name is None else check_name(name, "--to-queue")


def _edit(payload: str | None, to_queue: str | None, priority: int | None, run_at: str | None) -> Edit:
    moment = None if run_at is None else instant(read_time(run_at, "--run-at"), "--run-at")
    edit = Edit(payload=_arguments(payload), queue=_queue(to_queue), priority=priority, run_at=moment)
    if edit == Edit():
        raise click.UsageError("expected something to change: --payload, --to-queue, --priority or --run-at.")
    return edit


def _steering(name: str, about: str, make: Callable[..., Action], *options: Any) -> None:
    """Add a command that acts on jobs by ids, or by a filter after a look at the count. `make` gets its `options`."""

    def act(session: Session, ids: tuple[str, ...], preview: bool, yes: bool, every: bool, **rest: Any) -> int:
        which = read_filter(rest, session.clock.now())
        if every and which is None:
            which = JobFilter()
        if bool(ids) == (which is not None):
            raise click.UsageError("expected ids, or a filter such as --state failed (--all for every job).")
        return session.run(_act(session, make(**rest), ids, which, preview=preview, yes=yes))

    decorated: Any = shared()(act)
    standard = (
        click.argument("ids", nargs=-1, metavar="[ID]…"),
        filter_options,
        click.option("--all", "every", is_flag=True, help="Every job."),
        click.option("--preview", is_flag=True, help="Only say how many."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    )
    for option in reversed((*standard, *options)):
        decorated = option(decorated)
    command.command(name, help=about)(decorated)


_steering(
    "cancel",
    "Cancel jobs: waiting ones end at once, running ones are asked to stop.",
    lambda why: Cancel(why=why),
    click.option("--why", default="", help="Kept beside the cancel."),
)
_steering("pause", "Hold waiting jobs until they are resumed.", Pause)
_steering("resume", "Let held jobs go on.", Resume)
_steering("retry", "Run failed or canceled jobs again, in place, with a new budget.", Retry)
_steering(
    "replay",
    "Enqueue new jobs like those that have ended.",
    lambda force, payload, to_queue: Replay(force=force, payload=_arguments(payload), queue=_queue(to_queue)),
    click.option("--force", is_flag=True, help="Also those that were replayed before."),
    click.option("--payload", metavar="JSON", help="Other arguments, as a JSON object."),
    click.option("--to-queue", metavar="QUEUE", help="Into another queue."),
)
_steering(
    "edit",
    "Change waiting jobs; what is left out stays.",
    _edit,
    click.option("--payload", metavar="JSON", help="Other arguments, as a JSON object."),
    click.option("--to-queue", metavar="QUEUE", help="Move them into this queue."),
    click.option("--priority", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), help="Higher ones run first."),
    click.option("--run-at", metavar="TIME", help="Not before: a time with a zone, such as 2030-01-01T09:00:00Z."),
)
_steering("run-now", "Let scheduled and retrying jobs run at once.", RunNow)
_steering(
    "delete",
    "Hide jobs; waiting ones are canceled, running ones refused.",
    lambda hard: Delete(hard=hard),
    click.option("--hard", is_flag=True, help="Purge at once."),
)


async def _act(
    session: Session, action: Action, ids: tuple[str, ...], which: JobFilter | None, *, preview: bool, yes: bool
) -> int:
    async with session.store() as store:
        selection = Selection(ids=ids, filter=which)
        order = Order(action=action, selection=selection, who=session.who, preview=preview)
        if which is not None and not preview and not yes:
            seen = await store.control(Order(action=action, selection=selection, who=session.who, preview=True))
            _confirm(session, action, matched_of(seen))
            answer = await _watched(session, store, order, seen.matched)
        else:
            answer = await store.control(order)
    if session.out.as_json:
        session.out.value(answer_doc(answer))
    else:
        _tell(session, answer, preview=preview)
    if preview or not answer.refused:
        return 0
    return _UNKNOWN if {ruling.why for ruling in answer.rulings} == {NO_SUCH_JOB} else _REFUSED


async def _watched(session: Session, store: Store, order: Order, matched: int) -> Ordered:
    """Do an action by filter while a bar shows how far it is."""
    running = asyncio.ensure_future(store.control(order))
    try:
        with session.out.progress(_name(order.action), matched) as done:
            shown = 0
            while not (await asyncio.wait([running], timeout=_LOOK))[0]:
                its = [one for one in await store.operations() if one.finished_at is None and one.who == order.who]
                now = its[0].done + its[0].refused if its else shown
                done(max(0, now - shown))
                shown = max(shown, now)
            done(max(0, matched - shown))
    finally:
        running.cancel()  # changes nothing when it has ended
    return await running


def _name(action: Action) -> str:
    return str(type(action).__struct_config__.tag).replace("_", " ")


def _confirm(session: Session, action: Action, matched: JobCount) -> None:
    name = _name(action)
    if not session.out.is_terminal or session.out.as_json:
        raise click.UsageError(
            f"{name} of {matched.words} jobs by filter: expected --yes when nobody can be asked; or --preview."
        )
    click.confirm(f"{name} {matched.words} jobs?", abort=True)


def _tell(session: Session, answer: Ordered, *, preview: bool) -> None:
    out = session.out
    for ruling in answer.rulings:
        what = "would be done" if preview and ruling.done else "done" if ruling.done else f"refused: {ruling.why}"
        out.line(f"{ruling.id}  {what}{f' as {ruling.made}' if ruling.made else ''}")
    for refusal in answer.refusals[:_SHOWN]:
        out.line(f"{refusal.id}  refused: {refusal.why}")
    matched = matched_of(answer).words
    if preview:
        out.line(f"{matched} jobs match. Nothing was changed.")
    elif not answer.rulings:
        out.line(f"{answer.done:,} of {matched} jobs done, {answer.refused:,} refused.")
