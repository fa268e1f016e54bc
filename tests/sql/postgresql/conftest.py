"""Databases for the tests of PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sql.postgresql.harness import DatabaseHarness, migrate, shared_server, template
from tests.support.servers.postgres import VARIABLE, PostgresServer, programs, running


def need() -> None:
    """Skip where PostgreSQL is not installed; in CI that is a failure."""
    if programs() is None and not os.environ.get(VARIABLE):
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: run scripts/servers")
        pytest.skip("PostgreSQL is not installed: run scripts/servers")


@pytest.fixture(scope="session")
def shared() -> PostgresServer:
    """The server that tests share; not to be stopped."""
    need()
    return shared_server()


@pytest.fixture(scope="session")
def shared_template(shared: PostgresServer) -> str:
    """The name of a database with our tables, of which others are copies."""
    return template()


@pytest.fixture
def server(shared: PostgresServer) -> PostgresServer:
    """The same."""
    return shared


@pytest.fixture
def empty(server: PostgresServer) -> str:
    """The URL of a new database without tables."""
    return server.create_database()


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    """The URL of a new database with our tables; at the end they must not contradict each other."""
    made = server.create_database(template=template())
    yield made
    assert DatabaseHarness(made).faults() == []


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server of the module's own, which syncs its files, and may be killed and started again."""
    need()
    with running() as server:
        yield server


@pytest.fixture
def durable(own_server: PostgresServer) -> Iterator[str]:
    """The URL of a database with our tables on the module's own server."""
    made = own_server.create_database()
    migrate(made)
    yield made
    assert DatabaseHarness(made).faults() == []


@pytest.fixture
async def h(url: str) -> AsyncIterator[DatabaseHarness]:
    """An open store on a steered clock."""
    harness = DatabaseHarness(url)
    await harness.open()
    yield harness
    await harness.close()
