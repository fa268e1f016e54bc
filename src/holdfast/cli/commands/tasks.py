"""`holdfast tasks`: list, show and switch tasks."""

from __future__ import annotations

import click

from holdfast.cli.output import json_of, when
from holdfast.cli.session import Session, shared
from holdfast.job.commands import ChangeDefinition, DefinitionFilter
from holdfast.wire.definitions import definition_doc


@click.group("tasks")
def command() -> None:
    """List and show tasks."""


@command.command("ls")
@click.option("--deleted", is_flag=True, help="Deleted ones too.")
@shared(offline=True)
def list_tasks(session: Session, deleted: bool) -> int:
    """List tasks by alias."""
    return session.run(_list(session, deleted=deleted))


async def _list(session: Session, *, deleted: bool) -> int:
    async with session.store() as store:
        found = await store.definitions(DefinitionFilter(deleted=deleted))
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
            ("title", one.title),
            ("description", one.description),
            ("memo", one.memo),
            ("state", "deleted" if one.deleted_at else one.status),
            ("queue", one.queue),
            ("attempts", one.retry.max_attempts),
            ("backoff", f"{one.retry.base:g} s, times {one.retry.factor:g}, at most {one.retry.cap:g} s"),
            ("timeout", one.timeout),
            ("arguments", schema),
            ("changed", f"{when(one.updated_at)} UTC"),
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


async def _switch(session: Session, alias: str, status: str) -> int:
    async with session.store() as store:
        one = await store.change_definition(ChangeDefinition(alias=alias, status=status, who=session.who))
    if session.out.as_json:
        session.out.value(definition_doc(one))
    session.out.line(f"task {one.alias} is {one.status}.")
    return 0
