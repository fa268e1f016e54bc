"""Every store tells an exporter what has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from holdfast.job.commands import Claim, Settlement, Succeeded
from holdfast.job.model import Job
from holdfast.testing.contract.feed import FeedContract, feed, told
from holdfast.testing.contract.harness import StoreHarness
from tests.contract.adapters import ADAPTERS


class TestFeed(FeedContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def h(self, store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
        """Open a fresh store, in the loop of all tests."""
        harness = store_factory()
        await harness.open()
        yield harness
        assert harness.faults() == []
        await harness.close()


@pytest.mark.parametrize("store_factory", [ADAPTERS["postgresql"], ADAPTERS["mysql"]], ids=["postgresql", "mysql"])
class TestCommitOrder:
    """Where several may write at once, what becomes visible late has lower numbers than what was exported long before."""

    async def test_two_slow_writers_lose_nothing_to_a_quick_one(
        self, store_factory: Callable[[], StoreHarness]
    ) -> None:
        h = store_factory()
        await h.open()
        store: Any = h.store
        await feed(h).start_export()
        for queue in "abcd":
            await h.add(queue=queue)
        first, second, third, fourth = [await h.claim_one(queues=(queue,)) for queue in "abcd"]
        seen: list[str] = []
        async with AsyncExitStack() as slowest, AsyncExitStack() as slow:
            await store.settle_within(await slowest.enter_async_context(store.transaction()), [done(first)])
            await store.settle_within(await slow.enter_async_context(store.transaction()), [done(second)])
            await h.settle(third)
            seen += await told(h)
            await slow.aclose()
            seen += await told(h)
            await h.settle(fourth)
            seen += await told(h)
            await slowest.aclose()
            seen += await told(h)
        waiting = (await feed(h).export_state()).waiting
        await h.close()
        assert sorted(seen) == sorted(one.id for one in (first, second, third, fourth))
        assert waiting == 0

    async def test_one_who_begins_before_it_is_switched_on_and_commits_after_is_told_as_well(
        self, store_factory: Callable[[], StoreHarness]
    ) -> None:
        h = store_factory()
        await h.open()
        store: Any = h.store
        job = await h.add()
        claim = await h.claim_one()
        async with AsyncExitStack() as slow:
            await store.settle_within(await slow.enter_async_context(store.transaction()), [done(claim)])
            switching = asyncio.create_task(feed(h).start_export())
            await asyncio.sleep(0)  # it may have to wait for the slow one
            await slow.aclose()
            await switching
        seen = set(await told(h))
        await h.close()
        assert seen == {job.id}


def done(claim: Claim[Job]) -> Settlement[Job]:
    return Settlement(claim, Succeeded(b"1"))
