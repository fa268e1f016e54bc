"""Serving an ASGI application within our own task group: no signals of its own, no ticking, a bounded end.

Slow and broken clients cost little. A connection must bring its request line and headers within HEAD_LIMIT, and each
BODY_LOOK at least BODY_LEAST bytes of its body; it must take an answer within TAKE_LIMIT. Else it is cut. No more than
CONNECTIONS_MAX are served at a time; one more is told 503.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.wire.problems import MEDIA_TYPE, http_problem

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

#: How long requests that are under way may take when the server stops, in seconds.
GRACE: Final = 2.0
#: How long an idle connection is kept, in seconds: twice as long as our own clients keep theirs.
KEEP: Final = 30
#: How long a client may take for its request line and headers, in seconds, and how many bytes they may have.
HEAD_LIMIT: Final = 5.0
HEAD_MAX: Final = 64 * 1024
#: How often a body that is under way is looked at, in seconds, and how many bytes must have come since.
BODY_LOOK: Final = 10.0
BODY_LEAST: Final = 16 * 1024
#: How long a client may leave an answer lying, in seconds.
TAKE_LIMIT: Final = 30.0
CONNECTIONS_MAX: Final = 2_000


class Impatient(HttpToolsProtocol):
    """One connection, which is cut when its client is too slow. A request that comes in one piece costs no timer."""

    _timer: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None
    _in_head = True
    _in_body = False
    _head = 0
    _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client came; its first request is awaited."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_LIMIT, self.cut)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went."""
        self._quiet()
        if self._taking is not None:
            self._taking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request, or several."""
        super().data_received(data)
        if not self._in_head and not self._in_body:
            if self._timer is not None:
                self._quiet()
        elif self._in_head:
            self._head += len(data)
            if self._head > HEAD_MAX:
                self.send_400_response(f"The request line and headers have more than {HEAD_MAX} bytes.")
            elif self._timer is None:
                self._timer = self.loop.call_later(HEAD_LIMIT, self.cut)
        elif self._timer is None:
            self._timer = self.loop.call_later(BODY_LOOK, self._look, self._body)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._head, self._body = True, 0, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are here."""
        self._in_head, self._in_body = False, True
        self._quiet()
        if self._size() > HEAD_MAX:  # it came in few pieces, of which none told so before
            raise ValueError(f"the request line and headers have more than {HEAD_MAX} bytes")  # the parser's 400
        super().on_headers_complete()

    def _size(self) -> int:
        """Return how many bytes request line and headers have, written plainly."""
        line = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        return line + sum(len(name) + len(value) + 4 for name, value in self.headers) + 2

    def on_body(self, body: bytes) -> None:
        """A piece of its body is here."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self._taking = self.loop.call_later(TAKE_LIMIT, self.cut)

    def resume_writing(self) -> None:
        """It took it."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the words of the API, and end the connection."""
        body = msgspec.json.encode(http_problem(400, f"expected HTTP/1.1, found something else. {msg}"))
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def cut(self) -> None:
        """End the connection."""
        self._timer = None
        self.transport.abort()

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        # While we ourselves do not read, because the application is busy, the client is not to blame.
        if not self.flow.read_paused and self._body - before < BODY_LEAST:
            self.cut()
        else:
            self._timer = self.loop.call_later(BODY_LOOK, self._look, self._body)


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
        http=Impatient,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP,
        limit_concurrency=CONNECTIONS_MAX,
    )
    server = Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[bound]), name="holdfast-http")
        await server.up.wait()
        try:
            yield server
        finally:
            server.stop()
