"""`holdfast tasks`: list, show, make and switch tasks, and run one here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.cli.handlers import log_lines, run_handler
from holdfast.cli.listing import Listing
from holdfast.cli.output import json_of, when
from holdfast.cli.session import Session, shared
from holdfast.errors import HoldfastError, JobFailed, UnknownTask
from holdfast.job.commands import ChangeDefinition, Define, DefinitionFilter
from holdfast.job.ids import check_name
from holdfast.job.model import TaskStatus
from holdfast.wire.definitions import definition_doc
from holdfast.wire.documents import job_doc

if TYPE_CHECKING:
    from holdfast.job.model import Job

_FAILED: Final = 10
_ALL: Final = 1_000_000


@click.group("tasks", cls=Listing)
def command() -> None:
    """List, show, make, switch and run tasks."""


@command.command("ls")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@click.option("--status", type=click.Choice([status.value for status in TaskStatus]), help="Only these.")
@click.option("--count", is_flag=True, help="Say only how many there are.")
@shared(offline=True)
def list_tasks(session: Session, deleted: bool, status: str | None, count: bool) -> int:
    """List tasks by alias."""
    return session.run(_list(session, DefinitionFilter(deleted=deleted, status=status, limit=_ALL), count=count))


async def _list(session: Session, which: DefinitionFilter, *, count: bool) -> int:
    async with session.store() as store:
        found = await store.definitions(which)
    if count:
        session.out.value(len(found))
        return 0
    if session.out.as_json:
        session.out.value(list(map(definition_doc, found)))
        return 0
    rows = [
        (
            one.alias,
            "deleted" if one.deleted_at else one.status,
            one.queue,
            one.retry.max_attempts,
            one.timeout,
            one.title,
        )
        for one in found
    ]
    session.out.table(["task", "state", "queue", "attempts", "timeout (s)", "title"], rows)
    return 0


@command.command("show")
@click.argument("alias", metavar="TASK")
@shared(offline=True)
def show(session: Session, alias: str) -> int:
    """Show a task: its policy, and what arguments it takes."""
    return session.run(_show(session, alias))


async def _show(session: Session, alias: str) -> int:
    async with session.store() as store:
        one = await store.definition(alias)
    if session.out.as_json:
        session.out.value(definition_doc(one))
        return 0
    schema = json_of(one.parameters)
    session.out.pairs(
        [
            ("task", one.alias),
            ("id", one.id),
            ("title", one.title),
            ("description", one.description),
            ("memo", one.memo),
            ("state", "deleted" if one.deleted_at else one.status),
            ("queue", one.queue),
            ("attempts", one.retry.max_attempts),
            ("backoff", f"{one.retry.base:g} s, times {one.retry.factor:g}, at most {one.retry.cap:g} s"),
            ("timeout", one.timeout),
            ("arguments", schema),
            ("made", f"{when(one.created_at)} UTC"),
            ("changed", f"{when(one.updated_at)} UTC"),
            ("deleted", f"{when(one.deleted_at)} UTC" if one.deleted_at else None),
        ]
    )
    return 0


@command.command("cancel")
@click.argument("alias", metavar="TASK")
@shared()
def cancel(session: Session, alias: str) -> int:
    """Switch a task off: nothing of it is enqueued or started; what waits is held."""
    return session.run(_switch(session, alias, "canceled"))


@command.command("activate")
@click.argument("alias", metavar="TASK")
@shared()
def activate(session: Session, alias: str) -> int:
    """Switch a task on again."""
    return session.run(_switch(session, alias, "active"))


@command.command("restore")
@click.argument("alias", metavar="TASK")
@shared()
def restore(session: Session, alias: str) -> int:
    """Bring a deleted task back."""
    return session.run(_changed(session, ChangeDefinition(alias=alias, deleted=False, who=session.who)))


async def _switch(session: Session, alias: str, status: str) -> int:
    return await _changed(session, ChangeDefinition(alias=alias, status=status, who=session.who))


async def _changed(session: Session, change: ChangeDefinition, done: str = "") -> int:
    async with session.store() as store:
        one = await store.change_definition(change)
    if session.out.as_json:
        session.out.value(definition_doc(one))
    session.out.line(f"task {one.alias} is {done or ('deleted' if one.deleted_at else one.status)}.")
    return 0


# --- making, editing, deleting


def _texts(function: Any) -> Any:
    for name in ("memo", "description", "title"):
        function = click.option(f"--{name}", help=f"Its {name}, for people.")(function)
    return function


@command.command("create")
@click.argument("alias", metavar="TASK")
@_texts
@shared()
def create(session: Session, alias: str, **texts: str | None) -> int:
    """Make a task whose code is elsewhere, so that jobs of it can be enqueued. Refused when the alias is taken."""
    given: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    return session.run(_create(session, Define(alias=check_name(alias, "alias"), only_new=True, **given)))


async def _create(session: Session, define: Define) -> int:
    async with session.store() as store:
        [one] = await store.define([define])
    if session.out.as_json:
        session.out.value(definition_doc(one))
    session.out.line(f"task {one.alias} is made.")
    return 0


@command.command("edit")
@click.argument("alias", metavar="TASK")
@click.option("--alias", "new_alias", metavar="NEW", help="Another alias; refused when it is taken.")
@_texts
@shared()
def edit(session: Session, alias: str, **texts: str | None) -> int:
    """Change the texts of a task, or its alias."""
    given: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    if not given:
        raise click.UsageError("expected something to change: --title, --description, --memo or --alias.")
    return session.run(_changed(session, ChangeDefinition(alias=alias, who=session.who, **given), "changed"))


@command.command("delete")
@click.argument("alias", metavar="TASK")
@click.option("--hard", is_flag=True, help="Forget it; refused while it has unfinished jobs or schedules.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@shared()
def delete(session: Session, alias: str, hard: bool, yes: bool) -> int:
    """Hide a task: nothing of it is enqueued or started, what waits is held. With --hard: forget it."""
    if hard:
        return session.run(_forget(session, alias, yes=yes))
    return session.run(_changed(session, ChangeDefinition(alias=alias, deleted=True, who=session.who)))


async def _forget(session: Session, alias: str, *, yes: bool) -> int:
    async with session.store() as store:
        one = await store.definition(alias)
        if not yes:
            session.confirm(f"forget task {one.alias}")
        await store.delete_definition(one.id, session.who)
    if session.out.as_json:
        session.out.value(definition_doc(one))
    session.out.line(f"task {one.alias} is forgotten.")
    return 0


# --- running one


@command.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("alias", required=False, metavar="[TASK]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--name=value …]")
@click.option("--app", "app_name", metavar="MODULE:APP", help="The app that has the task.")
@shared()
def run(session: Session, alias: str | None, words: tuple[str, ...], app_name: str | None) -> int:
    """Run a task's function here and now, without a job: --name=value, --name value, --flag.

    Names that are options of this command too go behind a bare --. Without TASK: list the tasks of the app.
    """
    from holdfast.app import load_app

    session.flag(app=app_name)
    if session.settings.app is None:
        raise click.UsageError("expected --app MODULE:APP, or HOLDFAST_APP: the app whose task is run.")
    app = load_app(session.settings.app)
    if alias is None:
        session.out.table(["task", "title"], [(task.alias, task.policy.title) for task in app.tasks])
        return 0
    task = app.tasks.get(alias)
    if task is None:
        raise UnknownTask(alias, app.tasks.aliases())
    try:
        job = session.run(run_handler(app, task, words))
    except JobFailed as error:
        return _tell_failed(session, str(error))
    except HoldfastError:
        raise
    except Exception as error:
        if session.debug:
            raise
        return _tell_failed(session, f"{type(error).__name__}: {error}")
    return _tell_ended(session, job)


def _tell_failed(session: Session, text: str) -> int:
    click.echo(f"{click.style('failed', fg='red', bold=True)}: {text}", err=True)
    return _FAILED


def _tell_ended(session: Session, job: Job) -> int:
    if session.out.as_json:
        session.out.value(job_doc(job))
        return 0
    for at, level, text in log_lines(job):
        session.out.note(f"{when(at)} {level}: {text}")
    shown: Any = json_of(job.result)
    session.out.line(f"{job.state}" if shown is None else f"{job.state}: {shown}")
    return 0
