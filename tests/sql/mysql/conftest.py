"""Databases for the tests of MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sql.mysql.harness import DatabaseHarness, MariadbHarness, empty_database, give_back
from tests.support.servers.mariadb import MariaDB, need, shared


@pytest.fixture
def server() -> MariaDB:
    """The server that tests share."""
    return shared()


@pytest.fixture
def database(server: MariaDB) -> Iterator[str]:
    """An empty database of it."""
    name = empty_database()
    yield name
    give_back(name)


@pytest.fixture
async def h() -> AsyncIterator[DatabaseHarness]:
    """An open store on an empty database."""
    need()
    harness = MariadbHarness()
    await harness.open()
    yield harness
    await harness.close()
