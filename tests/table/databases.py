"""The databases that task tables are tested on: SQLite files, a private PostgreSQL and a private MariaDB."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.servers import mariadb, postgres
from tests.table.engines import make_engine
from tests.table.models import Base

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


_EMPTY: Final = {
    "postgresql": ("DROP SCHEMA IF EXISTS shop CASCADE", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public"),
    "mariadb": ("DROP DATABASE IF EXISTS task_tables", "CREATE DATABASE task_tables", "USE task_tables"),
}


class Databases:
    """Hands out a database, one at a time; the servers are started when first asked for, once a process."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._made = 0
        self._template: Path | None = None
        #: One engine for each server, for what is done between tests; and whether its database has the empty tables.
        self._keepers: dict[str, Engine] = {}
        self._has_tables: dict[str, bool] = {}
        self._engines: dict[str, Engine | AsyncEngine] = {}

    def url(self, driver: str) -> URL:
        """Return the URL of an empty database. What a server holds for an earlier caller is dropped."""
        kind, scheme, _ = DRIVERS[driver]
        if kind == "sqlite":
            return self.file_url(self._new_file(), scheme)
        self._has_tables[kind] = False
        keeper = self._keeper(kind)
        # One database emptied is quicker than a hundred made: on PostgreSQL each would be a copy of seven megabytes.
        self._run(keeper, _EMPTY[kind])
        return self._known_as(keeper, scheme)

    def with_tables(self, driver: str) -> URL:
        """Return the URL of a database that has the tables of `models`, empty, and nothing else."""
        kind, scheme, _ = DRIVERS[driver]
        if kind == "sqlite":
            self._template = self._template or self._made_template()
            file = self._folder / f"shared-{scheme}.db"
            for one in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
                one.unlink(missing_ok=True)
            return self.file_url(Path(shutil.copy(self._template, file)), scheme)
        keeper = self._keeper(kind)
        if self._has_tables.get(kind):
            with keeper.connect() as connection:
                for table in reversed(Base.metadata.sorted_tables):
                    connection.execute(table.delete())
        else:
            url = self.url(driver)
            Base.metadata.create_all(keeper.execution_options(isolation_level="READ COMMITTED"))
            self._has_tables[kind] = True
            assert url == self._known_as(keeper, scheme)
        return self._known_as(keeper, scheme)

    def engine(self, driver: str) -> Engine | AsyncEngine:
        """Return an engine on such a database: the same for all tests, so that a statement is compiled once.

        Who uses it disposes of it: its connections belong to a loop.
        """
        url = self.with_tables(driver)
        if driver not in self._engines:
            self._engines[driver] = make_engine(url, sync=not DRIVERS[driver][2])
        return self._engines[driver]

    @staticmethod
    def file_url(file: Path, scheme: str = "sqlite+aiosqlite") -> URL:
        """Return the URL of a SQLite file."""
        return URL.create(scheme, database=str(file))

    def _new_file(self) -> Path:
        self._made += 1
        return self._folder / f"t{self._made}.db"

    def _made_template(self) -> Path:
        file = self._folder / "template.db"
        engine = make_engine(self.file_url(file, "sqlite+pysqlite"), sync=True)
        assert isinstance(engine, Engine)
        Base.metadata.create_all(engine)
        engine.dispose()
        return file

    @staticmethod
    def _known_as(keeper: Engine, scheme: str) -> URL:
        return keeper.url.set(drivername=scheme, query={} if scheme.startswith("mysql") else keeper.url.query)

    def _keeper(self, kind: str) -> Engine:
        if kind not in self._keepers:
            url = self._new_postgres() if kind == "postgresql" else self._new_mariadb()
            self._keepers[kind] = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
            self._stack.callback(self._keepers[kind].dispose)
        return self._keepers[kind]

    def _new_postgres(self) -> URL:
        if postgres.programs() is None:
            _absent("PostgreSQL")
        server = self._stack.enter_context(postgres.running(durable=False))
        return make_url(server.create_database()).set(drivername="postgresql+psycopg")

    @staticmethod
    def _new_mariadb() -> URL:
        server = mariadb.shared()
        # Without the name of a database, which may not be there yet.
        engine = create_engine(make_url(server.url("")).set(drivername="mysql+pymysql"), isolation_level="AUTOCOMMIT")
        Databases._run(engine, ["CREATE DATABASE IF NOT EXISTS task_tables"])
        engine.dispose()
        return make_url(server.url("task_tables")).set(drivername="mysql+pymysql")

    @staticmethod
    def _run(engine: Engine, statements: Sequence[str]) -> None:
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


def _absent(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed: in CI that is a failure.")
    pytest.skip(f"{what} is not installed")


@contextlib.contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """Give databases; the servers that were started end with the block."""
    with contextlib.ExitStack() as stack:
        yield Databases(folder, stack)
