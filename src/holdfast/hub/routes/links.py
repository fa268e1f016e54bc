"""Keys and their owners: what workers in other processes bind, what people look at and steer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import UsageError
from holdfast.hub.routes.people import record
from holdfast.hub.routing import Route, Scope
from holdfast.job.commands import Bind, BoundKey, KeyLink, LinkFilter
from holdfast.job.model import InstanceState

if TYPE_CHECKING:
    from holdfast.hub.parts import KeyControl
    from holdfast.hub.routing import Call
    from holdfast.store import Store

_LIVE: Final = (InstanceState.STARTING, InstanceState.READY)
LINKS_MAX: Final = 1_000


class LinkDoc(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a key. pod null: it was given up. live: the owner's process takes its jobs now."""

    service: str
    key: str
    pod: int | None
    instance: str
    epoch: int
    live: bool


class LinkPage(msgspec.Struct, frozen=True, kw_only=True):
    """Links by service and key. after: give it back as after_service and after_key for the next page; null: no more."""

    items: tuple[LinkDoc, ...]
    after: tuple[str, str] | None = None


class LinkQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which links to list: those of a service, a key, a process."""

    service: str | None = None
    key: str | None = None
    instance: str | None = None
    after_service: str | None = None
    after_key: str | None = None
    limit: int = 100


class MoveKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a key to a pod; pod null lets it go."""

    service: str
    key: str
    pod: int | None = None


class DrainPod(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give all keys of a pod of a service to the others."""

    service: str
    pod: int


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How many keys changed hands; of a single one, where it is now."""

    count: int
    pod: int | None = None
    epoch: int = 0


async def bind_keys(call: Call) -> list[BoundKey]:
    """Give keys to worker processes, or take them away."""
    bind: Bind = call.body
    return await _store(call).bind(bind.links)


async def read_links(call: Call) -> list[KeyLink]:
    """Read which process owns which key."""
    return await _store(call).links(call.body)


def _store(call: Call) -> Store:
    if not call.store.capabilities.sticky:
        raise UsageError("expected a store that binds keys to pods, found one that does not: it has no sticky jobs.")
    return call.store


async def list_links(call: Call) -> LinkPage:
    """List who owns which key of which sticky service, as the store fences it."""
    asked: LinkQuery = call.query
    after = None if asked.after_service is None else (asked.after_service, asked.after_key or "")
    limit = max(1, min(asked.limit, LINKS_MAX))
    which = LinkFilter(service=asked.service, key=asked.key, instance=asked.instance, after=after, limit=limit + 1)
    found = await _store(call).links(which)
    live = {one.id for one in await call.store.instances() if one.state in _LIVE}
    items = tuple(
        LinkDoc(
            service=link.service,
            key=link.key,
            pod=link.pod,
            instance=link.instance,
            epoch=link.epoch,
            live=link.pod is not None and link.instance in live,
        )
        for link in found[:limit]
    )
    more = len(found) > limit
    return LinkPage(items=items, after=(items[-1].service, items[-1].key) if more else None)


async def move_key(call: Call) -> Moved:
    """Give a key to a pod, or let it go."""
    asked: MoveKey = call.body
    keys = await _control(call)
    if asked.pod is None:
        released = int(await keys.release(asked.service, asked.key))
        await record(call, "release_key", f"{asked.service} {asked.key}", released)
        return Moved(count=released)
    link = await keys.move(asked.service, asked.key, asked.pod)
    await record(call, "move_key", f"{asked.service} {asked.key}", 1, f"to pod {asked.pod}")
    return Moved(count=1, pod=link.pod, epoch=link.epoch)


async def drain_pod(call: Call) -> Moved:
    """Give all keys of a pod to the others."""
    asked: DrainPod = call.body
    moved = await (await _control(call)).drain(asked.service, asked.pod)
    await record(call, "drain_pod", f"{asked.service} {asked.pod}", moved)
    return Moved(count=moved)


async def _control(call: Call) -> KeyControl:
    if call.parts.keys is None:
        raise UsageError(
            "expected a node whose app has sticky services, found one without a router. Ask a node that was started with "
            "the app, or use `holdfast sticky --router redis://…`."
        )
    return await call.parts.keys()


ROUTES: Final = (
    Route(
        method="POST",
        path="/store/bind",
        handle=bind_keys,
        scope=Scope.WORK,
        body=Bind,
        answer=list[BoundKey],
        summary="Give keys to worker processes, or take them away",
    ),
    Route(
        method="POST",
        path="/store/links",
        handle=read_links,
        scope=Scope.READ,
        body=LinkFilter,
        answer=list[KeyLink],
        summary="Read which process owns which key",
    ),
    Route(
        method="GET",
        path="/links",
        handle=list_links,
        scope=Scope.READ,
        query=LinkQuery,
        answer=LinkPage,
        summary="List who owns which key of which sticky service",
    ),
    Route(
        method="POST",
        path="/links/move",
        handle=move_key,
        scope=Scope.OPERATE,
        body=MoveKey,
        answer=Moved,
        summary="Give a sticky key to a pod, or let it go",
    ),
    Route(
        method="POST",
        path="/links/drain",
        handle=drain_pod,
        scope=Scope.OPERATE,
        body=DrainPod,
        answer=Moved,
        summary="Give all sticky keys of a pod to the others",
    ),
)
