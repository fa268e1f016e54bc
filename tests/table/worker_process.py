"""A process that serves orders: `python -m tests.table.worker_process URL MODE`; MODE drain, hang or serve.

serve: work until a signal says stop; print "running" with each row.
drain: print "ready", wait for a line, work until no order is left that could run; print the ids of those that were run here.
hang: print "running" when the first runner has begun, and wait for ever.
"""

import asyncio
import sys
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from holdfast.job.state import FINAL
from holdfast.table import Handle, TaskService, TaskTable
from tests.table.engines import make_engine
from tests.table.models import Order

#: Longer than a busy machine may keep a process waiting: a lost lease would be a second run, and no fault.
LEASE = 300.0


async def drain(orders: TaskTable[Order], done: list[str]) -> None:
    """Run rows until all have ended."""

    async def charge(order: Order, handle: Handle) -> None:
        await asyncio.sleep(0)
        done.append(order.order_id)
        handle.done(tries=order.tries + 1, receipt=f"token {handle.token}")

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    service = TaskService(orders, charge)
    await service.start(limit=100, concurrency=20, lease=LEASE, interval=0.05)
    while True:
        stats = await orders.stats()
        if sum(stats[state] for state in FINAL) == stats.total:
            break
        await asyncio.sleep(0.2)
    await service.stop()


async def hang(orders: TaskTable[Order]) -> None:
    """Hold what is claimed for ever."""

    async def charge(order: Order, handle: Handle) -> None:
        handle.done(receipt="never stored")
        print("running", order.order_id, flush=True)
        await asyncio.Event().wait()

    await TaskService(orders, charge).run(limit=5, concurrency=5, lease=2.0)


def serve(url: str) -> int:
    """Work as a script of a user's does."""
    orders = TaskTable(Order, make_engine(make_url(url)))

    async def charge(order: Order, handle: Handle) -> None:
        print("running", order.order_id, flush=True)
        handle.done(receipt="served")

    return TaskService(orders, charge).serve(lease=LEASE, interval=0.05)


async def main(url: str, mode: str) -> None:
    """Work as `mode` says."""
    engine: Any = make_engine(make_url(url))
    assert isinstance(engine, AsyncEngine)
    orders = TaskTable(Order, engine)
    done: list[str] = []
    await (drain(orders, done) if mode == "drain" else hang(orders))
    print("\n".join(done), flush=True)
    await orders.close()
    await engine.dispose()


if __name__ == "__main__":
    if sys.argv[2] == "serve":
        sys.exit(serve(sys.argv[1]))
    asyncio.run(main(sys.argv[1], sys.argv[2]))
