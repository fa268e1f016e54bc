"""Slow and broken clients cost little: they are cut, and others are served meanwhile. A real server on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.hub.door import Door
from holdfast.node import server
from holdfast.node.server import serving
from holdfast.node.sockets import bind_tcp
from tests.contract.adapters import ADAPTERS
from tests.features import feature
from tests.hub.site import OWN, Site


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Site, int]]:
    """A hub at a port."""
    site = Site(ADAPTERS["memory"](), folder)
    await site.open()
    with bind_tcp("127.0.0.1", 0, "--port") as bound:
        async with serving(Door(site.door._app, site.policy()), bound):
            yield site, bound.getsockname()[1]
    await site.close()


async def talk(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def served_meanwhile(port: int) -> bool:
    answer = await talk(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return answer.startswith(b"HTTP/1.1 200")


HEAD = (
    b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
    % OWN.encode()
)
STALLED = {
    "nothing": [],
    "half a line": [b"GET / HT"],
    "headers that do not end": [b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: 1\r\n", b"Y: 2\r\n"],
    "a body that does not come": [HEAD + b"Content-Length: 100000\r\n\r\n"],
    "a body that trickles": [HEAD + b"Content-Length: 100000\r\n\r\n", b"[", b" ", b" "],
    "chunks that do not end": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n"],
}


@feature("H18")
@pytest.mark.parametrize("pieces", STALLED.values(), ids=STALLED)
async def test_a_client_that_stalls_is_cut(
    pieces: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_LIMIT", 0.3)
    monkeypatch.setattr(server, "BODY_LOOK", 0.3)
    async with served(tmp_path) as (_, port):
        assert await talk(port, *pieces) == b""
        assert await served_meanwhile(port)


async def test_a_client_that_takes_no_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TAKE_LIMIT", 0.3)
    async with served(tmp_path) as (site, port):
        await site.define("t")
        await site.do("POST", "/jobs", [{"task": "t", "payload": {"x": "y" * 5_000}}] * 1_000)
        ask = (
            b"GET /api/v1/jobs?limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
            % OWN.encode()
        )
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.sendall(ask * 4)
        async with asyncio.timeout(30):
            while await asyncio.to_thread(_open, sock):  # noqa: ASYNC110  # the other side tells nobody
                await asyncio.sleep(0.05)
        assert await served_meanwhile(port)
        sock.close()


def _open(sock: socket.socket) -> bool:
    """Whether the other side still has the connection: what we send is refused once it does not."""
    try:
        sock.sendall(b"x")
    except OSError:
        return False
    return True


BROKEN = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "another protocol": b"SSH-2.0-x\r\n\r\n",
    "a bad line": b"GET\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
    "a bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "too many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 20_000,
    "a header too long": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000,
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_request_is_refused_and_harms_nobody(sent: bytes, tmp_path: Path) -> None:
    async with served(tmp_path) as (_, port):
        answer = await talk(port, sent)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert await served_meanwhile(port)


@pytest.mark.parametrize(("more", "status"), [(0, b"200"), (1, b"400")])
async def test_t56_headers_of_just_the_limit_are_read_and_one_byte_more_is_not(
    more: int, status: bytes, tmp_path: Path
) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: %s\r\n\r\n"
    filled = head % (b"x" * (server.HEAD_MAX + more - len(head) + 2))
    assert len(filled) == server.HEAD_MAX + more
    async with served(tmp_path) as (_, port):
        assert (await talk(port, filled)).startswith(b"HTTP/1.1 " + status)
        assert await served_meanwhile(port)


async def test_hundreds_of_slow_clients_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_LIMIT", 2.0)
    async with served(tmp_path) as (_, port):
        idle: list[Any] = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        for _, writer in idle:
            writer.write(b"GET / HTTP/1.1\r\n")
        assert await served_meanwhile(port)
        async with asyncio.timeout(30):
            assert [await reader.read() for reader, _ in idle] == [b""] * 300
        for _, writer in idle:
            writer.close()


async def test_more_connections_than_may_be_are_told_to_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)
    async with served(tmp_path) as (_, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        answer = await talk(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503")
        for _, writer in idle:
            writer.close()
