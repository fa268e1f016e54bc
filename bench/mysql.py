"""The MariaDB store beside bare SQL on the same server, each commit synced. Shown to compare: nothing is promised."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import asyncmy

from bench.report import Figure, interleaved, show
from holdfast.clock import SystemClock
from holdfast.job.commands import QueueWant, Settlement, Succeeded, Want
from holdfast.job.model import NewJob
from holdfast.stores.sql import open_mysql
from tests.support.servers.mariadb import MariaDB

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'  # 100 bytes
JOBS, BATCH, SINGLE = 10_000, 500, 300
#: What a user may expect of one worker process, in jobs a second.
GOAL = 10_000
CALLERS = 100

BARE_TABLES = (
    "CREATE TABLE job (seq BIGINT AUTO_INCREMENT PRIMARY KEY, id VARBINARY(128) NOT NULL, state SMALLINT NOT NULL,"
    " queue VARBINARY(400) NOT NULL, kind VARBINARY(400) NOT NULL, prio SMALLINT NOT NULL, attempt INT NOT NULL,"
    " run_at BIGINT NOT NULL, lease_until BIGINT, worker VARBINARY(400), payload LONGBLOB NOT NULL, UNIQUE KEY (id),"
    " KEY ready (queue, state, prio, run_at, seq)) ENGINE = InnoDB",
    "CREATE TABLE done (seq BIGINT PRIMARY KEY, id VARBINARY(128) NOT NULL, queue VARBINARY(400) NOT NULL,"
    " kind VARBINARY(400) NOT NULL, finished_at BIGINT NOT NULL, payload LONGBLOB NOT NULL, UNIQUE KEY (id),"
    " KEY ended (queue, finished_at)) ENGINE = InnoDB",
)
FIND = (
    "SELECT seq, id, kind, attempt, payload FROM job WHERE queue = 'default' AND state = 0"
    f" ORDER BY prio, run_at, seq LIMIT {BATCH} FOR UPDATE SKIP LOCKED"
)
TAKE = "UPDATE job SET state = 1, attempt = attempt + 1, lease_until = 1, worker = 'w' WHERE seq IN ({})"
MOVE = "INSERT INTO done SELECT seq, id, queue, kind, 1, payload FROM job WHERE seq IN ({})"
ROW = "(%s,0,'default','mail.welcome',0,0,1,%s)"
INSERT = "INSERT INTO job (id, state, queue, kind, prio, attempt, run_at, payload) VALUES "


class Bare:
    """Raw statements on one connection."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server

    async def _connect(self, database: str) -> Any:
        server = self._server
        connection = await asyncmy.connect(unix_socket=str(server.socket), user="root", autocommit=False)
        cursor = connection.cursor()
        for text in ("SET SESSION tx_isolation = 'READ-COMMITTED'", f"CREATE DATABASE {database}", f"USE {database}"):
            await cursor.execute(text)
        for text in BARE_TABLES:
            await cursor.execute(text)
        return connection

    async def drain(self) -> float:
        """Jobs a second: claimed in batches, moved to a history in batches."""
        connection = await self._connect(self._server.new_name())
        cursor = connection.cursor()
        for start in range(0, JOBS, BATCH):
            rows = [value for n in range(start, start + BATCH) for value in (f"job-{n}", PAYLOAD)]
            await cursor.execute(INSERT + ",".join([ROW] * BATCH), rows)
            await connection.commit()
        begin = time.perf_counter()
        for _ in range(0, JOBS, BATCH):
            await cursor.execute(FIND)
            numbers = ",".join(str(row[0]) for row in await cursor.fetchall())
            await cursor.execute(TAKE.format(numbers))
            await connection.commit()
            await cursor.execute(MOVE.format(numbers))
            await cursor.execute(f"DELETE FROM job WHERE seq IN ({numbers}) AND state = 1")
            await connection.commit()
        passed = time.perf_counter() - begin
        await connection.ensure_closed()
        return JOBS / passed

    async def single(self) -> float:
        """Inserts a second, one after the other."""
        connection = await self._connect(self._server.new_name())
        cursor = connection.cursor()
        begin = time.perf_counter()
        for n in range(SINGLE):
            await cursor.execute(INSERT + ROW, (f"job-{n}", PAYLOAD))
            await connection.commit()
        passed = time.perf_counter() - begin
        await connection.ensure_closed()
        return SINGLE / passed


