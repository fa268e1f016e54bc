"""Workers: their configurations, and the processes that live; and this node itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from holdfast.errors import UnknownWorker
from holdfast.history import checked_worker
from holdfast.hub.parts import NodeInfo
from holdfast.hub.routes.people import record
from holdfast.hub.routing import Route, Scope
from holdfast.job.model import Instance, QueueShare, WorkerConfig
from holdfast.wire.requests import Names

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


async def list_instances(call: Call) -> list[Instance]:
    """List live and lately lost worker processes."""
    return await call.store.instances()


class WorkerChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a worker; what is left out stays. Its processes take it over with their next beat.

    queues: which queues, how many jobs at once, which weight; empty: as each process was started. drain: let its processes
    finish what they run, and end. enabled: whether they take new jobs.
    """

    queues: tuple[QueueShare, ...] | UnsetType = UNSET
    max_attempts: int | UnsetType | None = UNSET
    timeout: float | UnsetType | None = UNSET
    delay: float | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    drain: bool | UnsetType = UNSET
    labels: tuple[str, ...] | UnsetType = UNSET


async def list_workers(call: Call) -> list[WorkerConfig]:
    """List configured workers by name, each with when it was last heard of."""
    workers = call.parts.workers
    return await call.store.workers() if workers is None else list(await workers.list())


async def get_worker(call: Call) -> WorkerConfig:
    """Read one worker's configuration."""
    for config in await list_workers(call):
        if config.name == call.path:
            return config
    raise UnknownWorker(f"unknown worker {call.path!r}: no configuration of that name. List the workers to see them.")


async def configure_worker(call: Call) -> WorkerConfig:
    """Make or replace a worker's configuration."""
    config = await call.store.configure_worker(checked_worker(call.body))
    await record(call, "configure_worker", config.name, 1)
    return config


async def change_worker(call: Call) -> WorkerConfig:
    """Change some of a worker's configuration: its running processes follow."""
    change: WorkerChange = call.body
    changes: dict[str, Any] = {
        name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not UNSET
    }
    known = await get_worker(call)
    config = await call.store.configure_worker(checked_worker(msgspec.structs.replace(known, **changes)))
    await record(call, "change_worker", config.name, 1, ", ".join(sorted(changes)))
    return config


async def delete_worker(call: Call) -> Names:
    """Forget a worker's configuration, unless something unfinished refers to it."""
    workers = call.parts.workers
    if workers is None:
        await call.store.delete_worker(call.path)
    else:  # its rules, and its own records of the worker; what listens to the store hears of it all the same
        await workers.delete(call.path)
        if call.parts.events is not None:
            call.parts.events.publish("changed", {"what": "delete_worker", "name": call.path, "who": call.who})
    await record(call, "delete_worker", call.path, 1)
    return Names(names=(call.path,))


async def node(call: Call) -> NodeInfo:
    """Tell of the process that serves this API."""
    return call.parts.node()


ROUTES: Final = (
    Route(
        method="GET",
        path="/instances",
        handle=list_instances,
        scope=Scope.READ,
        answer=list[Instance],
        summary="List live and lately lost worker processes",
    ),
    Route(
        method="GET",
        path="/workers",
        handle=list_workers,
        scope=Scope.READ,
        answer=list[WorkerConfig],
        summary="List configured workers by name",
    ),
    Route(
        method="GET",
        path="/workers/{name}",
        handle=get_worker,
        scope=Scope.READ,
        answer=WorkerConfig,
        summary="Read one worker's configuration",
    ),
    Route(
        method="PUT",
        path="/workers",
        handle=configure_worker,
        scope=Scope.ADMIN,
        body=WorkerConfig,
        answer=WorkerConfig,
        summary="Make or replace a worker's configuration",
    ),
    Route(
        method="PATCH",
        path="/workers/{name}",
        handle=change_worker,
        scope=Scope.OPERATE,
        body=WorkerChange,
        answer=WorkerConfig,
        summary="Enable, disable, drain or change a worker; its running processes follow",
    ),
    Route(
        method="DELETE",
        path="/workers/{name}",
        handle=delete_worker,
        scope=Scope.ADMIN,
        answer=Names,
        summary="Forget a worker's configuration",
    ),
    Route(
        method="GET",
        path="/node",
        handle=node,
        scope=Scope.READ,
        answer=NodeInfo,
        summary="Tell of the process that serves this API",
    ),
)
