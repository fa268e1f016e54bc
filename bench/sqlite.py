"""The SQLite store beside bare SQL on the same file system: whole lives of jobs, with `synchronous=FULL`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from bench.report import Figure, interleaved, show
from holdfast.clock import SystemClock
from holdfast.job.commands import QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import NewJob
from holdfast.stores.sql import open_sqlite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdfast.stores.sql.store import SqlStore

#: A folder on the disk to measure; else the system's place for temporary files.
PLACE = os.environ.get("HOLDFAST_BENCH_DIR")
PAYLOAD = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'  # 100 bytes
LIVES = {100: 20_000, 1_000: 50_000}
SINGLE = 500
CALLERS, CONCURRENT = 100, 5_000

BARE_TABLE = """
CREATE TABLE job (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL,
    priority INTEGER NOT NULL, attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL, run_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL, lease_until INTEGER, worker_id TEXT, finished_at INTEGER, payload BLOB NOT NULL);
CREATE INDEX job_ready ON job (queue, priority, run_at, id) WHERE state = 0;
CREATE INDEX job_lease ON job (lease_until) WHERE state = 1;
"""
INSERT = (
    "INSERT INTO job (state, queue, kind, priority, attempt, max_attempts, run_at, created_at, payload)"
    " VALUES (0, 'default', 'mail.welcome', 0, 0, 5, ?, ?, ?)"
)
CLAIM = (
    "UPDATE job SET state = 1, attempt = attempt + 1, lease_until = ?, worker_id = 'w' WHERE id IN (SELECT id FROM job"
    " WHERE state = 0 AND queue = 'default' ORDER BY priority, run_at, id LIMIT ?) RETURNING id, kind, attempt, payload"
)


def bare(batch: int, count: int) -> Callable[[], float]:
    """Lives in a second: insert, claim and delete by one connection, a transaction each."""

    def run() -> float:
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            connection = sqlite3.connect(f"{folder}/bare.db", isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(BARE_TABLE)
            begin = time.perf_counter()
            for _ in range(count // batch):
                now = time.time_ns()
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT, [(now, now, PAYLOAD)] * batch)
                connection.execute("COMMIT")
            for _ in range(count // batch):
                connection.execute("BEGIN IMMEDIATE")
                rows = connection.execute(CLAIM, (time.time_ns(), batch)).fetchall()
                connection.execute("COMMIT")
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("DELETE FROM job WHERE id = ? AND state = 1", [row[:1] for row in rows])
                connection.execute("COMMIT")
            passed = time.perf_counter() - begin
            connection.close()
            return count / passed

    return run


def ours(batch: int, count: int) -> Callable[[], float]:
    """Lives in a second through the store: enqueue, claim and settle, each answered before the next is sent."""

    async def lives(store: SqlStore) -> None:
        want = Want(queues=(QueueWant("default", batch),), limit=batch, instance="bench", worker="bench")
        for start in range(0, count, batch):
            await store.enqueue(
                [NewJob(id=f"job-{start + n:08d}", task="mail.welcome", payload=PAYLOAD) for n in range(batch)]
            )
        for _ in range(0, count, batch):
            claims = await store.claim(want)
            await store.settle([Settlement(claim, Succeeded(b"null"), 0.001) for claim in claims.items])

    return lambda: asyncio.run(on_store(lives, count))


def concurrent() -> float:
    """Single enqueues in a second by CALLERS callers at a time, over the store's own sharing of transactions."""

    async def work(store: SqlStore) -> None:
        async def caller(name: int) -> None:
            for n in range(CONCURRENT // CALLERS):
                await store.enqueue([NewJob(id=f"{name}-{n}", task="mail.welcome", payload=PAYLOAD)])

        await asyncio.gather(*(caller(name) for name in range(CALLERS)))

    return asyncio.run(on_store(work, CONCURRENT))


async def on_store(work: Callable[[SqlStore], Awaitable[None]], count: int) -> float:
    """What `work` does in a second on a fresh file."""
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        store = open_sqlite(f"sqlite:///{folder}/queue.db", clock=SystemClock())
        await store.open()
        begin = time.perf_counter()
        await work(store)
        passed = time.perf_counter() - begin
        await store.close()
        return count / passed


def main() -> int:
    """Take all figures; show them."""
    runs: dict[str, Callable[[], float]] = {}
    for batch, count in LIVES.items():
        runs[f"bare {batch}"], runs[f"ours {batch}"] = bare(batch, count), ours(batch, count)
    runs |= {"bare 1": bare(1, SINGLE), "ours 1": ours(1, SINGLE), "concurrent": concurrent}
    ours(100, 1_000)()  # what is imported and compiled once is no part of the first round
    median = interleaved(runs, rounds=3)
    figures = [
        Figure(
            f"lives at batches of {batch} / bare loop",
            median[f"ours {batch}"] / median[f"bare {batch}"],
            0.35 if batch == 100 else 0.15,
            0.45,
            f"{median[f'ours {batch}']:,.0f} / {median[f'bare {batch}']:,.0f} jobs/s",
        )
        for batch in (100, 1_000, 1)
    ]
    figures.append(
        Figure(
            f"single enqueues of {CALLERS} callers / lives one by one",
            median["concurrent"] / median["ours 1"],
            3.0,
            10.0,
            f"{median['concurrent']:,.0f} /s",
        )
    )
    return show("SQLite store", figures)


if __name__ == "__main__":
    sys.exit(main())
