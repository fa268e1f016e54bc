"""A TCP proxy that does to connections what networks do: cuts them, swallows what they say, refuses new ones.

async with Proxy("/run/postgresql/.s.PGSQL.5432") as proxy:
    connect to 127.0.0.1, proxy.port
    proxy.cut_after("down", 100)      # the connection that carries the next hundredth byte to the client is reset
    proxy.silence()                   # all connections stay open and carry nothing any more; new ones as well
"""

import asyncio
import contextlib
import socket
import struct
from typing import Literal, Self

Direction = Literal["up", "down"]  # to the server, to the client
_CHUNK = 65_536


class Proxy:
    """Listens on a free port of the loopback, and passes on to a unix socket (a path), a port (a number), or (host, port)."""

    def __init__(self, upstream: str | int | tuple[str, int]) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._silent = False
        self._refusing = False
        self._left: dict[Direction, int] = {}
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pair in tuple(self._pairs):
            pair.cut()
        while self._pairs:
            await asyncio.wait([task for pair in self._pairs for task in pair.tasks])
            await asyncio.sleep(0)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    # --- faults ----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections."""
        for pair in tuple(self._pairs):
            pair.cut()

    def cut_after(self, direction: Direction, count: int) -> None:
        """Reset the connection that carries the `count`-th byte from now on; that byte still arrives, the next does not."""
        self._left[direction] = count

    def silence(self, *, silent: bool = True) -> None:
        """Carry nothing any more, and say nothing about it. What is silenced once is not heard again."""
        self._silent = silent
        if silent:
            for pair in self._pairs:
                pair.silent = True

    def refuse(self, *, refusing: bool = True) -> None:
        """Reset new connections."""
        self._refusing = refusing

    # --- carrying --------------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        try:
            if isinstance(self._upstream, str):
                there = await asyncio.open_unix_connection(self._upstream)
            else:
                place = self._upstream if isinstance(self._upstream, tuple) else ("127.0.0.1", self._upstream)
                there = await asyncio.open_connection(*place)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(self, (reader, writer), there, silent=self._silent)
        self._pairs.add(pair)
        try:
            await pair.run()
        finally:
            self._pairs.discard(pair)

    def pass_on(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """Count what is carried; return what arrives of it, and whether the connection is cut then."""
        left = self._left.get(direction)
        if left is not None and len(data) >= left:
            del self._left[direction]
            self.cuts += 1
            self.carried[direction] += left
            return data[:left], True
        if left is not None:
            self._left[direction] = left - len(data)
        self.carried[direction] += len(data)
        return data, False


class _Pair:
    """One connection and its other half."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        silent: bool,
    ) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.silent = silent
        loop = asyncio.get_running_loop()
        self.tasks = (
            loop.create_task(self._carry("up", client[0], server[1])),
            loop.create_task(self._carry("down", server[0], client[1])),
        )

    async def run(self) -> None:
        """Carry until one side ends."""
        try:
            await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            for task in self.tasks:
                task.cancel()
            await asyncio.wait(self.tasks)

    def cut(self) -> None:
        """Reset both sides."""
        _reset(self._client[1])
        _reset(self._server[1])

    async def _carry(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.silent:
                    continue
                data, is_cut = self._proxy.pass_on(direction, data)
                writer.write(data)
                await writer.drain()
                if is_cut:
                    # What was said last arrives before the cut: it went out with the drain above.
                    self._client[1].close() if direction == "down" else self._server[1].close()
                    return


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection the hard way, so that the other side sees a reset and not an end."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
