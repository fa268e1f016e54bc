"""Who waits for whose rows: beats and settles of a busy process must not stop each other."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import asyncpg
import pytest

from holdfast.job import commands as c
from holdfast.stores.sql.upkeep import YOUNG
from holdfast.testing.contract.harness import LEASE
from holdfast.worker.leases import MARGIN
from tests.sql.postgresql.harness import DatabaseHarness

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"


async def until_waiting(connection: asyncpg.Connection, count: int) -> None:
    """Return when so many wait for a lock."""
    async with asyncio.timeout(60):
        while await connection.fetchval(_WAITING) < count:  # noqa: ASYNC110 - a lock has no event
            await asyncio.sleep(0.005)


def test_a_worker_has_stopped_its_handlers_before_a_lease_ends_that_a_beat_left_as_it_was() -> None:
    assert 1 - MARGIN <= YOUNG / 10


async def test_a_beat_does_not_wait_for_the_settle_of_what_was_just_claimed(h: DatabaseHarness) -> None:
    """Measured: they waited for each other until the server saw a deadlock, a second in which a worker settled nothing."""
    await h.add_many(2)
    await h.beat()
    claims = await h.claim(2)
    other = await asyncpg.connect(h.url)
    try:
        async with other.transaction(), asyncio.timeout(20):
            await other.execute("SELECT FROM holdfast_job FOR UPDATE")  # as a settle that is under way
            for slots in (0, 7):  # its record is as it was, and changed
                held = (await h.beat(slots=slots)).held
                assert {one.id for one in held} == {claim.id for claim in claims}
    finally:
        await other.close()


async def test_a_beat_extends_what_is_not_young_any_more(h: DatabaseHarness) -> None:
    await h.beat()
    old, young = [await h.add() for _ in range(2)]
    await h.claim(1)
    h.advance(LEASE * 0.2)
    await h.claim(1)
    for slots in (0, 7):
        assert {one.id for one in (await h.beat(slots=slots)).held} == {old.id, young.id}
    h.advance(LEASE * 0.9)
    assert (await h.beat()).held
    assert (await h.store.rescue()).lost == 0


async def test_a_settle_in_any_order_and_a_beat_lock_jobs_in_the_same_order(
    h: DatabaseHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the server would end one of them for a deadlock, after a second, and the driver would send it again."""
    driver: Any = h.store._driver
    asked = Mock(wraps=driver.meaning)  # what an error means is asked before something is sent again
    monkeypatch.setattr(driver, "meaning", asked)
    await h.add_many(2)
    await h.beat()
    first, second = await h.claim(2)
    h.advance(LEASE / 2)
    other = await asyncpg.connect(h.url)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM holdfast_job WHERE id = $1 FOR UPDATE", first.id)
            beating = asyncio.create_task(h.beat())
            await until_waiting(other, 1)
            settling = asyncio.create_task(
                h.store.settle([c.Settlement(claim, c.Succeeded(b"1"), 0.1) for claim in (second, first)])
            )
            await until_waiting(other, 2)
        await asyncio.gather(beating, settling)
        assert not asked.called
    finally:
        await other.close()
