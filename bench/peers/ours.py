"""Holdfast on PostgreSQL through its public API, with default options. `python -m bench.peers.ours URL ACTION COUNT`."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any, Final

import uvloop

from holdfast import Holdfast

BULK: Final = 1_000
CALLERS: Final = 100
TEXT: Final = "x" * 64
_LOOK_EVERY: Final = 0.02


def tasks(url: str) -> tuple[Holdfast, Any, list[float]]:
    """An app with one task, and when its jobs began."""
    app = Holdfast(url)
    began: list[float] = []

    @app.task("nothing")
    async def nothing(user_id: int, lang: str = "de", text: str = "", sent: float = 0.0) -> None:
        if sent:
            began.append(time.time() - sent)

    return app, nothing, began


async def fill(nothing: Any, count: int) -> float:
    """Enqueue in bulk; jobs per second."""
    begin = time.perf_counter()
    for start in range(0, count, BULK):
        await nothing.enqueue_many([(number, "de", TEXT) for number in range(start, start + BULK)])
    return count / (time.perf_counter() - begin)


async def single(nothing: Any, count: int) -> float:
    """Enqueue one after the other; jobs per second."""
    begin = time.perf_counter()
    for number in range(count):
        await nothing.enqueue(number, "de", TEXT)
    return count / (time.perf_counter() - begin)


async def crowd(nothing: Any, count: int) -> float:
    """A hundred callers enqueue one after the other each; jobs per second."""

    async def caller() -> None:
        for number in range(count // CALLERS):
            await nothing.enqueue(number, "de", TEXT)

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (time.perf_counter() - begin)


async def empty(app: Holdfast) -> None:
    """Return when no job is left that has not ended."""
    while True:
        counts = (await app.jobs.stats()).queues.get("default", {})
        if not any(n for state, n in counts.items() if state not in ("succeeded", "failed", "canceled")):
            return
        await asyncio.sleep(_LOOK_EVERY)


async def main(url: str, action: str, count: int) -> dict[str, Any]:
    """Do one action; `drain` ends when no job is left, `both` enqueues meanwhile, `idle` enqueues one each 10 ms."""
    app, nothing, began = tasks(url)
    try:
        if action in ("fill", "single", "crowd"):
            await nothing.enqueue(0)  # connected, and the queue is there
            work = {"fill": fill, "single": single, "crowd": crowd}[action]
            cpu = time.process_time()
            return {"rate": await work(nothing, count), "cpu": (time.process_time() - cpu) / count * 1e6}
        begin, cpu = time.perf_counter(), time.process_time()
        async with app.worker():
            if action == "both":
                await fill(nothing, count)
            if action == "idle":
                for number in range(count):
                    await nothing.enqueue(number, "de", TEXT, time.time())
                    await asyncio.sleep(0.01)
            await empty(app)
            passed, cpu = time.perf_counter() - begin, time.process_time() - cpu
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began.sort()
        at = {f"p{part}": began[len(began) * part // 100] * 1e3 for part in (50, 99)} if began else {}
        return {"rate": count / passed, "cpu": cpu / count * 1e6, "rss": rss, **at}
    finally:
        await app.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
