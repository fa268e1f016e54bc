"""Every adapter keeps the contract of a source."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from holdfast.testing.contract import SourceContract
from holdfast.testing.contract.harness import SourceHarness


class TestSource(SourceContract):
    @pytest_asyncio.fixture(loop_scope="session")
    async def h(self, source_factory: Callable[[], SourceHarness[Any]]) -> AsyncIterator[SourceHarness[Any]]:
        """Open a fresh source, in the loop of all tests."""
        harness = source_factory()
        await harness.open()
        yield harness
        await harness.close()
