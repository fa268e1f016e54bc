"""Keys and their owners, for workers in other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.hub.routing import Route, Scope
from holdfast.job.commands import Bind, BoundKey, KeyLink, LinkFilter

if TYPE_CHECKING:
    from holdfast.hub.routing import Call


async def bind_keys(call: Call) -> list[BoundKey]:
    """Give keys to worker processes, or take them away."""
    bind: Bind = call.body
    return await call.store.bind(bind.links)


async def read_links(call: Call) -> list[KeyLink]:
    """Read which process owns which key."""
    return await call.store.links(call.body)


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
)
