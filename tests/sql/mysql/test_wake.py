"""What one process learns of what others did, by looking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from holdfast.job.commands import Beat, Settlement, Succeeded
from holdfast.job.model import Instance
from holdfast.job.state import State
from holdfast.stores.sql.mysql import POLL_MAX, MysqlStore, Watch
from holdfast.stores.wakeups import Signal
from tests.features import feature
from tests.sql.mysql.harness import DatabaseHarness

#: Seconds of real time; only keep a broken wait from hanging.
BOUND = 60.0


@pytest.fixture
async def other(h: DatabaseHarness) -> AsyncIterator[DatabaseHarness]:
    """A second store on the same database."""
    second = DatabaseHarness(h.server, h.database, h.clock)
    await second.open()
    yield second
    await second.close()


@feature("T22")
async def test_a_wait_is_woken_by_work_that_another_process_made(h: DatabaseHarness, other: DatabaseHarness) -> None:
    answer = await h.wanted()
    waiting = asyncio.create_task(h.store.wait([h.queue], answer.cursor, BOUND))
    while not await h.store.wait([h.queue], answer.cursor, 0.05):  # until it has looked for the first time
        pass
    answer = await h.wanted()
    assert await waiting
    waiting = asyncio.create_task(h.store.wait([h.queue], answer.cursor, BOUND))
    await other.add()
    assert await waiting is True
    assert len(await h.claim()) == 1


@feature("T28")
async def test_a_wait_for_the_end_of_a_job_is_told_by_another_process(
    h: DatabaseHarness, other: DatabaseHarness
) -> None:
    job = await h.add()
    waiting = asyncio.create_task(h.store.finished([job.id], BOUND))
    claim = await other.claim_one()
    await other.store.settle([Settlement(claim, Succeeded(b"1"))])
    [ended] = await waiting
    assert ended.state is State.SUCCEEDED


async def test_the_longer_nothing_comes_the_more_rarely_is_looked() -> None:
    looks: list[float] = []
    loop = asyncio.get_running_loop()

    async def look() -> int:
        looks.append(loop.time())
        return 7

    watch, work = Watch(look), Signal()
    await watch.start(work, Signal(), set())
    assert await watch.wait(work, work.count, BOUND) is True  # the first look may be of something new
    assert await watch.wait(work, work.count, 3.0) is False
    await watch.stop()
    pauses = [later - earlier for earlier, later in pairwise(looks)]
    assert len(looks) <= 10
    assert max(pauses) >= POLL_MAX / 2


@feature("B3")
async def test_a_heart_beats_in_a_thread_of_its_own_with_a_connection_of_its_own(h: DatabaseHarness) -> None:
    job = await h.add()
    await h.claim_one("i1")
    assert isinstance(h.store, MysqlStore)
    source = h.store.beat_source()

    async def beat() -> list[str]:
        signals = await source.heartbeat(Beat(instance=Instance(id="i1", worker="w"), lease=30.0))
        await source.close()
        return [held.id for held in signals.held]

    assert await asyncio.to_thread(lambda: asyncio.run(beat())) == [job.id]
