"""The metrics of a node on an address of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.hub.api import METRICS_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from holdfast.hub.door import ASGI


def metrics_app(text: Callable[[], Awaitable[bytes]]) -> ASGI:
    """Return an application with GET /metrics and nothing else."""

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        found = scope["method"] == "GET" and scope["path"] == "/metrics"
        status, body = (200, await text()) if found else (404, b"the metrics are at /metrics\n")
        headers = [(b"content-type", METRICS_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
