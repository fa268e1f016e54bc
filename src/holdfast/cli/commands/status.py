"""`holdfast status`: what the node does, and how many jobs are in each state."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.cli.output import when
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError, NodeNotRunning
from holdfast.hub.parts import NodeInfo
from holdfast.hub.why import span
from holdfast.job.commands import JobCount
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdfast.job.commands import Stats

#: The older words for the same counts, for programs that know them.
_OLDER: Final = {
    "pending": ("scheduled", "queued", "retrying", "paused"),
    "in_flight": ("running",),
    "completed": ("succeeded",),
    "dead": ("failed",),
}


@click.command("status")
@click.option("--app", metavar="MODULE:APP", help="Count the task tables of this app too, read from here.")
@shared(offline=True)
def command(session: Session, app: str | None) -> int:
    """Show what the node does, and how many jobs are in each state.

    The numbers are the node's own, of this moment. Without a node there are none, unless --offline reads the files. The
    task tables of an app are listed by the node that runs it; with --app they are shown whoever works on them, and also
    where there is no node.
    """
    return session.run(_offline(session) if session.offline else _live(session, app))


async def _live(session: Session, app: str | None) -> int:
    async with _beside(session, app) as store:
        stats = await store.stats()
        workers = [one for one in await store.instances() if one.state not in ("lost", "stopped")]
        info = await info_of(store)
    facts = {"node": info, "workers": len(workers), "busy": sum(one.busy for one in workers)}
    if session.out.as_json:
        session.out.value({**_value(stats), **facts, "offline": False})
        return 0
    _show_node(session, info, len(workers))
    _show_counts(session, stats)
    return 0


@asynccontextmanager
async def _beside(session: Session, name: str | None) -> AsyncIterator[Any]:
    """The store of the node, with the tables of an app beside it; those alone where there is no node."""
    if name is None:
        async with session.node() as store:
            yield store
        return
    from holdfast.app import load_app

    app = load_app(name)
    if not app.tables:
        raise ConfigError(
            f"--app: expected an app with task tables, found none in {name}. Write app.tables.append(orders)."
        )
    from holdfast.table.beside import store_beside, tables_alone

    async with AsyncExitStack() as stack:
        for table in app.tables:
            stack.push_async_callback(table.let_go)
        try:
            store = store_beside(await stack.enter_async_context(session.node()), app.tables)
        except NodeNotRunning:
            store = tables_alone(*app.tables)
        yield store


async def info_of(store: Any) -> NodeInfo | None:
    """What the node tells of itself; a store that no node serves tells nothing."""
    ask = getattr(store, "ask", None)
    return await ask("GET", "/node", NodeInfo) if ask is not None else None


async def _offline(session: Session) -> int:
    async with session.files() as store:
        stats = await store.stats()
        age = session.clock.now() - store.as_of
    if session.out.as_json:
        facts = {"offline": True, "as_of": store.as_of, "age": age, "journal_number": store.number}
        session.out.value({**_value(stats), **facts})
        return 0
    session.out.line(
        f"offline: what the files in {session.data} said at {when(store.as_of)} UTC ({span(-age)}); "
        "what is shown as running may be over"
    )
    _show_counts(session, stats)
    return 0


def _value(stats: Stats) -> dict[str, object]:
    counts = {word: int(count) for word, count in totals(stats).items()}
    return {**counts, "queues": stats.queues, "estimated": stats.estimated}


def totals(stats: Stats) -> dict[str, JobCount]:
    """Counts over all queues: by state, and in the older words."""
    counts = {state.value: stats.total(state) for state in State}
    return {
        **counts,
        **{word: sum((counts[state] for state in states), JobCount(0)) for word, states in _OLDER.items()},
    }


def _show_node(session: Session, info: NodeInfo | None, workers: int) -> None:
    if info is None:
        return
    since = f"{when(info.started_at)} UTC ({span(info.started_at - info.now)})"
    recovery = f"{info.recovery:.3f} s" if info.recovery is not None else None
    session.out.pairs(
        [
            ("node", f"{info.state}, pid {info.pid} on {info.host}, since {since}"),
            ("problem", info.problem),
            ("data", info.data),
            ("url", info.url),
            ("recovery", recovery),
            ("workers", workers),
            ("history", info.export.words if info.export is not None else None),
        ]
    )
    session.out.line()


def _show_counts(session: Session, stats: Stats) -> None:
    states = [state.value for state in State]
    rows = [[name, *(stats.count(name, state) for state in State)] for name in stats.queues]
    sums = totals(stats)
    rows.append(["all", *(sums[state] for state in states)])
    session.out.table(["queue", *states], rows)
