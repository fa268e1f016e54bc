"""`holdfast hub --history clickhouse://…` as a process that is killed while it exports, over PostgreSQL with slow writers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.clock import ManualClock, SystemClock
from holdfast.connect import feed_of, make_store, open_history
from holdfast.histories.clickhouse import embedded
from holdfast.job.commands import Settlement, Succeeded
from holdfast.job.model import NewJob
from holdfast.testing.contract.harness import StoreHarness
from tests.clickhouse.harness import SERVER, Engine, fresh_database
from tests.features import feature
from tests.node.processes import ROOT, environment
from tests.sql.postgresql.harness import shared_server, template
from tests.support.clickhouse_http import FakeClickHouseHttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(bool(SERVER), reason="a server that others may use is not disturbed"),
]


class Hub:
    """A hub in a process of its own."""

    def __init__(self, store: str, history: str) -> None:
        words = ["hub", "--url", store, "--history", history, "--port", "0", "--metrics-port", "0", "--json"]
        self._words = [sys.executable, "-m", "holdfast", *words]

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self._words, cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(60.0):
            self.info: Any = json.loads(await self.process.stdout.readline())

    async def end(self, number: int) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60.0):
            return await self.process.wait()


@asynccontextmanager
async def surroundings() -> AsyncIterator[tuple[StoreHarness, FakeClickHouseHttp, Hub, Any]]:
    """A store, a ClickHouse, a hub that is to be started, and the history as this process sees it."""
    url = shared_server().create_database(template=template())
    rig = StoreHarness(make_store(url, clock=SystemClock()), ManualClock())
    front, database = FakeClickHouseHttp(embedded.acquire(Engine.start())), fresh_database()
    await front.start()
    await rig.store.open()
    own: Any = open_history(
        f"chdb:{Engine.start()}?database={database}", store=None, workers=None, now=rig.store.now  # type: ignore[arg-type]
    )  # fmt: skip
    hub = Hub(url, f"clickhouse://127.0.0.1:{front.port}/{database}?timeout=5s")
    try:
        yield rig, front, hub, own
    finally:
        await hub.end(signal.SIGKILL)
        await own.client.execute(f"DROP DATABASE IF EXISTS `{database}`")
        await own.close()
        await rig.store.close()
        await front.stop()
        embedded.release()


async def settled(rig: StoreHarness, tag: str, count: int) -> set[str]:
    ids = [f"{tag}-{number}" for number in range(count)]
    await rig.store.enqueue([NewJob(id=job_id, task="t", queue=tag) for job_id in ids])
    claims = await rig.claim(count, queues=(tag,))
    await rig.store.settle([Settlement(claim, Succeeded(b"1")) for claim in claims])
    return set(ids)


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(60.0):
        while not await look():  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.02)


@feature("H17")
@pytest.mark.parametrize("table", [pytest.param("attempt", marks=pytest.mark.soak), "job"])
async def test_a_hub_that_is_killed_in_the_middle_of_an_export_goes_on_with_nothing_lost_and_nothing_twice(
    table: str,
) -> None:
    async with surroundings() as (rig, front, hub, own), AsyncExitStack() as slowest, AsyncExitStack() as slow:
        store: Any = rig.store
        feed = feed_of(rig.store)
        assert feed is not None
        made = await settled(rig, "before", 300)
        await hub.start()
        await until(lambda: _none_waits(feed))
        killed = asyncio.Event()

        def kill(said: str) -> bool:
            if f"_{table}" in said and "INSERT" in said:
                hub.process.kill()  # what it sent is stored; it hears nothing of it any more
                killed.set()
                return True
            return False

        made |= await settled(rig, "slow", 2)
        for tag, stack in (("slowest", slowest), ("slower", slow)):
            await rig.store.enqueue([NewJob(id=tag, task="t", queue=tag)])
            claim = await rig.claim_one(queues=(tag,))
            transaction = await stack.enter_async_context(store.transaction())
            await store.settle_within(transaction, [Settlement(claim, Succeeded(b"1"))])
            made |= {tag}
        front.lose_next = kill
        made |= await settled(rig, "during", 200)
        await slow.aclose()  # an open transaction holds the export back
        await slowest.aclose()
        await asyncio.wait_for(killed.wait(), 60.0)
        assert await hub.end(signal.SIGKILL) == -signal.SIGKILL
        await front.stop()
        made |= await settled(rig, "away", 50)
        await hub.start()  # before ClickHouse is back
        made |= await settled(rig, "after", 50)
        await front.start()
        await until(lambda: _none_waits(feed))
        assert await hub.end(signal.SIGTERM) == 0
        await own.open()
        rows = await own.client.query(own.tables.named("SELECT id FROM {job} FINAL WHERE gone = 0"))
        attempts = await own.client.query(own.tables.named("SELECT job FROM {attempt} FINAL WHERE gone = 0"))
        [[hours]] = await own.client.query(own.tables.named("SELECT sum(n) FROM {hour} FINAL"))
        [[blocks]] = await own.client.query(own.tables.named("SELECT sum(n) FROM {block} FINAL"))
    assert sorted(name for (name,) in rows) == sorted(made)
    assert sorted(name for (name,) in attempts) == sorted(made)
    assert (int(hours), int(blocks)) == (len(made), len(made))


async def _none_waits(feed: Any) -> bool:
    state = await feed.export_state()
    return bool(state.on and not state.waiting)
