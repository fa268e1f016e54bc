"""Every adapter keeps the contract of a store."""

from collections.abc import AsyncIterator, Callable

import pytest_asyncio

from holdfast.testing.contract import StoreContract
from holdfast.testing.contract.harness import StoreHarness


class TestStore(StoreContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def h(self, store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
        """Open a fresh store, in the loop of all tests."""
        harness = store_factory()
        await harness.open()
        yield harness
        await harness.close()
