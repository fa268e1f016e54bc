"""`holdfast queues`: list, pause, stop, resume, change and forget queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from holdfast.app.stopping import Stopped, stop_queues
from holdfast.cli.listing import Listing
from holdfast.cli.output import matched_of, when
from holdfast.cli.session import Session, shared
from holdfast.durations import seconds
from holdfast.errors import UnknownQueue
from holdfast.job.commands import Cancel, ChangeQueue, JobFilter, Order, Selection
from holdfast.job.model import QueueMode
from holdfast.job.state import State
from holdfast.wire.orders import answer_doc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.job.commands import Stats
    from holdfast.job.model import Queue
    from holdfast.store import Store

_SERIAL: Final = "serial"
_NONE: Final = "none"
_REFUSED: Final = 10
_DAY: Final = 86_400.0
_WAITING: Final = (State.QUEUED, State.SCHEDULED, State.RETRYING, State.PAUSED)


@click.group("queues", cls=Listing)
def command() -> None:
    """List, pause, stop, resume, change and forget queues."""


# --- reading -------------------------------------------------------------------------------------------------------


@command.command("ls")
@shared(offline=True)
def list_queues(session: Session) -> int:
    """List queues with their counts."""
    return session.run(_list(session))


async def _list(session: Session) -> int:
    async with session.store() as store:
        queues, stats = await store.queues(), await store.stats()
    if session.out.as_json:
        session.out.value([_value(queue, stats) for queue in queues])
        return 0
    states = [state.value for state in State]
    rows = [
        [queue.name, _state(queue), _limit(queue), *(stats.count(queue.name, state) for state in State)]
        for queue in queues
    ]
    session.out.table(["queue", "state", "limit", *states], rows)
    return 0


def _value(queue: Queue, stats: Stats) -> dict[str, object]:
    counts, estimated = stats.queues.get(queue.name, {}), stats.estimated.get(queue.name, ())
    return {"queue": queue, "counts": counts, "estimated": estimated}


def _state(queue: Queue) -> str:
    return f"paused by {queue.paused_by or 'somebody'}" if queue.paused else "active"


def _limit(queue: Queue) -> str | int | None:
    return _SERIAL if queue.mode is QueueMode.SERIAL else queue.limit


@command.command("show")
@click.argument("name")
@shared(offline=True)
def show(session: Session, name: str) -> int:
    """Show a queue, its policy and its counts."""
    return session.run(_show(session, name))


async def _show(session: Session, name: str) -> int:
    async with session.store() as store:
        queue, stats = await _one(store, name), await store.stats()
    if session.out.as_json:
        session.out.value(_value(queue, stats))
        return 0
    session.out.pairs(
        [
            ("queue", queue.name),
            ("state", _state(queue)),
            ("why", queue.paused_why),
            ("paused", f"{when(queue.paused_at)} UTC" if queue.paused_at else None),
            ("limit", _limit(queue) or "none: as many as the workers have slots"),
            ("poll", _seconds(queue.poll_interval, "as each worker says")),
            ("rescue after", _seconds(queue.rescue_after, "as each worker says")),
            ("keeps succeeded", _kept(queue.keep_succeeded, queue.keep_succeeded_count)),
            ("keeps failed", _kept(queue.keep_failed, queue.keep_failed_count)),
            *((state.value, stats.count(name, state)) for state in State),
            ("made", f"{when(queue.created_at)} UTC"),
            ("changed", f"{when(queue.updated_at)} UTC"),
        ]
    )
    return 0


def _seconds(value: float | None, none: str) -> str:
    if value is None:
        return none
    return f"{value / _DAY:g} d" if value >= _DAY else f"{value:g} s"


def _kept(age: float | None, count: int | None) -> str:
    return f"{_seconds(age, 'for ever')}, {'any number' if count is None else f'{count:,} jobs'}"


async def _one(store: Store, name: str) -> Queue:
    found = next((queue for queue in await store.queues() if queue.name == name), None)
    if found is None:
        raise UnknownQueue(name)
    return found


# --- pausing and stopping ------------------------------------------------------------------------------------------


@command.command("pause")
@click.argument("name")
@click.option("--why", default="", help="Kept beside the pause.")
@click.option("--create", is_flag=True, help="Also a queue that does not exist yet.")
@shared()
def pause(session: Session, name: str, why: str, create: bool) -> int:
    """Let no job of a queue start; what runs goes on."""
    change = ChangeQueue(name=name, paused=True, why=why, who=session.who, create=create)
    return session.run(_change(session, change, f"queue {name} is paused"))


@command.command("stop")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--all", "every", is_flag=True, help="Every queue.")
@click.option("--wait", is_flag=True, help="Wait until nothing of them runs.")
@click.option("--timeout", metavar="DURATION", help="With --wait: wait no longer than this, such as 30s or 5m.")
@click.option("--why", default="", help="Kept beside the pause.")
@shared()
def stop(session: Session, names: tuple[str, ...], every: bool, wait: bool, timeout: str | None, why: str) -> int:
    """Pause queues and say what of them still runs; with --wait, wait for it.

    They stay paused until `holdfast queues resume`. Exit code 10 when jobs still run at the end of --timeout.
    """
    if bool(names) == every:
        raise click.UsageError("expected names of queues, or --all.")
    if timeout is not None and not wait:
        raise click.UsageError("--timeout: expected together with --wait.")
    longest = None if timeout is None else seconds(timeout, "--timeout")
    return session.run(_stop(session, names, wait=wait, timeout=longest, why=why))


async def _stop(session: Session, names: tuple[str, ...], *, wait: bool, timeout: float | None, why: str) -> int:
    def tell(running: Mapping[str, int]) -> None:
        if wait and running:
            session.out.note(f"waiting for {_counted(running)}")

    async with session.store() as store:
        stopped = await stop_queues(
            store, names, timeout=timeout if wait else 0.0, why=why, who=session.who, watch=tell
        )
    if session.out.as_json:
        session.out.value({"queues": stopped.queues, "running": stopped.running, "done": stopped.done})
    session.out.line(_told(stopped))
    return _REFUSED if wait and not stopped.done else 0


def _told(stopped: Stopped) -> str:
    if not stopped.queues:
        return "there are no queues."
    names, are = ", ".join(stopped.queues), "is" if len(stopped.queues) == 1 else "are"
    rest = "nothing of it runs" if stopped.done else f"still running: {_counted(stopped.running)}"
    return f"{names} {are} paused; {rest}."


def _counted(running: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} of {name}" for name, count in sorted(running.items()))


@command.command("resume")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--all", "every", is_flag=True, help="Every queue that is paused.")
@shared()
def resume(session: Session, names: tuple[str, ...], every: bool) -> int:
    """Let the jobs of queues start again."""
    if bool(names) == every:
        raise click.UsageError("expected names of queues, or --all.")
    return session.run(_resume(session, names))


async def _resume(session: Session, names: tuple[str, ...]) -> int:
    async with session.store() as store:
        chosen = names or [queue.name for queue in await store.queues() if queue.paused]
        done = [await store.change_queue(ChangeQueue(name=name, paused=False, who=session.who)) for name in chosen]
    if session.out.as_json:
        session.out.value(done[0] if len(names) == 1 else done)
    for queue in done:
        session.out.line(f"queue {queue.name} runs.")
    if not done:
        session.out.line("no queue is paused.")
    return 0


# --- policy --------------------------------------------------------------------------------------------------------


@command.command("limit")
@click.argument("name")
@click.argument("limit", metavar="N|serial|none")
@click.option("--create", is_flag=True, help="Also a queue that does not exist yet.")
@shared()
def limit(session: Session, name: str, limit: str, create: bool) -> int:
    """Let at most N jobs of a queue run at once over all workers; "serial": one, in order; "none": no limit."""
    if limit == _SERIAL:
        change = ChangeQueue(name=name, mode=QueueMode.SERIAL, limit=None, who=session.who, create=create)
    elif limit == _NONE:
        change = ChangeQueue(name=name, mode=QueueMode.CONCURRENT, limit=None, who=session.who, create=create)
    elif limit.isdecimal() and int(limit) >= 1:
        change = ChangeQueue(name=name, mode=QueueMode.CONCURRENT, limit=int(limit), who=session.who, create=create)
    else:
        raise click.UsageError(f"expected a number of 1 or more, serial or none, found {limit!r}.")
    return session.run(_change(session, change, f"queue {name} has the limit {limit}"))


_DURATIONS: Final = {
    "poll_interval": ("--poll", "How often workers look where nothing tells them of jobs; none: as each worker says."),
    "rescue_after": ("--rescue-after", "When a job of a silent worker counts as lost; none: as each worker says."),
    "keep_succeeded": ("--keep-succeeded", "How long jobs that succeeded are kept; none: for ever."),
    "keep_failed": ("--keep-failed", "How long failed and canceled jobs are kept; none: for ever."),
}
_COUNTS: Final = {
    "keep_succeeded_count": ("--keep-succeeded-count", "How many that succeeded are kept; none: any number."),
    "keep_failed_count": ("--keep-failed-count", "How many failed and canceled ones are kept; none: any number."),
}


def _policy_options(function: Any) -> Any:
    for field, (flag, text) in reversed((_DURATIONS | _COUNTS).items()):
        metavar = "N|none" if field in _COUNTS else "DURATION|none"
        function = click.option(flag, field, metavar=metavar, help=text)(function)
    return function


@command.command("set")
@click.argument("name")
@_policy_options
@click.option("--create", is_flag=True, help="Also a queue that does not exist yet.")
@shared()
def set_policy(session: Session, name: str, create: bool, **given: str | None) -> int:
    """Change how a queue is polled, when its jobs count as lost, and what is kept of it."""
    changes: dict[str, Any] = {field: _read(field, text) for field, text in given.items() if text is not None}
    if not changes:
        flags = ", ".join(flag for flag, _ in (_DURATIONS | _COUNTS).values())
        raise click.UsageError(f"expected something to change: {flags}.")
    change = ChangeQueue(name=name, who=session.who, create=create, **changes)
    return session.run(_change(session, change, f"queue {name} is changed"))


def _read(field: str, text: str) -> float | int | None:
    if text == _NONE:
        return None
    if field in _DURATIONS:
        return seconds(text, _DURATIONS[field][0])
    if text.isdecimal():
        return int(text)
    raise click.UsageError(f"{_COUNTS[field][0]}: expected a whole number or none, found {text!r}.")


async def _change(session: Session, change: ChangeQueue, done: str) -> int:
    async with session.store() as store:
        queue = await store.change_queue(change)
    if session.out.as_json:
        session.out.value(queue)
    session.out.line(f"{done}.")
    return 0


# --- emptying and forgetting ---------------------------------------------------------------------------------------


@command.command("clear")
@click.argument("name")
@click.option("--why", default="", help="Kept beside the cancel.")
@click.option("--preview", is_flag=True, help="Only say how many.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@shared()
def clear(session: Session, name: str, why: str, preview: bool, yes: bool) -> int:
    """Cancel all waiting jobs of a queue; what runs goes on."""
    return session.run(_clear(session, name, why=why, preview=preview, yes=yes))


async def _clear(session: Session, name: str, *, why: str, preview: bool, yes: bool) -> int:
    selection = Selection(filter=JobFilter(queue=name, states=_WAITING))
    order = Order(action=Cancel(why=why), selection=selection, who=session.who, preview=True)
    async with session.store() as store:
        await _one(store, name)
        answer = await store.control(order)
        if not preview:
            if not yes:
                session.confirm(f"cancel {matched_of(answer).words} waiting jobs of queue {name}")
            answer = await store.control(msgspec.structs.replace(order, preview=False))
    if session.out.as_json:
        session.out.value(answer_doc(answer))
    elif preview:
        session.out.line(f"{matched_of(answer).words} jobs wait. Nothing was changed.")
    else:
        session.out.line(f"{answer.done:,} of {matched_of(answer).words} waiting jobs canceled.")
    return 0


@command.command("delete")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@shared()
def delete(session: Session, name: str, yes: bool) -> int:
    """Forget a queue and the jobs that have ended in it; refused while it has unfinished ones."""
    return session.run(_delete(session, name, yes=yes))


async def _delete(session: Session, name: str, *, yes: bool) -> int:
    async with session.store() as store:
        await _one(store, name)
        if not yes:
            session.confirm(f"forget queue {name} and its history")
        await store.delete_queue(name, session.who)
    if session.out.as_json:
        session.out.value({"queue": name})
    session.out.line(f"queue {name} is forgotten.")
    return 0
