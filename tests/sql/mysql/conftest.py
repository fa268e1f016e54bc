"""Databases for the tests of MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sql.mysql.harness import DatabaseHarness, MariadbHarness, ask, give_back
from tests.support.servers.mariadb import MariaDB, need, shared


@pytest.fixture
def server() -> MariaDB:
    """The server that tests share."""
    return shared()


@pytest.fixture
def empty(server: MariaDB) -> Iterator[str]:
    """The URL of a new database without tables."""
    name = server.new_name()
    ask(server, None, f"CREATE DATABASE {name}")
    yield server.url(name)
    ask(server, None, f"DROP DATABASE {name}")


@pytest.fixture
async def url(server: MariaDB) -> AsyncIterator[str]:
    """The URL of an empty database of it with our tables, for other processes; at the end they must not contradict each
    other."""
    harness = MariadbHarness()
    await harness.open()
    await harness.store.close()
    yield server.url(harness.database)
    faults = DatabaseHarness.faults(harness)
    give_back(harness.database)
    assert faults == []


@pytest.fixture(scope="module")
def own_server() -> Iterator[MariaDB]:
    """A server of the module's own, which syncs each commit, and may be killed and started again."""
    need()
    server = MariaDB(durable=True)
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def durable(own_server: MariaDB) -> AsyncIterator[str]:
    """The URL of a database with our tables on that server; at the end they must not contradict each other."""
    name = own_server.new_name()
    ask(own_server, None, f"CREATE DATABASE {name}")
    harness = DatabaseHarness(own_server, name)
    await harness.open()
    await harness.close()
    yield own_server.url(name)
    assert harness.faults() == []


@pytest.fixture
async def h() -> AsyncIterator[DatabaseHarness]:
    """An open store on an empty database."""
    need()
    harness = MariadbHarness()
    await harness.open()
    yield harness
    await harness.close()
