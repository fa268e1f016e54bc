"""SQLite beside the ledger, step by step, on other histories than those of the contract suite."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.testing.contract.stateful import store_machine
from tests.contract.test_stateful import FIXED, LONG
from tests.features import feature
from tests.sql.sqlite.harness import SqliteHarness


class OtherHistories(store_machine(SqliteHarness)):  # type: ignore[misc]  # a class made by a function
    """Its name is what the fixed seed is made of."""


@feature("T9", "T16")
def test_sqlite_and_the_ledger_never_differ() -> None:
    run_state_machine_as_test(OtherHistories, settings=settings(FIXED, max_examples=150))


@pytest.mark.soak
def test_sqlite_and_the_ledger_never_differ_over_many_histories() -> None:
    run_state_machine_as_test(OtherHistories, settings=settings(LONG, max_examples=20_000))
