"""The fixtures of the contract suites, one parameter per adapter."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

pytest.register_assert_rewrite("holdfast.testing.contract")

from holdfast.testing.contract.harness import StoreHarness  # noqa: E402  # asserts are rewritten before they are imported
from tests.contract.adapters import ADAPTERS  # noqa: E402
from tests.sql.postgresql.warm import kept  # noqa: E402

_SUITES = ("test_store.py", "test_source.py", "test_feed.py")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the suites in one loop, so that connections to servers can be lent from test to test."""
    for item in items:
        if item.path.parent == _HERE and item.path.name in _SUITES:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def lent_connections() -> AsyncIterator[None]:
    """Keep the connections of one test for the next."""
    async with kept():
        yield


@pytest.fixture(params=list(ADAPTERS.values()), ids=list(ADAPTERS))
def store_factory(request: pytest.FixtureRequest) -> Callable[[], StoreHarness]:
    """How to make a fresh store."""
    factory: Callable[[], StoreHarness] = request.param
    return factory


@pytest.fixture
def source_factory(store_factory: Callable[[], StoreHarness]) -> Callable[[], StoreHarness]:
    """A store is a source too."""
    return store_factory
