"""A server that is killed, restarted and frozen, and connections that are ended, while whole worker processes work."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import OutcomeUnknown, StoreUnavailable
from holdfast.job.commands import OnDuplicate
from holdfast.job.model import NewJob
from holdfast.job.state import End, State
from holdfast.stores.sql import open_mysql
from tests.features import feature
from tests.sql.core.fleet import Fleet
from tests.sql.core.fleets import enqueue, finished, notes
from tests.sql.mysql.harness import ask
from tests.support.servers.mariadb import MariaDB

BOUND = 60.0


def end_connections(server: MariaDB, database: str) -> None:
    """End all connections to a database."""
    for (number,) in ask(
        server, None, f"SELECT id FROM information_schema.processlist WHERE db = '{database}' AND command <> 'Killed'"
    ):
        try:
            ask(server, None, f"KILL {number}")
        except Exception as error:
            if error.args[0] != 1094:  # it has ended by itself
                raise


@feature("TW3")
async def test_a_store_works_on_when_its_server_was_killed_and_is_back(own_server: MariaDB, durable: str) -> None:
    store = open_mysql(durable, clock=SystemClock(), patience=0.1)
    await store.open()
    await store.enqueue([NewJob(id="before", task="t", own_id=True)])
    own_server.kill()
    with pytest.raises(StoreUnavailable, match="Nothing was stored"):
        await store.enqueue([NewJob(id="during", task="t", own_id=True)])
    own_server.start()
    async with asyncio.timeout(BOUND):
        await store.enqueue([NewJob(id="after", task="t", own_id=True)])
    found = await store.jobs(["before", "during", "after"])
    assert [job is not None for job in found] == [True, False, True]
    await store.close()


@feature("TW3")
async def test_what_was_acknowledged_outlives_the_server(own_server: MariaDB, durable: str) -> None:
    store = open_mysql(durable, clock=SystemClock())
    await store.open()
    acknowledged: list[str] = []
    unknown: list[str] = []

    async def produce(name: int) -> None:
        for number in range(200):
            job = NewJob(id=f"{name}-{number}", task="t", own_id=True)
            try:
                [answer] = await store.enqueue([job], on_duplicate=OnDuplicate.REPORT)
            except (StoreUnavailable, OutcomeUnknown):
                unknown.append(job.id)
            else:
                acknowledged.append(answer.id)

    producing = asyncio.gather(*(produce(name) for name in range(5)))
    for turn in range(1, 4):
        while len(acknowledged) < turn * 100 and not producing.done():  # noqa: ASYNC110 - told by no event
            await asyncio.sleep(0.01)
        own_server.kill()
        own_server.start()
    async with asyncio.timeout(BOUND):
        await producing
    stored = {job.id for job in await store.jobs(acknowledged + unknown) if job is not None}
    await store.close()
    assert set(acknowledged) <= stored
    assert len(acknowledged) + len(unknown) == 1_000


@feature("TW3", "G18")
@pytest.mark.parametrize("turns", [4, pytest.param(100, marks=pytest.mark.soak)])
async def test_workers_lose_no_job_to_a_server_that_is_killed_again_and_again(
    own_server: MariaDB, durable: str, tmp_path: Path, turns: int
) -> None:
    jobs = turns * 150
    made = notes(jobs, "shop.slow")
    await enqueue(durable, made)
    database = durable.rpartition("/")[2]
    with Fleet(durable, tmp_path, 3, "work=8", lease="5s") as fleet:
        for turn in range(1, turns + 1):
            fleet.wait_for("done", turn * jobs // (turns + 1))
            if turn % 2:
                own_server.kill()
                own_server.start()
            else:
                end_connections(own_server, database)
        ended = await finished(durable, [job.id for job in made])
        assert len(ended) == jobs, fleet.log()[-4_000:]
    assert {job.state for job in ended} == {State.SUCCEEDED}
    for job in ended:
        assert [one.number for one in job.attempts] == list(range(1, job.attempt + 1))
        assert job.last is not None
        assert job.last.end is End.SUCCEEDED
        assert {one.end for one in job.past} <= {End.LOST, End.STALE, End.RELEASED}
    began = Counter((number, attempt) for number, attempt, _ in fleet.lines("began"))
    assert max(began.values()) == 1, "an attempt began twice"
    assert {number for number, _, _ in fleet.lines("done")} == {str(number) for number in range(jobs)}


@feature("TW3")
async def test_a_server_that_freezes_for_longer_than_a_lease_loses_no_job(
    own_server: MariaDB, durable: str, tmp_path: Path
) -> None:
    made = notes(200, "shop.slow")
    await enqueue(durable, made)
    with Fleet(durable, tmp_path, 2, "work=8", lease="1s") as fleet:
        fleet.wait_for("done", 50)
        own_server.freeze()
        await asyncio.sleep(2.0)  # the fault itself: two leases pass
        own_server.thaw()
        ended = await finished(durable, [job.id for job in made])
        assert len(ended) == 200, fleet.log()[-4_000:]
    assert {job.state for job in ended} == {State.SUCCEEDED}
    began = Counter((number, attempt) for number, attempt, _ in fleet.lines("began"))
    assert max(began.values()) == 1, "an attempt began twice"
