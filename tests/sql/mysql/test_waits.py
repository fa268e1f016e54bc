"""Nobody waits for a transaction of somebody else that ends another job, as long as that may be open."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from holdfast.job.commands import Failed, Retry, Settlement, Succeeded
from holdfast.job.retry import RetryPolicy
from holdfast.testing.contract.harness import ERROR
from tests.sql.mysql.harness import MariadbHarness, ask, asking
from tests.support.servers.mariadb import need

BOUND = 20.0


async def test_who_ends_a_job_anew_in_a_slow_transaction_keeps_nobody_from_ending_others() -> None:
    """The server keeps the id of the first end until it is purged, and looking for duplicates locks beside it."""
    need()
    h = MariadbHarness()
    await h.open()
    store: Any = h.store
    with asking(h.server, h.database) as backup, backup.cursor() as reading:
        for queue in "bc":
            await h.add(id=queue, own_id=True, queue=queue, retry=RetryPolicy(max_attempts=1))
        await h.settle(await h.claim_one(queues=("b",)), Failed(ERROR))
        reading.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")  # nothing is purged while it is open
        reading.execute("SELECT count(*) FROM holdfast_done")
        await h.done(Retry(), "b")
        again = await h.claim_one(queues=("b",))
        other = await h.claim_one("other", queues=("c",))
        async with AsyncExitStack() as slow:
            handle = await slow.enter_async_context(store.transaction())
            await store.settle_within(handle, [Settlement(again, Succeeded(b"1"))])
            async with asyncio.timeout(BOUND):
                await h.settle(other)
    assert {job.state for job in await h.all_jobs()} == {"succeeded"}
    await h.close()


async def test_who_takes_a_free_unique_key_in_a_slow_transaction_keeps_nobody_from_its_neighbours() -> None:
    """The server keeps the entry of whoever had the key before until it is purged, and would lock beside it."""
    need()
    h = MariadbHarness()
    await h.open()
    store: Any = h.store
    with asking(h.server, h.database) as backup, backup.cursor() as reading:
        await h.add(unique="b", queue="b")
        await h.add(unique="d", queue="d")
        reading.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        reading.execute("SELECT count(*) FROM holdfast_job")
        await h.settle(await h.claim_one(queues=("b",)))
        neighbour = await h.claim_one(queues=("d",))
        async with AsyncExitStack() as slow:
            handle = await slow.enter_async_context(store.transaction())
            await store.enqueue_within(handle, [h.new(unique="b", queue="b")])
            async with asyncio.timeout(BOUND):
                await h.add(unique="c", queue="b")
                await h.settle(neighbour)
    assert len(await h.all_jobs()) == 4
    await h.close()


async def test_what_callers_transactions_counted_is_put_together_and_counts_on() -> None:
    """Each has a row of its own; rescues keep the table small, and pass over those that are open."""
    need()
    h = MariadbHarness()
    await h.open()
    store: Any = h.store
    for _ in range(3):
        async with store.transaction() as handle:
            await store.enqueue_within(handle, [h.new()])
    rows = "SELECT shard >= 64, sum(n) FROM holdfast_counter WHERE name = 'pulse' GROUP BY 1 ORDER BY 1"
    assert ask(h.server, h.database, rows)[-1] == (1, 3)
    [(before,)] = ask(h.server, h.database, "SELECT sum(n) FROM holdfast_counter WHERE name = 'pulse'")
    async with store.transaction() as handle, asyncio.timeout(BOUND):
        await store.enqueue_within(handle, [h.new()])
        await h.store.rescue()
        assert ask(h.server, h.database, rows) == [(0, before)]
    [(after,)] = ask(h.server, h.database, "SELECT sum(n) FROM holdfast_counter WHERE name = 'pulse'")
    assert after == before + 1
    await h.close()
