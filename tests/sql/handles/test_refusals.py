"""What is no handle."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from holdfast.clock import ManualClock
from holdfast.errors import StoreClosed, UsageError
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


def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = open_sqlite(f"sqlite:///{tmp_path / 'q.db'}", clock=ManualClock())
    with pytest.raises(StoreClosed):
        store.enqueue_within(None, [])
