"""The metrics of a node on an address of their own."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from holdfast.hub.api import METRICS_TYPE
from holdfast.hub.door import LOOPBACK_HOSTS, Door, Policy
from holdfast.node import sockets
from holdfast.node.errors import PortInUse
from holdfast.node.server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence

    from holdfast.hub.door import ASGI

logger: Final = logging.getLogger("holdfast.metrics")


@asynccontextmanager
async def metrics_port(
    text: Callable[[], Awaitable[bytes]], *, port: int, host: str, hosts: Sequence[str] = ()
) -> AsyncIterator[str | None]:
    """Serve GET /metrics on a port; give its address. None: the port is in use, which is warned of.

    hosts: more names that it is reached by. Raises CannotListen.
    """
    try:
        bound = sockets.bind_tcp(host, port, "--metrics-port")
    except PortInUse as error:
        logger.warning("no metrics of this process: %s", error)
        yield None
        return
    with bound:
        door = Door(metrics_app(text), Policy(hosts=LOOPBACK_HOSTS | {host.lower(), *map(str.lower, hosts)}))
        async with serving(door, bound):
            where = f"http://{host}:{bound.getsockname()[1]}/metrics"
            logger.info("metrics at %s", where)
            yield where


def metrics_app(text: Callable[[], Awaitable[bytes]]) -> ASGI:
    """Return an application with GET /metrics and nothing else."""

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        found = scope["method"] == "GET" and scope["path"] == "/metrics"
        status, body = (200, await text()) if found else (404, b"the metrics are at /metrics\n")
        headers = [(b"content-type", METRICS_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
