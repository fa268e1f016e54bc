"""The fixtures of the contract suites, one parameter per adapter."""

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract")

from holdfast.testing.contract.harness import StoreHarness  # noqa: E402  # asserts are rewritten before they are imported
from tests.contract.adapters import ADAPTERS  # noqa: E402


@pytest.fixture(params=list(ADAPTERS.values()), ids=list(ADAPTERS))
def store_factory(request: pytest.FixtureRequest) -> Callable[[], StoreHarness]:
    """How to make a fresh store."""
    factory: Callable[[], StoreHarness] = request.param
    return factory


@pytest.fixture
def source_factory(store_factory: Callable[[], StoreHarness]) -> Callable[[], StoreHarness]:
    """A store is a source too."""
    return store_factory
