"""`holdfast queues`: list, pause, resume and limit queues."""

from __future__ import annotations

from typing import Final

import click

from holdfast.cli.listing import Listing
from holdfast.cli.session import Session, shared
from holdfast.job.commands import ChangeQueue
from holdfast.job.model import QueueMode
from holdfast.job.state import State

_SERIAL: Final = "serial"


@click.group("queues", cls=Listing)
def command() -> None:
    """List, pause, resume and limit queues."""


@command.command("ls")
@shared(offline=True)
def list_queues(session: Session) -> int:
    """List queues with their counts."""
    return session.run(_list(session))


async def _list(session: Session) -> int:
    async with session.store() as store:
        queues, stats = await store.queues(), await store.stats()
    if session.out.as_json:
        session.out.value([{"queue": queue, "counts": stats.queues.get(queue.name, {})} for queue in queues])
        return 0
    states = [state.value for state in State]
    rows = []
    for queue in queues:
        limit = _SERIAL if queue.mode is QueueMode.SERIAL else queue.limit
        paused = f"paused by {queue.paused_by or 'somebody'}" if queue.paused else "active"
        counts = stats.queues.get(queue.name, {})
        rows.append([queue.name, paused, limit, *(counts.get(state, 0) for state in states)])
    session.out.table(["queue", "state", "limit", *states], rows)
    return 0


@command.command("pause")
@click.argument("name")
@click.option("--why", default="", help="Kept beside the pause.")
@click.option("--create", is_flag=True, help="Also a queue that does not exist yet.")
@shared()
def pause(session: Session, name: str, why: str, create: bool) -> int:
    """Let no job of a queue start."""
    change = ChangeQueue(name=name, paused=True, why=why, who=session.who, create=create)
    return session.run(_change(session, change, f"queue {name} is paused"))


@command.command("resume")
@click.argument("name")
@shared()
def resume(session: Session, name: str) -> int:
    """Let the jobs of a queue start again."""
    return session.run(_change(session, ChangeQueue(name=name, paused=False, who=session.who), f"queue {name} runs"))


@command.command("limit")
@click.argument("name")
@click.argument("limit", metavar="N|serial|none")
@click.option("--create", is_flag=True, help="Also a queue that does not exist yet.")
@shared()
def limit(session: Session, name: str, limit: str, create: bool) -> int:
    """Let at most N jobs of a queue run at once over all workers; "serial": one, in order; "none": no limit."""
    if limit == _SERIAL:
        change = ChangeQueue(name=name, mode=QueueMode.SERIAL, limit=None, who=session.who, create=create)
    elif limit == "none":
        change = ChangeQueue(name=name, mode=QueueMode.CONCURRENT, limit=None, who=session.who, create=create)
    elif limit.isdecimal() and int(limit) >= 1:
        change = ChangeQueue(name=name, mode=QueueMode.CONCURRENT, limit=int(limit), who=session.who, create=create)
    else:
        raise click.UsageError(f"expected a number of 1 or more, serial or none, found {limit!r}.")
    return session.run(_change(session, change, f"queue {name} has the limit {limit}"))


async def _change(session: Session, change: ChangeQueue, done: str) -> int:
    async with session.store() as store:
        queue = await store.change_queue(change)
    if session.out.as_json:
        session.out.value(queue)
    session.out.line(f"{done}.")
    return 0
