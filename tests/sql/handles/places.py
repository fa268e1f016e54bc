"""Databases that a store and its user share."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import asyncpg

from holdfast.testing.contract.harness import StoreHarness
from tests.sql.mysql.harness import DatabaseHarness as MysqlDatabase
from tests.sql.mysql.harness import ask, empty_database, give_back
from tests.sql.postgresql import harness as postgres
from tests.sql.postgresql.harness import DatabaseHarness as PostgresDatabase
from tests.sql.postgresql.harness import shared_server
from tests.sql.sqlite.harness import FileHarness
from tests.support.servers.mariadb import shared

ORDERS = "CREATE TABLE IF NOT EXISTS orders (name VARCHAR(100))"


class Place(ABC):
    """A database with a user's table, and how to reach it."""

    file = url = name = ""
    login: dict[str, Any] = {}  # noqa: RUF012 - each MySQL place has one of its own

    @abstractmethod
    def store(self) -> StoreHarness:
        """Return a store on it."""

    @abstractmethod
    def alchemy(self, driver: str) -> str:
        """Return SQLAlchemy's URL of it."""

    @abstractmethod
    async def make_orders(self) -> None:
        """Make the user's table."""

    @abstractmethod
    async def orders(self) -> list[str]:
        """What is committed in the user's table."""

    @abstractmethod
    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Do a statement on a connection of one's own, and commit it."""

    def end(self) -> None:  # noqa: B027 - files go with their folder
        """Let it go."""


class SqlitePlace(Place):
    """A file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = str(folder / f"{name}.db")

    def store(self) -> StoreHarness:
        return FileHarness(Path(self.file))

    def alchemy(self, driver: str) -> str:
        return f"{driver}:///{self.file}"

    async def make_orders(self) -> None:
        await self.ask(ORDERS)

    async def orders(self) -> list[str]:
        return [row[0] for row in await self.ask("SELECT name FROM orders")]

    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.file)
        try:
            found = connection.execute(sql).fetchall()
            connection.commit()
            return found
        finally:
            connection.close()


class PostgresPlace(Place):
    """A database of the shared server, with our tables unless it is to be bare."""

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare
        self.url = shared_server().create_database() if bare else postgres.empty_database()

    def end(self) -> None:
        if not self._bare:
            postgres.give_back(self.url)

    def store(self) -> StoreHarness:
        return PostgresDatabase(self.url, auto_migrate=True)

    def alchemy(self, driver: str) -> str:
        return self.url.replace("postgresql:", f"{driver}:")

    async def make_orders(self) -> None:
        await self.ask(ORDERS)

    async def orders(self) -> list[str]:
        return [row[0] for row in await self.ask("SELECT name FROM orders")]

    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()


class MysqlPlace(Place):
    """A database of the shared MariaDB."""

    def __init__(self) -> None:
        self.name = empty_database()
        self.login = shared().login()

    def store(self) -> StoreHarness:
        return MysqlDatabase(shared(), self.name)

    def alchemy(self, driver: str) -> str:
        if socket := self.login.get("unix_socket"):
            return f"{driver}://root@/{self.name}?unix_socket={socket}"
        return shared().url(self.name).replace("mysql:", f"{driver}:")

    async def make_orders(self) -> None:
        ask(shared(), self.name, ORDERS)

    async def orders(self) -> list[str]:
        return [row[0] for row in ask(shared(), self.name, "SELECT name FROM orders")]

    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return ask(shared(), self.name, sql)

    def drop(self, table: str) -> None:
        """Drop a table of the user's."""
        ask(shared(), self.name, f"DROP TABLE IF EXISTS {table}")

    def end(self) -> None:
        self.drop("orders")
        give_back(self.name)
