"""Fixtures of the task tables' tests: a fresh database, an engine, models."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.table.databases import ASYNC, Databases, databases


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The databases of this process of pytest."""
    with databases(tmp_path_factory.mktemp("sqlite")) as found:
        yield found


@pytest.fixture(params=ASYNC)
def driver(request: pytest.FixtureRequest) -> str:
    """Each database, through an async engine; a test that wants others parametrizes it."""
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def engine(servers: Databases, driver: str) -> AsyncIterator[Engine | AsyncEngine]:
    """An engine on a database that has the tables of all models, empty."""
    made = servers.engine(driver)
    yield made
    if isinstance(made, AsyncEngine):
        await made.dispose()
    else:
        made.dispose()
