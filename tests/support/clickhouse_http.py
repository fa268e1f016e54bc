"""FakeClickHouseHttp: a small front of a ClickHouse server's HTTP interface, over chdb, which is the real engine.

No ClickHouse server can be installed where these tests run. What the driver sends over HTTP is done by the engine of this
process: statements, parameters, formats, inserts. What is not real is the front: users, settings of a session, compression,
progress. So the adapter's use of the driver is shown here, and a real server when HOLDFAST_TEST_CLICKHOUSE_URL is set.
It can be away (`stop`), and lose an answer after the work was done (`lose_next`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeClickHouseHttp:
    """Serves one engine on a port of loopback."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.lose_next: Callable[[str], bool] | None = None  # whose answer is lost,
        self.lose_times = 1  # so often: the driver itself sends rows once more

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await _body(reader, headers)
        given = parse_qs(urlsplit(head[0].split()[1]).query, keep_blank_values=True)
        query = {name: values[-1] for name, values in given.items()}
        status, answer = await asyncio.to_thread(self._answer, query, body)
        said = query.get("query", "") + body[:200].decode(errors="replace")
        if self.lose_next is not None and self.lose_next(said):
            self.lose_times -= 1
            if self.lose_times <= 0:
                self.lose_next, self.lose_times = None, 1
            return False
        code = "" if status == 200 else f"X-ClickHouse-Exception-Code: {_code(answer)}\r\n"
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\n{code}Content-Length: {len(answer)}\r\n\r\n".encode()
            + answer
        )
        await writer.drain()
        return True

    def _answer(self, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        import chdb

        sql, data = (query["query"], body) if "query" in query else (body.decode(), b"")
        params = {name.removeprefix("param_"): value for name, value in query.items() if name.startswith("param_")}
        text, form = sql.rstrip().rstrip(";"), query.get("default_format", "TabSeparated")
        head, found, last = text.rpartition(" FORMAT ")
        head, found, last = (head, found, last) if found else text.rpartition("\n FORMAT ")
        if found and last.strip().isalnum() and not data:
            text, form = head, last.strip()
        if data:
            text = f"{text}\n{data.decode()}"
        try:
            result = self._connection.query(text, form, params=params or None)
        except (chdb.ChdbError, RuntimeError) as error:
            return 500, str(error).encode()
        return 200, bytes(result.bytes())


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))


def _code(answer: bytes) -> str:
    said = answer.decode(errors="replace")
    return said.partition("Code: ")[2].partition(".")[0] or "1"
