"""The history in ClickHouse keeps the contract, over every kind of store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_history")

from holdfast.testing.contract_history import (  # noqa: E402  # the suites' asserts are rewritten before they are imported
    JobRepositoryContract,
    WorkerRepositoryContract,
)
from tests.clickhouse.harness import ClickhouseHarness, embedded_history  # noqa: E402
from tests.contract.adapters import ADAPTERS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=["memory", "journal"])
def history_factory(request: pytest.FixtureRequest) -> Callable[[], ClickhouseHarness]:
    make = ADAPTERS[request.param]
    return lambda: embedded_history(make())


class TestEmbedded(JobRepositoryContract, WorkerRepositoryContract):
    pass
