"""A small HTTP/1.1 client for one server, over TCP or a socket in the file system. No more than the API needs.

Connections are kept and used again, per event loop: a worker's heartbeat comes from a loop of its own. A kept connection
that the server has closed meanwhile is noticed before the first byte of an answer; the request is then sent once more on
a fresh one if it may be repeated, and otherwise the caller is told that the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import weakref
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from holdfast.errors import ConfigError, OutcomeUnknown, StoreUnavailable
from holdfast.wire.place import short_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

HEAD_MAX: Final = 64 * 1024
#: A kept connection that was idle for longer is not used again, in seconds; the server keeps it twice as long.
IDLE_MAX: Final = 15.0
CONNECT_LIMIT: Final = 5.0


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens: `socket`, a path, or `host` and `port`."""

    socket: str = ""
    host: str = "localhost"
    port: int = 80
    tls: bool = False
    base: str = ""

    def __str__(self) -> str:
        """The address for people."""
        if self.socket:
            return self.socket
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{self.base}"

    @property
    def host_header(self) -> str:
        """What the Host header says."""
        return "localhost" if self.socket else f"{self.host}:{self.port}"


def read_address(url: str) -> Address:
    """Return the address of `http://host:port`, `https://…` or `unix:/path/to/node.sock`. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    if scheme == "unix" and rest:
        return Address(socket=rest.removeprefix("//"))
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
        raise ConfigError(f"URL of a hub: expected http://host:7420, https://host or unix:/path, found {url!r:.200}.")
    tls = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(host=host, port=port or (443 if tls else 80), tls=tls, base=parts.path.rstrip("/"))


class Answer(msgspec.Struct, frozen=True):
    """A response: status, media type, body."""

    status: int
    media_type: str
    body: bytes


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used_at = time.monotonic()

    @property
    def usable(self) -> bool:
        fresh = time.monotonic() - self.used_at < IDLE_MAX
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()


class _Pool:
    """The kept connections of one loop."""

    def __init__(self) -> None:
        self.kept: list[_Connection] = []
        self.keeper = self._keep()

    async def _keep(self) -> AsyncGenerator[None, None]:
        # A loop ends its async generators before it closes: the last moment to close connections well.
        try:
            yield
        finally:
            for connection in self.kept:
                connection.writer.close()
            closing = [connection.writer.wait_closed() for connection in self.kept]
            self.kept.clear()
            await asyncio.gather(*closing, return_exceptions=True)


class _NoAnswer(Exception):
    """The connection ended before the first byte of an answer."""


class AnswerLost(StoreUnavailable):
    """A request that may be repeated went out, and its answer did not come."""


class HttpClient:
    """Sends requests to one address. `token` goes along as bearer."""

    def __init__(self, address: Address, token: str = "") -> None:
        self.address = address
        self._headers = {"Host": address.host_header, "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = weakref.WeakKeyDictionary()

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, timeout: float = 30.0, repeatable: bool = False
    ) -> Answer:
        """Return the server's answer, whatever its status.

        Raises StoreUnavailable when nothing can have happened (no connection, or a read), OutcomeUnknown when a change was
        sent and no answer came within `timeout` seconds. `repeatable`: sending it twice does no harm.
        """
        repeatable = repeatable or method == "GET"
        message = self._message(method, path, body)
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(message, repeatable=repeatable)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, _NoAnswer) as error:
            what = f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else f"{error}"
            text = f"{self.address}: {method} {path}: the connection failed ({what or type(error).__name__})."
            if repeatable:
                raise AnswerLost(f"{text} Nothing was changed; try again.") from error
            raise OutcomeUnknown(f"{text} It may or may not be done; ask by id.") from error

    def _message(self, method: str, path: str, body: bytes | None) -> bytes:
        headers: Mapping[str, str] = self._headers
        if body is not None:
            headers = {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
        elif method != "GET":
            headers = {**headers, "Content-Length": "0"}
        lines = [
            f"{method} {self.address.base}{path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")

    async def _exchange(self, message: bytes, *, repeatable: bool) -> Answer:
        kept = await self._pool()
        while kept:
            connection = kept.pop()
            if not connection.usable:
                connection.writer.close()
                continue
            try:
                return await self._on(connection, message, kept)
            except (_NoAnswer, ConnectionError):
                if not repeatable:
                    raise
        return await self._on(await self._connect(), message, kept)

    async def _connect(self) -> _Connection:
        address = self.address
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                if address.socket:
                    with short_name(address.socket) as name:
                        return _Connection(*await asyncio.open_unix_connection(name, limit=HEAD_MAX))
                context = ssl.create_default_context() if address.tls else None
                host = address.host.strip("[]")
                return _Connection(*await asyncio.open_connection(host, address.port, ssl=context, limit=HEAD_MAX))
        except (OSError, TimeoutError) as error:
            raise StoreUnavailable(
                f"{address}: expected a hub or node to answer, found none ({str(error) or 'no connection in time'}). "
                "Start it, or correct the address."
            ) from error

    async def _on(self, connection: _Connection, message: bytes, kept: list[_Connection]) -> Answer:
        try:
            connection.writer.write(message)
            await connection.writer.drain()
            answer, keep = await _read_answer(connection.reader)
        except BaseException:
            connection.writer.close()  # half of an exchange: nobody may use it again
            raise
        if keep:
            connection.used_at = time.monotonic()
            kept.append(connection)
        else:
            connection.writer.close()
        return answer

    async def _pool(self) -> list[_Connection]:
        """The kept connections of this loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = _Pool()
            await anext(pool.keeper)
        return pool.kept

    async def close(self) -> None:
        """Let the connections of this loop go. Those of another loop go with it, if it is run by asyncio.run."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.keeper.aclose()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """Return the answer, and whether the connection may be used again."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        raise _NoAnswer("closed by the server") from None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if len(parts) < 2 or not parts[1].isdecimal():
        raise OSError(f"expected an HTTP answer, found {status_line!r:.80}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await _read_body(reader, headers)
    keep = headers.get("connection", "").lower() != "close"
    return Answer(int(parts[1]), headers.get("content-type", "").partition(";")[0], body), keep


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _read_chunks(reader)
    return await reader.readexactly(int(headers.get("content-length", "0")))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readline() not in (b"\r\n", b""):  # trailers
        continue
    return b"".join(chunks)
