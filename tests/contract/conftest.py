"""The adapters that the contract suites run against: one line per adapter."""

from collections.abc import Callable
from typing import Final

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract")

from holdfast.clock import ManualClock  # noqa: E402  # the suites' asserts are rewritten before they are imported
from holdfast.stores.memory import MemoryStore  # noqa: E402
from holdfast.testing.contract.harness import StoreHarness  # noqa: E402


def memory() -> StoreHarness:
    """The ledger alone."""
    clock = ManualClock()
    return StoreHarness(MemoryStore(clock=clock), clock)


ADAPTERS: Final[dict[str, Callable[[], StoreHarness]]] = {"memory": memory}


@pytest.fixture(params=list(ADAPTERS.values()), ids=list(ADAPTERS))
def store_factory(request: pytest.FixtureRequest) -> Callable[[], StoreHarness]:
    """How to make a fresh store."""
    factory: Callable[[], StoreHarness] = request.param
    return factory


@pytest.fixture
def source_factory(store_factory: Callable[[], StoreHarness]) -> Callable[[], StoreHarness]:
    """A store is a source too."""
    return store_factory
