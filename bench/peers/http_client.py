"""A client that asks as fast as it is answered: python -m bench.peers.http_client PORT TOKEN ACTION COUNT.

singles: COUNT requests with one job each, over 64 connections. batches: COUNT jobs in requests of 1,000, over 4.
pages: reads paths from standard input, one a line, and asks them in turn over one connection.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time


class Link:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, message: bytes) -> bytes:
        """Send a request; return the body of its answer."""
        self.writer.write(message)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(head.decode() + (await self.reader.read(500)).decode())
        at = head.index(b"content-length: ") + 16
        return await self.reader.readexactly(int(head[at : head.index(b"\r", at)]))


def message(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """A request as bytes."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def job() -> bytes:
    """One job as people send it."""
    return json.dumps({"task": "mail.welcome", "payload": {"user_id": 42, "lang": "de", "note": "x" * 80}}).encode()


async def flood(port: int, request: bytes, requests: int, links: int) -> float:
    """Send `requests` over `links` connections; return the seconds it took."""
    opened = [Link(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(links)]
    left = requests

    async def one(link: Link) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await link.ask(request)

    started = time.perf_counter()
    await asyncio.gather(*map(one, opened))
    return time.perf_counter() - started


async def pages(port: int, token: str, paths: list[str]) -> list[float]:
    """Ask each path; return how long each took, in seconds."""
    link = Link(*await asyncio.open_connection("127.0.0.1", port))
    taken = []
    for path in paths:
        request = message("GET", path, token)
        started = time.perf_counter()
        await link.ask(request)
        taken.append(time.perf_counter() - started)
    return taken


async def main(port: int, token: str, action: str, count: int) -> None:
    """Do what was asked."""
    if action == "singles":
        request = message("POST", "/api/v1/jobs", token, job())
        print(json.dumps({"seconds": await flood(port, request, count, 64), "count": count}))
    elif action == "batches":
        request = message("POST", "/api/v1/jobs", token, b"[" + b",".join([job()] * 1_000) + b"]")
        print(json.dumps({"seconds": await flood(port, request, count // 1_000, 4), "count": count}))
    else:
        print(json.dumps({"taken": await pages(port, token, sys.stdin.read().split())}))


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
