"""Engines on the databases of the tests; apart, so that a process of a test starts without pytest and servers."""

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


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
