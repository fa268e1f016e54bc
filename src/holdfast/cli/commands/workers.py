"""`holdfast workers`: what workers there are, who lives, and how they work; changes reach running processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from holdfast.cli.listing import Listing
from holdfast.cli.output import when
from holdfast.cli.session import Session, shared
from holdfast.durations import seconds
from holdfast.errors import UnknownWorker
from holdfast.history import checked_worker
from holdfast.job.commands import JobFilter, Page
from holdfast.job.model import InstanceState, QueueShare, WorkerConfig
from holdfast.job.state import State

if TYPE_CHECKING:
    from holdfast.job.model import Instance
    from holdfast.store import Store

_NONE: Final = "none"
_SHOWN: Final = 100
_LIVE: Final = (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING)


@click.group("workers", cls=Listing)
def command() -> None:
    """List, show, enable, disable, drain and change workers."""


# --- reading -------------------------------------------------------------------------------------------------------


@command.command("ls")
@click.option(
    "--offline",
    "silent",
    type=click.FloatRange(0, min_open=True),
    help="Only workers that were silent for this many seconds.",
)
@shared()
def list_workers(session: Session, silent: float | None) -> int:
    """List workers with their live and lately lost processes."""
    return session.run(_list(session, silent))


async def _list(session: Session, offline: float | None) -> int:
    async with session.node() as store:
        instances, configs = await store.instances(), await store.workers()
        now = store.now()
    heard = {config.name: _heard(config, instances) for config in configs}
    if offline is not None:
        configs = [one for one in configs if (at := heard[one.name]) is None or at < now - offline]
        instances = [one for one in instances if one.worker in {config.name for config in configs}]
    if session.out.as_json:
        session.out.value(instances if offline is None else configs)
        return 0
    names = {config.name: config for config in configs}
    rows: list[tuple[Any, ...]] = [_row(one, names.get(one.worker)) for one in instances]
    silent = [one for one in configs if one.name not in {instance.worker for instance in instances}]
    rows += [(one.name, "offline", _ruled(one), "", "", "", _shares(one), when(heard[one.name])) for one in silent]
    heads = ["worker", "state", "ruled", "host", "pid", "busy", "queues", "heard of (UTC)"]
    session.out.table(heads, sorted(rows, key=lambda row: str(row[0])))
    return 0


def _row(one: Instance, config: WorkerConfig | None) -> tuple[Any, ...]:
    busy = f"{one.busy}/{one.slots}"
    return (
        one.worker,
        one.state,
        _ruled(config),
        one.host,
        one.pid,
        busy,
        ", ".join(one.queues),
        when(one.heartbeat_at),
    )


def _ruled(config: WorkerConfig | None) -> str:
    if config is None:
        return ""
    return "disabled" if not config.enabled else "drain" if config.drain else ""


def _shares(config: WorkerConfig) -> str:
    return ", ".join(f"{one.name}={one.concurrency}:{one.weight}" for one in config.queues)


def _heard(config: WorkerConfig, instances: list[Instance]) -> float | None:
    beats = [one.heartbeat_at for one in instances if one.worker == config.name]
    return max([*beats, *([config.last_heartbeat_at] if config.last_heartbeat_at is not None else [])], default=None)


@command.command("show")
@click.argument("name")
@shared()
def show(session: Session, name: str) -> int:
    """Show a worker: its configuration, its processes, and what they run."""
    return session.run(_show(session, name))


async def _show(session: Session, name: str) -> int:
    async with session.node() as store:
        config = await _one(store, name)
        instances = [one for one in await store.instances() if one.worker == name]
        which = JobFilter(worker=name, states=(State.RUNNING,))
        running = (await store.find(which, Page(limit=_SHOWN))).items
    out = session.out
    if out.as_json:
        out.value({"worker": config, "instances": instances, "running": [job.id for job in running]})
        return 0
    out.pairs(
        [
            ("worker", config.name),
            ("enabled", "yes" if config.enabled else "no"),
            ("drain", "yes" if config.drain else None),
            ("queues", _shares(config) or "as each process was started"),
            ("max attempts", config.max_attempts),
            ("timeout", f"{config.timeout:g} s" if config.timeout else None),
            ("delay", f"{config.delay:g} s" if config.delay else None),
            ("heard of", f"{when(_heard(config, instances))} UTC"),
        ]
    )
    if instances:
        out.line()
        rows = [
            (
                one.id,
                one.state,
                one.host,
                one.pid,
                one.version,
                f"{one.busy}/{one.slots}",
                f"{one.load:.0%}",
                when(one.heartbeat_at),
            )
            for one in instances
        ]
        out.table(["process", "state", "host", "pid", "version", "busy", "load", "heard of (UTC)"], rows)
    if running:
        out.line()
        started = [(job.id, job.task, job.queue, when(job.last.started_at if job.last else None)) for job in running]
        out.table(["running job", "task", "queue", "since (UTC)"], started)
    return 0


async def _one(store: Store, name: str) -> WorkerConfig:
    found = next((config for config in await store.workers() if config.name == name), None)
    if found is None:
        raise UnknownWorker(f"unknown worker {name!r}: list the workers to see those that exist.")
    return found


# --- steering ------------------------------------------------------------------------------------------------------


def _ruling(name: str, about: str, **changes: bool) -> None:
    def rule(session: Session, worker: str) -> int:
        return session.run(_change(session, worker, changes))

    command.command(name, help=about)(click.argument("worker", metavar="NAME")(shared()(rule)))


_ruling("enable", "Let a worker take jobs; also end a drain.", enabled=True, drain=False)
_ruling("disable", "Let a worker take no new jobs; what runs goes on.", enabled=False)
_ruling("drain", "Let the processes of a worker finish what they run, and end.", drain=True)


@command.command("set")
@click.argument("name")
@click.option(
    "--queue",
    "-q",
    "queues",
    multiple=True,
    metavar="NAME=N[:WEIGHT]",
    help="A queue, how many of its jobs at once, and its weight; together they replace those that were set. "
    "`none`: as each process was started.",
)
@click.option("--max-attempts", metavar="N|none", help="For jobs that are enqueued for this worker.")
@click.option("--timeout", metavar="TIME|none", help="For jobs that are enqueued for this worker.")
@click.option("--delay", metavar="TIME", help="For jobs that are enqueued for this worker.")
@click.option("--create", is_flag=True, help="Make the worker if it is unknown.")
@shared()
def change(
    session: Session,
    name: str,
    queues: tuple[str, ...],
    max_attempts: str | None,
    timeout: str | None,
    delay: str | None,
    create: bool,
) -> int:
    """Change how a worker works; its running processes follow with their next beat."""
    changes: dict[str, Any] = {}
    if queues:
        changes["queues"] = () if queues == (_NONE,) else tuple(map(_share, queues))
    if max_attempts is not None:
        changes["max_attempts"] = None if max_attempts == _NONE else _whole(max_attempts, "--max-attempts")
    if timeout is not None:
        changes["timeout"] = None if timeout == _NONE else seconds(timeout, "--timeout")
    if delay is not None:
        changes["delay"] = seconds(delay, "--delay")
    if not changes and not create:
        raise click.UsageError("expected something to change, such as --queue mail=20.")
    return session.run(_change(session, name, changes, create=create))


async def _change(session: Session, name: str, changes: dict[str, Any], *, create: bool = False) -> int:
    async with session.node() as store:
        try:
            known = await _one(store, name)
        except UnknownWorker:
            if not create:
                raise
            known = WorkerConfig(name=name)
        config = await store.configure_worker(checked_worker(replace(known, **changes)))
        await session.note(store, "change_worker", name, detail=", ".join(sorted(changes)))
    if session.out.as_json:
        session.out.value(config)
    else:
        session.out.line(
            f"worker {config.name}: {_ruled(config) or 'enabled'}; queues {_shares(config) or 'as started'}"
        )
    return 0


def _share(text: str) -> QueueShare:
    name, equals, numbers = text.partition("=")
    concurrency, colon, weight = numbers.partition(":")
    if not name or not equals:
        raise click.UsageError(f"--queue: expected NAME=N or NAME=N:WEIGHT, found {text!r:.100}.")
    return QueueShare(
        name=name,
        concurrency=_whole(concurrency, "--queue"),
        weight=_whole(weight, "--queue") if colon else 1,
    )


def _whole(text: str, option: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise click.UsageError(f"{option}: expected a whole number, found {text!r:.100}.")
    return int(text)


@command.command("rm")
@click.argument("name")
@shared()
def forget(session: Session, name: str) -> int:
    """Forget a worker that has no live process."""
    return session.run(_forget(session, name))


async def _forget(session: Session, name: str) -> int:
    async with session.node() as store:
        live = [one for one in await store.instances() if one.worker == name and one.state in _LIVE]
        if live:
            raise click.UsageError(f"worker {name!r} has {len(live)} live processes: stop them first.")
        await store.delete_worker(name)
        await session.note(store, "delete_worker", name)
    session.out.line(f"worker {name} is forgotten")
    return 0
