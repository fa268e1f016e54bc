"""What tests of the node share."""

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract")

from tests.node.remote import RemoteHarness  # noqa: E402  # asserts are rewritten before they are imported


@pytest.fixture
def store_factory() -> Callable[[], RemoteHarness]:
    """How to make a fresh store behind a server."""
    return RemoteHarness


@pytest.fixture
def source_factory(store_factory: Callable[[], RemoteHarness]) -> Callable[[], RemoteHarness]:
    """A store is a source too."""
    return store_factory
