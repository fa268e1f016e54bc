"""The databases that task tables are tested on: SQLite files, a private PostgreSQL and a private MariaDB."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.support.servers import mariadb, postgres

#: Name of a database with a driver -> (kind, dialect+driver, whether the engine is async).
DRIVERS: Final = {
    "sqlite": ("sqlite", "sqlite+aiosqlite", True),
    "postgresql": ("postgresql", "postgresql+asyncpg", True),
    "mariadb": ("mariadb", "mysql+asyncmy", True),
    "sqlite sync": ("sqlite", "sqlite+pysqlite", False),
    "psycopg": ("postgresql", "postgresql+psycopg", True),
    "psycopg sync": ("postgresql", "postgresql+psycopg", False),
    "pymysql sync": ("mariadb", "mysql+pymysql", False),
}
ASYNC: Final = ("sqlite", "postgresql", "mariadb")
SYNC: Final = ("sqlite sync", "psycopg sync", "pymysql sync")


_EMPTY_POSTGRES: Final = (
    "DROP SCHEMA IF EXISTS shop CASCADE",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
)
_EMPTY_MARIADB: Final = ("DROP DATABASE IF EXISTS task_tables", "CREATE DATABASE task_tables")


class Databases:
    """Hands out an empty database, one at a time; the servers are started when first asked for, once a process."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._postgres: postgres.PostgresServer | None = None
        self._made = 0

    def url(self, driver: str) -> URL:
        """Return the URL of an empty database. What a server holds for an earlier caller is dropped."""
        kind, scheme, _ = DRIVERS[driver]
        self._made += 1
        if kind == "sqlite":
            return self.file_url(self._folder / f"t{self._made}.db", scheme)
        made = self._new_postgres() if kind == "postgresql" else self._new_mariadb()
        return made.set(drivername=scheme)

    @staticmethod
    def file_url(file: Path, scheme: str = "sqlite+aiosqlite") -> URL:
        """Return the URL of a SQLite file."""
        return URL.create(scheme, database=str(file))

    def _new_postgres(self) -> URL:
        if postgres.programs() is None:
            _absent("PostgreSQL")
        if self._postgres is None:
            self._postgres = self._stack.enter_context(postgres.running(durable=False))
            self._database = make_url(self._postgres.create_database())
        # One database emptied is quicker than a hundred made: each would be a copy of seven megabytes.
        self._empty(self._database.set(drivername="postgresql+psycopg"), _EMPTY_POSTGRES)
        return self._database

    def _new_mariadb(self) -> URL:
        server = mariadb.shared()
        # Without the name of a database, which may not be there yet.
        self._empty(make_url(server.url("")).set(drivername="mysql+pymysql"), _EMPTY_MARIADB)
        return make_url(server.url("task_tables"))

    def _empty(self, url: URL, statements: tuple[str, ...]) -> None:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


def make_engine(url: URL, *, sync: bool = False, **options: Any) -> Engine | AsyncEngine:
    """Return an engine. SQLite files are in WAL mode and not synced."""
    engine: Engine | AsyncEngine = create_engine(url, **options) if sync else create_async_engine(url, **options)
    if url.drivername.startswith("sqlite"):
        event.listen(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, "connect", quick)
    return engine


def quick(connection: Any, _record: Any) -> None:
    """Make a SQLite connection quick: what a crash of the machine would cost is not tested here."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()


def _absent(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed: in CI that is a failure.")
    pytest.skip(f"{what} is not installed")


@contextlib.contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """Give databases; the servers that were started end with the block."""
    with contextlib.ExitStack() as stack:
        yield Databases(folder, stack)
