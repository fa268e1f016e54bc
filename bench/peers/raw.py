"""Bare SQL on PostgreSQL, by asyncpg: what a careful hand-written loop does. `python -m bench.peers.raw URL ACTION COUNT`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

import asyncpg
import uvloop

BATCH: Final = 500
BULK: Final = 1_000
PAYLOAD: Final = b'{"user_id":42,"lang":"de","text":"' + b"x" * 64 + b'"}'  # 100 bytes

TABLES: Final = """
DROP TABLE IF EXISTS raw_job, raw_done;
CREATE TABLE raw_job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL DEFAULT 0,
    queue text NOT NULL, kind text NOT NULL, priority int NOT NULL DEFAULT 0, attempt int NOT NULL DEFAULT 0,
    max_attempts int NOT NULL DEFAULT 5, run_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(), lease_until timestamptz, worker_id int, finished_at timestamptz,
    payload jsonb NOT NULL);
CREATE INDEX raw_ready ON raw_job (queue, priority DESC, run_at, id) WHERE state = 0;
CREATE INDEX raw_lease ON raw_job (lease_until) WHERE state = 1;
CREATE TABLE raw_done (LIKE raw_job) PARTITION BY RANGE (finished_at);
CREATE TABLE raw_done_1 PARTITION OF raw_done DEFAULT;
"""
INSERT: Final = "INSERT INTO raw_job (queue, kind, payload) SELECT $1, $2, unnest($3::text[])::jsonb RETURNING id"
ONE: Final = "INSERT INTO raw_job (queue, kind, payload) VALUES ($1, $2, $3::text::jsonb) RETURNING id"
CLAIM: Final = """
UPDATE raw_job SET state = 1, attempt = attempt + 1, lease_until = now() + interval '30 s', worker_id = 1
  FROM (SELECT id FROM raw_job WHERE state = 0 AND queue = 'default' ORDER BY priority DESC, run_at, id LIMIT $1
           FOR UPDATE SKIP LOCKED) AS picked
 WHERE raw_job.id = picked.id RETURNING raw_job.id, kind, attempt, payload
"""
SETTLE: Final = """
WITH gone AS (DELETE FROM raw_job WHERE id = ANY($1::bigint[]) RETURNING *)
INSERT INTO raw_done SELECT id, 2, queue, kind, priority, attempt, max_attempts, run_at, created_at, NULL, worker_id, now(),
       payload FROM gone
"""


async def fill(connection: asyncpg.Connection, count: int) -> float:
    """Insert in bulk; jobs per second."""
    begin = time.perf_counter()
    for _ in range(0, count, BULK):
        await connection.fetch(INSERT, "default", "nothing", [PAYLOAD.decode()] * BULK)
    return count / (time.perf_counter() - begin)


async def drain(connection: asyncpg.Connection, count: int) -> float:
    """Claim and settle `count` jobs, waiting for those that are not there yet; jobs per second."""
    begin, left = time.perf_counter(), count
    while left > 0:
        rows = await connection.fetch(CLAIM, BATCH)
        if rows:
            await connection.execute(SETTLE, [row[0] for row in rows])
            left -= len(rows)
        else:
            await asyncio.sleep(0.001)
    return count / (time.perf_counter() - begin)


async def share(connection: asyncpg.Connection) -> dict[str, float]:
    """Claim and settle until nothing is left, beside others; when the first was claimed and the last settled."""
    began = 0.0
    while rows := await connection.fetch(CLAIM, BATCH):
        began = began or time.time()
        await connection.execute(SETTLE, [row[0] for row in rows])
    return {"began": began or time.time(), "ended": time.time()}


async def single(connection: asyncpg.Connection, count: int) -> float:
    """Insert one by one; jobs per second."""
    begin = time.perf_counter()
    for _ in range(count):
        await connection.fetchval(ONE, "default", "nothing", PAYLOAD.decode())
    return count / (time.perf_counter() - begin)


async def main(url: str, action: str, count: int) -> dict[str, Any]:
    """Do one action; `both` is a producer and a consumer in this process, on a connection each."""
    connection = await asyncpg.connect(url)
    try:
        if action in ("fill", "single", "both"):
            await connection.execute(TABLES)
        if action == "fill":
            return {"rate": await fill(connection, count)}
        if action == "single":
            return {"rate": await single(connection, count)}
        if action == "drain":
            return {"rate": await drain(connection, count)}
        if action == "share":
            return await share(connection)
        other = await asyncpg.connect(url)
        begin = time.perf_counter()
        await asyncio.gather(fill(connection, count), drain(other, count))
        await other.close()
        return {"rate": count / (time.perf_counter() - begin)}
    finally:
        await connection.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