class Ours:
    """The store, one call after the other unless said."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server

    async def _open(self) -> Any:
        name = self._server.new_name()
        connection = await asyncmy.connect(unix_socket=str(self._server.socket), user="root", autocommit=True)
        await connection.cursor().execute(f"CREATE DATABASE {name}")
        await connection.ensure_closed()
        store = open_mysql(self._server.url(name), clock=SystemClock(), auto_migrate=True)
        await store.open()
        return store

    async def _fill(self, store: Any) -> None:
        for start in range(0, JOBS, BATCH):
            some = range(start, start + BATCH)
            await store.enqueue([NewJob(id=f"job-{n:08d}", task="mail.welcome", payload=PAYLOAD) for n in some])

    async def drain(self) -> float:
        """Jobs a second: claimed and settled by one process, everything on."""
        store = await self._open()
        await self._fill(store)
        want = Want(queues=(QueueWant("default", BATCH),), limit=BATCH, instance="bench", worker="bench")
        begin = time.perf_counter()
        for _ in range(0, JOBS, BATCH):
            claims = await store.claim(want)
            await store.settle([Settlement(claim, Succeeded(b"null"), 0.001) for claim in claims.items])
        passed = time.perf_counter() - begin
        await store.close()
        return JOBS / passed

    async def bulk(self) -> float:
        """Jobs a second, enqueued in batches."""
        store = await self._open()
        begin = time.perf_counter()
        await self._fill(store)
        passed = time.perf_counter() - begin
        await store.close()
        return JOBS / passed

    async def single(self, callers: int = 1) -> float:
        """Single enqueues a second, by so many callers at a time."""
        store = await self._open()

        async def caller(name: int) -> None:
            for n in range(SINGLE * 10 // callers if callers > 1 else SINGLE):
                await store.enqueue([NewJob(id=f"{name}-{n}", task="mail.welcome", payload=PAYLOAD)])

        begin = time.perf_counter()
        await asyncio.gather(*(caller(name) for name in range(callers)))
        passed = time.perf_counter() - begin
        await store.close()
        return (SINGLE * 10 if callers > 1 else SINGLE) / passed


def main() -> int:
    """Take all figures; show them."""
    server = MariaDB(durable=True, options=("--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M")).start()
    bare, ours = Bare(server), Ours(server)
    runs: dict[str, Callable[[], float]] = {
        "bare drain": lambda: asyncio.run(bare.drain()),
        "drain": lambda: asyncio.run(ours.drain()),
        "bulk": lambda: asyncio.run(ours.bulk()),
        "bare single": lambda: asyncio.run(bare.single()),
        "single": lambda: asyncio.run(ours.single()),
        "many": lambda: asyncio.run(ours.single(CALLERS)),
    }
    try:
        median = interleaved(runs, rounds=3)
    finally:
        server.remove()
    pairs = (("drain of a backlog", "drain", "bare drain"), ("one enqueue after the other", "single", "bare single"))
    figures = [
        Figure(f"{what} / bare loop", median[run] / median[anchor], 0, 0, f"{median[run]:,.0f} /s", only_shown=True)
        for what, run, anchor in pairs
    ]
    figures += [
        Figure("drain of a backlog / goal", median["drain"] / GOAL, 0, 1, f"goal {GOAL:,} jobs/s", only_shown=True),
        Figure(
            "bulk enqueue / drain", median["bulk"] / median["drain"], 0, 0, f"{median['bulk']:,.0f} /s", only_shown=True
        ),
        Figure(
            f"single enqueues of {CALLERS} callers / one by one",
            median["many"] / median["single"],
            0,
            0,
            f"{median['many']:,.0f} /s",
            only_shown=True,
        ),
    ]
    return show("MariaDB store", figures)


if __name__ == "__main__":
    sys.exit(main())
