"""What a worker of an app is made of: the open store, the programs, options, hooks, and what the lifespan yields."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec

from holdfast.app.measuring import measured
from holdfast.app.pods import given_pod
from holdfast.app.schedules import declared
from holdfast.errors import UsageError
from holdfast.job.model import DEFAULT_QUEUE
from holdfast.schedule.steering import declare
from holdfast.worker.options import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from holdfast.app.holdfast import Holdfast
    from holdfast.app.session import Session
    from holdfast.clock import Clock
    from holdfast.store import Store
    from holdfast.task import TaskPrograms
    from holdfast.worker.hooks import Hooks
    from holdfast.worker.options import Concurrency

    Queues = Mapping[str, Concurrency]

#: How many jobs of a queue run at once when nothing else was said.
SLOTS: Final = WorkerOptions().queues[DEFAULT_QUEUE]


class Parts(TypedDict):
    """What a worker of an app is made of."""

    source: Store
    programs: TaskPrograms
    options: WorkerOptions
    clock: Clock
    hooks: Hooks
    state: Any


@asynccontextmanager
async def prepared(
    app: Holdfast,
    queues: Queues | None,
    options: dict[str, Any],
    *,
    share: bool = True,
    number: Callable[[], int | None] = given_pod,
) -> AsyncIterator[Parts]:
    """Open the store, make the tasks known, enter the lifespan; give what a worker is made of.

    share: serve a journal that this process owns to other processes, for as long as the app has it open. number: tells the
    number that this process was given as a pod of sticky services, if the options do not say it.
    """
    set_up = worker_options(app, queues, options)
    if app.stickies.services and set_up.pod is None:
        set_up = msgspec.structs.replace(set_up, pod=number())
    session = await app.session()
    await session.define(app.tasks)
    await declare(session.store, declared(app))
    async with measured(app, session, set_up) as observers:
        if share:
            await share_journal(app, session, set_up)
        async with (
            app.lifespan_context() as state,
            app.stickies.joined(session.store, set_up, app.hooks(observers)) as (source, hooks),
        ):
            yield Parts(
                source=source,
                programs=app.programs,
                options=set_up,
                clock=app.clock,
                hooks=hooks,
                state=state,
            )


async def share_journal(app: Holdfast, session: Session, options: WorkerOptions, *, must: bool = False) -> None:
    """Serve the journal that `session` owns, if it owns one, to other processes; `must`: raise where that can not be."""
    await session.share(
        must=must,
        clock=app.clock,
        new_id=app.host.new_id,
        validate=validator(app),
        tasks=sorted(app.tasks.aliases()),
        queues=list(options.queues),
        slots=options.slots or 0,
    )


def validator(app: Holdfast) -> Callable[[str, bytes], bool]:
    """Return what checks arguments against the signature of a task, and tells whether the app has that task."""

    def validate(alias: str, payload: bytes) -> bool:
        task = app.tasks.get(alias)
        if task is not None:
            task.arguments.check(payload)
        return task is not None

    return validate


def worker_options(app: Holdfast, queues: Queues | None, options: dict[str, Any]) -> WorkerOptions:
    """Return the checked options. Without `queues` a worker serves the queues of its tasks."""
    unknown = options.keys() - set(WorkerOptions.__struct_fields__)
    if unknown:
        known = ", ".join(WorkerOptions.__struct_fields__)
        raise UsageError(f"worker: unknown option {', '.join(map(repr, sorted(unknown)))}. Expected some of {known}.")
    if queues is None:
        names = dict.fromkeys(task.policy.queue for task in app.tasks)
        queues = dict.fromkeys(names, SLOTS) or WorkerOptions().queues
    return WorkerOptions(queues=queues, **options).checked()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory of loops, if it is installed; None: asyncio's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
