"""What the suites share: the fixtures that open a harness for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing.contract.harness import SourceHarness, StoreHarness

feature = pytest.mark.feature


@pytest.mark.asyncio
class SourceSuite:
    """Tests of a `Source`. The adapter supplies the fixture `source_factory`."""

    @pytest_asyncio.fixture
    async def h(self, source_factory: Callable[[], SourceHarness[Any]]) -> AsyncIterator[SourceHarness[Any]]:
        """Open a fresh source."""
        harness = source_factory()
        await harness.open()
        yield harness
        await harness.close()


@pytest.mark.asyncio
class StoreSuite:
    """Tests of a `Store`. The adapter supplies the fixture `store_factory`."""

    @pytest_asyncio.fixture
    async def h(self, store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
        """Open a fresh store."""
        harness = store_factory()
        await harness.open()
        yield harness
        await harness.close()
