"""Asserting what was enqueued, with messages that show what was enqueued instead."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import UnknownTask
from holdfast.task import Call, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast import Holdfast
    from holdfast.job.model import Job

_PAGE: Final = 1_000
_SHOWN: Final = 10


async def assert_enqueued(
    app: Holdfast,
    task: Task[..., Any] | Call | str,
    *args: Any,
    count: int | None = None,
    queue: str | None = None,
    key: str | None = None,
    tag: str | None = None,
    **kwargs: Any,
) -> list[Job]:
    """Assert that jobs of `task` were enqueued, in whatever state they are now; return them, oldest first.

    With arguments only jobs with these count: what was left out is compared by its default. For arguments that are named
    like the options here, and for type checkers, give `task.args(…)` as the task. count: exactly so many (0: none);
    without it at least one. Raises AssertionError that shows the jobs of the task and how they differ.
    """
    found_task, expected = _expected(app, task, args, kwargs)
    jobs = await _jobs_of(app, found_task.alias)
    wanted = {"queue": queue, "key": key}
    faults = [(job, _differences(found_task, job, expected, wanted, tag)) for job in jobs]
    matching = [job for job, wrong in faults if not wrong]
    if len(matching) != count if count is not None else not matching:
        raise AssertionError(_message(found_task.alias, expected, {**wanted, "tag": tag}, count, faults))
    return matching


def _expected(
    app: Holdfast, task: Task[..., Any] | Call | str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Task[..., Any], dict[str, Any] | None]:
    """Return the task, and the expected arguments by name; None: any."""
    alias = task if isinstance(task, str) else task.task if isinstance(task, Call) else task.alias
    found = app.tasks.get(alias)
    if found is None:
        raise UnknownTask(alias, app.tasks.aliases())
    if isinstance(task, Call):
        args, kwargs = task.args, task.kwargs
    elif not args and not kwargs:
        return found, None
    return found, _by_name(found, found.arguments.encode(args, kwargs))


def _by_name(task: Task[..., Any], payload: bytes) -> dict[str, Any]:
    """Return the arguments that a run would get, defaults included."""
    call: Callable[[], Any] = task.arguments.bind(payload, None)
    assert isinstance(call, functools.partial)
    positional = [parameter.name for parameter in task.signature.parameters if not parameter.keyword_only]
    values = list(call.args)
    if task.signature.context_at is not None:
        del values[task.signature.context_at]
    named = {name: value for name, value in call.keywords.items() if name != task.signature.context}
    return {**dict(zip(positional, values, strict=True)), **named}


async def _jobs_of(app: Holdfast, alias: str) -> list[Job]:
    if app.host.inline is not None:
        return [job for job in app.host.inline.jobs if job.task == alias]
    jobs: list[Job] = []
    cursor = ""
    while True:
        page = await app.jobs.list(task=alias, limit=_PAGE, cursor=cursor, newest_first=False)
        jobs += page.items
        cursor = page.cursor
        if not cursor:
            return jobs


def _differences(
    task: Task[..., Any], job: Job, expected: dict[str, Any] | None, wanted: dict[str, Any], tag: str | None
) -> list[str]:
    wrong = [
        f"{name}: {getattr(job, name)!r}, expected {value!r}"
        for name, value in wanted.items()
        if value is not None and getattr(job, name) != value
    ]
    if tag is not None and tag not in job.tags:
        wrong.append(f"tags: {list(job.tags)!r}, expected {tag!r} among them")
    if expected is not None:
        found = _by_name(task, job.payload)
        wrong += [
            f"{name}: {found[name]!r}, expected {value!r}" for name, value in expected.items() if found[name] != value
        ]
    return wrong


def _message(
    alias: str,
    expected: dict[str, Any] | None,
    wanted: dict[str, Any],
    count: int | None,
    faults: list[tuple[Job, list[str]]],
) -> str:
    conditions = [f"{name}={value!r}" for name, value in {**(expected or {}), **wanted}.items() if value is not None]
    matching = sum(not wrong for _, wrong in faults)
    lines = [
        f"expected {'at least 1' if count is None else count} job(s) of {alias} with {', '.join(conditions) or 'anything'}, "
        f"found {matching} among {len(faults)} of the task:"
    ]
    for job, wrong in faults[:_SHOWN]:
        arguments = msgspec.json.format(job.payload, indent=0).decode() if job.payload else "{}"
        lines.append(f"  {job.id} ({job.state}, queue {job.queue}) {arguments:.200}")
        lines += [f"      {fault}" for fault in wrong] or ["      matches"]
    if len(faults) > _SHOWN:
        lines.append(f"  … and {len(faults) - _SHOWN} more")
    return "\n".join(lines)
