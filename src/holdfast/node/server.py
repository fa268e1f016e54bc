"""Serving an ASGI application within our own task group: no signals of its own, no ticking, a bounded end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

#: How long requests that are under way may take when the server stops, in seconds.
GRACE: Final = 2.0
#: How long an idle connection is kept, in seconds: twice as long as our own clients keep theirs.
KEEP: Final = 30


class Server(uvicorn.Server):
    """uvicorn without what a program of its own needs."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The node handles signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """Wait for the stop."""
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections; let requests that are under way end, for a bounded time."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            _, late = await asyncio.wait(tuple(self.server_state.tasks), timeout=GRACE)
            for task in late:
                task.cancel()

    def stop(self) -> None:
        """End `serve` soon."""
        self.should_exit = True
        self._stopping.set()


@asynccontextmanager
async def serving(app: Any, bound: socket.socket) -> AsyncIterator[Server]:
    """Serve `app` at the bound socket while in the block."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[bound]), name="holdfast-http")
        await server.up.wait()
        try:
            yield server
        finally:
            server.stop()
