"""Databases for the tests of MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sql.mysql.harness import DatabaseHarness, MariadbHarness, give_back
from tests.support.servers.mariadb import MariaDB, need, shared


@pytest.fixture
def server() -> MariaDB:
    """The server that tests share."""
    return shared()


@pytest.fixture
async def url(server: MariaDB) -> AsyncIterator[str]:
    """The URL of an empty database of it with our tables, for other processes; at the end they must not contradict each
    other."""
    harness = MariadbHarness()
    await harness.open()
    await harness.store.close()
    yield server.url(harness.database)
    faults = harness.faults()
    give_back(harness.database)
    assert faults == []


@pytest.fixture
async def h() -> AsyncIterator[DatabaseHarness]:
    """An open store on an empty database."""
    need()
    harness = MariadbHarness()
    await harness.open()
    yield harness
    await harness.close()
