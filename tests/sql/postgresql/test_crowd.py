"""Two hundred idle workers in twenty real processes: what they ask the server, and what a burst costs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.connect import make_store
from holdfast.job.model import NewJob
from tests.features import feature
from tests.sql.core.fleet import Fleet
from tests.sql.postgresql.conftest import need
from tests.sql.postgresql.harness import migrate
from tests.support.servers.postgres import PostgresServer, running

PROCESSES, SLOTS = 20, 10
#: Seconds for which nothing happens, and how many statements a second each process may send meanwhile.
IDLE, RATE = 60.0, 0.4


@pytest.mark.soak
@feature("T16")
async def test_t35_two_hundred_idle_workers_ask_little_and_share_bursts(tmp_path: Path) -> None:
    """At most two claims a job, in bursts of 1, 10 and 1,000."""
    need()
    with running(settings={"log_statement": "all", "max_connections": "400"}) as server:
        url = server.create_database()
        migrate(url)
        with Fleet(url, tmp_path, PROCESSES, f"work={SLOTS}") as fleet:
            await all_ready(url)
            begun = len(statements(server))
            await asyncio.sleep(IDLE)  # idleness is what is measured
            rate = (len(statements(server)) - begun) / IDLE / PROCESSES
            costs = {jobs: await burst(server, url, jobs, rounds) for jobs, rounds in ((1, 20), (10, 5), (1_000, 2))}
        assert fleet.process.returncode == 0, fleet.log()[-4_000:]
        print(f"\n{rate:.2f} statements a second and process; claims a job, seconds a burst: {costs}")
    assert rate <= RATE
    assert all(claims <= 2.0 for claims, _ in costs.values()), costs


async def all_ready(url: str) -> None:
    """Wait until each process has said that it is ready, and until their first looks are over."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    async with asyncio.timeout(120.0):
        while sum(one.state == "ready" for one in await store.instances()) < PROCESSES:  # noqa: ASYNC110 - others are asked
            await asyncio.sleep(0.5)
    await asyncio.sleep(10.0)  # each has to hear of all others, by a rescue and a beat
    await store.close()


async def burst(server: PostgresServer, url: str, jobs: int, rounds: int) -> tuple[float, float]:
    """Enqueue so many jobs at once, again and again; return claims a job, and seconds until all of a round had ended."""
    store = make_store(url, clock=SystemClock())
    await store.open()
    before, took = claims(server), 0.0
    for number in range(rounds):
        ids = [f"burst-{jobs}-{number}-{place}" for place in range(jobs)]
        at = time.monotonic()
        await store.enqueue([NewJob(id=name, task="shop.note", queue="work", payload=b'{"number":1}') for name in ids])
        for start in range(0, jobs, 500):
            assert all(await store.finished(ids[start : start + 500], 60.0))
        took += time.monotonic() - at
        await asyncio.sleep(1.0)  # until those that were woken last have looked
    await store.close()
    return round((claims(server) - before) / jobs / rounds, 2), round(took / rounds, 3)


def statements(server: PostgresServer) -> list[str]:
    """The statements that the server was sent."""
    lines = (server.folder / "log").read_text().splitlines()
    return [line for line in lines if "LOG:  execute" in line or "LOG:  statement:" in line]


def claims(server: PostgresServer) -> int:
    """How many of them were claims."""
    return sum("picked AS MATERIALIZED" in line for line in (server.folder / "log").read_text().splitlines())
