"""Somebody else has written into the tables."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from holdfast.testing.contract.harness import StoreHarness
from tests.sql.core.damage import CASES
from tests.sql.mysql.harness import MariadbHarness


@pytest.fixture
async def h() -> AsyncIterator[StoreHarness]:
    harness = MariadbHarness()
    await harness.open()
    yield harness
    faults = harness.faults()
    await harness.close()
    assert faults == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
async def test_a_row_that_can_not_be_read_stops_nothing(
    h: StoreHarness, case: Callable[[StoreHarness], Coroutine[Any, Any, None]]
) -> None:
    await case(h)
