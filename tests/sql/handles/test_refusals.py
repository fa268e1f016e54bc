"""What is no handle."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from holdfast.clock import ManualClock
from holdfast.errors import StoreClosed, UsageError
from holdfast.job.model import NewJob
from holdfast.stores.sql import open_sqlite
from holdfast.stores.sql.handles import handle_of
from tests.features import feature


@feature("T10")
@pytest.mark.parametrize("tx", [None, 5, "sqlite://", object(), create_engine])
def test_what_is_no_connection_is_refused_with_what_would_be(tx: Any) -> None:
    with pytest.raises(UsageError, match="expected a SQLAlchemy Session"):
        handle_of(tx, "sqlite")


@feature("T10")
def test_an_engine_is_no_transaction() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(UsageError, match="Engine"):
        handle_of(engine, "sqlite")
    engine.dispose()


@feature("T10")
def test_a_connection_to_another_kind_of_database_is_refused() -> None:
    engine = create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(UsageError, match=r"own database \(postgresql\), found a sqlite"),
    ):
        handle_of(connection, "postgresql")
    engine.dispose()


@feature("T10")
@pytest.mark.parametrize("wrong", ["closed for good", "closed connection", "no bind", "ended", "ended connection"])
async def test_a_handle_that_sqlalchemy_refuses_is_refused_and_nothing_is_stored(tmp_path: Path, wrong: str) -> None:
    store = open_sqlite(f"sqlite:///{tmp_path / 'q.db'}", clock=ManualClock())
    await store.open()
    engine = create_engine(f"sqlite:///{tmp_path / 'q.db'}")
    connection = engine.connect()
    session = Session(connection, close_resets_only=wrong != "closed for good")
    if wrong == "closed for good":
        session.close()
    elif wrong == "closed connection":
        connection.close()
    elif wrong == "no bind":
        session = Session()
    with ExitStack() as stack:
        tx: Any = session
        if wrong == "ended":
            stack.enter_context(session.begin()).rollback()
        elif wrong == "ended connection":
            tx = connection
            stack.enter_context(connection.begin()).rollback()
        with pytest.raises(UsageError, match="found one that SQLAlchemy refuses"):
            store.enqueue_within(tx, [NewJob(id="a", task="t")])
    session.close()
    connection.close()
    engine.dispose()
    assert await store.jobs(["a"]) == [None]
    await store.close()


@feature("T10")
@pytest.mark.parametrize("kind", ["for good", "never opened"])
async def test_an_async_handle_that_sqlalchemy_refuses_is_refused(tmp_path: Path, kind: str) -> None:
    store = open_sqlite(f"sqlite:///{tmp_path / 'q.db'}", clock=ManualClock())
    await store.open()
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'q.db'}")
    session = AsyncSession(engine, close_resets_only=False)
    await session.close()
    tx = session if kind == "for good" else engine.connect()
    with pytest.raises(UsageError, match="found one that SQLAlchemy refuses"):
        await store.enqueue_within(tx, [NewJob(id="a", task="t")])
    await engine.dispose()
    await store.close()


def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = open_sqlite(f"sqlite:///{tmp_path / 'q.db'}", clock=ManualClock())
    with pytest.raises(StoreClosed):
        store.enqueue_within(None, [])
