"""Workers: their configurations, and the processes that live; and this node itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.errors import UnknownWorker
from holdfast.hub.parts import NodeInfo
from holdfast.hub.routes.people import record
from holdfast.hub.routing import Route, Scope
from holdfast.job.model import Instance, WorkerConfig
from holdfast.wire.requests import Names

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


async def list_instances(call: Call) -> list[Instance]:
    """List live and lately lost worker processes."""
    return await call.store.instances()


async def list_workers(call: Call) -> list[WorkerConfig]:
    """List configured workers by name."""
    return await call.store.workers()


async def get_worker(call: Call) -> WorkerConfig:
    """Read one worker's configuration."""
    for config in await call.store.workers():
        if config.name == call.path:
            return config
    raise UnknownWorker(f"unknown worker {call.path!r}: no configuration of that name. List the workers to see them.")


async def configure_worker(call: Call) -> WorkerConfig:
    """Make or replace a worker's configuration."""
    config = await call.store.configure_worker(call.body)
    await record(call, "configure_worker", config.name, 1)
    return config


async def delete_worker(call: Call) -> Names:
    """Forget a worker's configuration."""
    await call.store.delete_worker(call.path)
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
