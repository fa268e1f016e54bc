"""Task tables on PostgreSQL beside plain jobs on the same server: the drain of a full queue by one process, handlers that do
nothing. The rows have three business columns."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

from sqlalchemy import String
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.report import Figure, interleaved, show
from holdfast import Holdfast
from holdfast.table import Handle, TaskMixin, TaskService, TaskTable
from tests.support.servers.postgres import running

if TYPE_CHECKING:
    from tests.support.servers.postgres import PostgresServer

ROWS = int(os.environ.get("HOLDFAST_BENCH_ROWS", "10000"))
BATCH = 1_000
CONCURRENCY = 100


class Base(DeclarativeBase):
    """The bench's tables."""


class Order(TaskMixin, Base):
    """A row with three business columns."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(40))
    total: Mapped[int]
    receipt: Mapped[str | None] = mapped_column(String(40))


async def drain_rows(server: PostgresServer, *, columns: bool) -> float:
    """Rows in a second."""
    engine = create_async_engine(make_url(server.create_database()).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    orders = TaskTable(Order, engine)
    for start in range(0, ROWS, BATCH):
        await orders.create([Order(customer="ann", total=start + n) for n in range(BATCH)])

    async def nothing(order: Order, handle: Handle) -> None:
        if columns:
            handle.done(receipt="r")

    begin = time.perf_counter()
    found = await TaskService(orders, nothing).do_once(ROWS, CONCURRENCY)
    passed = time.perf_counter() - begin
    assert len(found.done) == ROWS
    await orders.close()
    await engine.dispose()
    return ROWS / passed


async def drain_jobs(server: PostgresServer) -> float:
    """Jobs in a second."""
    app = Holdfast(server.create_database(), auto_migrate=True)

    @app.task("nothing")
    async def nothing(customer: str, total: int) -> None:
        pass

    await app.open()
    for start in range(0, ROWS, BATCH):
        await nothing.enqueue_many([("ann", start + n) for n in range(BATCH)])
    begin = time.perf_counter()
    found = await app.work_once(ROWS, queues={"default": CONCURRENCY})
    passed = time.perf_counter() - begin
    assert len(found.done) == ROWS
    await app.close()
    return ROWS / passed


def measure() -> list[Figure]:
    """Take the figures."""
    with running(durable=True) as server:
        median = interleaved(
            {
                "jobs": lambda: asyncio.run(drain_jobs(server)),
                "rows": lambda: asyncio.run(drain_rows(server, columns=False)),
                "rows with a column": lambda: asyncio.run(drain_rows(server, columns=True)),
            },
            rounds=3,
        )
    jobs, rows, written = median["jobs"], median["rows"], median["rows with a column"]
    return [
        Figure("drain of a task table / of plain jobs", rows / jobs, 0.4, 0.6, f"{rows:,.0f} / {jobs:,.0f} a second"),
        Figure(
            "the same, each row writing a column",
            written / jobs,
            0.0,
            0.0,
            f"{written:,.0f} / {jobs:,.0f} a second",
            only_shown=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(show("task tables on PostgreSQL", measure()))
