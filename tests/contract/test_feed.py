"""Every store tells an exporter what has ended."""

from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from holdfast.testing.contract.feed import FeedContract
from holdfast.testing.contract.harness import StoreHarness


class TestFeed(FeedContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def h(self, store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
        """Open a fresh store, in the loop of all tests."""
        harness = store_factory()
        await harness.open()
        yield harness
        assert harness.faults() == []
        await harness.close()
