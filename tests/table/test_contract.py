"""A task table keeps the contract of a source, on every database."""

from collections.abc import Callable

import pytest

from holdfast.testing.contract import SourceContract
from tests.table.databases import ASYNC, Databases
from tests.table.harness import TableHarness


@pytest.fixture(params=ASYNC)
def source_factory(request: pytest.FixtureRequest, servers: Databases) -> Callable[[], TableHarness]:
    """How to make a fresh task table."""
    driver: str = request.param
    return lambda: TableHarness(lambda: servers.engine(driver))


class TestTaskTable(SourceContract):
    pass
