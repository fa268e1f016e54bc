"""Stores on SQL databases: one contract, one schema, three dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.stores.sql.store import SqlStore


def open_sqlite(url: str, *, clock: Clock, **options: Any) -> SqlStore:
    """Return the store of a SQLite file, not opened yet. `url`: sqlite:///relative.db or sqlite:////absolute.db."""
    from holdfast.stores.sql.sqlite import make_sqlite

    return make_sqlite(url, clock=clock, **options)


def open_postgresql(url: str, *, clock: Clock, **options: Any) -> SqlStore:
    """Return the store of a PostgreSQL database, not opened yet. `url`: postgresql://user:password@host:port/database."""
    from holdfast.stores.sql.postgresql import make_postgresql

    return make_postgresql(url, clock=clock, **options)


def open_mysql(url: str, *, clock: Clock, **options: Any) -> SqlStore:
    """Return the store of a MySQL or MariaDB database, not opened yet. `url`: mysql://user:password@host:port/database."""
    from holdfast.stores.sql.mysql import make_mysql

    return make_mysql(url, clock=clock, **options)
