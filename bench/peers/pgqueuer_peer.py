"""PgQueuer at its best setting, run by the Python of an environment of its own: `pgqueuer_peer.py URL ACTION COUNT`."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer  # type: ignore[import-not-found]  # not a dependency of ours: it has its own environment
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]

BULK = BATCH = 1_000
LARGE = 10_000
PAYLOAD = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'


async def main(url: str, action: str, count: int) -> dict[str, Any]:
    """Do one action: install, fill, drain."""
    connection = await asyncpg.connect(url)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    if action == "install":
        await queries.install()
        await connection.close()
        return {}
    if action in ("fill", "flood"):
        bulk = BULK if action == "fill" else LARGE
        begin = time.perf_counter()
        for _ in range(0, count, bulk):
            await queries.enqueue(["nothing"] * bulk, [PAYLOAD] * bulk, [0] * bulk)
        rate = count / (time.perf_counter() - begin)
        await connection.close()
        return {"rate": rate}
    worker = PgQueuer(driver)
    began, ran = 0.0, 0

    @worker.entrypoint("nothing")  # type: ignore[untyped-decorator]
    async def nothing(job: Any) -> None:
        nonlocal began, ran
        ran += 1
        if not began:
            began = time.time()

    cpu = time.process_time()
    await worker.run(dequeue_timeout=timedelta(milliseconds=10), batch_size=BATCH, mode=QueueExecutionMode.drain)
    ended, cpu = time.time(), time.process_time() - cpu
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rate": count / (ended - began), "cpu": cpu / max(1, ran) * 1e6, "rss": rss, "began": began, "ended": ended}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
