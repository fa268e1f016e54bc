"""The metrics of a node, served on an address of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.hub.api import METRICS_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence

    from holdfast.hub.door import ASGI
    from holdfast.store import Store


class Metrics:
    """Listens to store and worker of a node."""

    def __init__(self) -> None:
        self.observers: Sequence[Any] = ()

    def door(self, store: Store) -> Store:
        """Return the store with the metrics at its front door."""
        return store

    async def text(self) -> bytes:
        """Everything as Prometheus text, true at this moment."""
        return b""


def metrics_app(text: Callable[[], Awaitable[bytes]]) -> ASGI:
    """Return an application with GET /metrics and nothing else."""

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        found = scope["method"] == "GET" and scope["path"] == "/metrics"
        status, body = (200, await text()) if found else (404, b"the metrics are at /metrics\n")
        headers = [(b"content-type", METRICS_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
