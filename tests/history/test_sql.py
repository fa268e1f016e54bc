"""The history of SQL stores keeps the contract."""

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_history")

from holdfast.histories.sql import SqlJobs, SqlWorkers  # noqa: E402  # the suites' asserts are rewritten before they are imported
from holdfast.testing.contract_history import (  # noqa: E402
    HistoryHarness,
    JobRepositoryContract,
    WorkerRepositoryContract,
)
from tests.contract.adapters import ADAPTERS  # noqa: E402
from tests.sql.mysql.harness import MariadbHarness  # noqa: E402
from tests.sql.sqlite.harness import SqliteHarness  # noqa: E402


class SqlHarness(HistoryHarness):
    """A store on SQL, and the history of it."""

    def __init__(self, store: SqliteHarness | MariadbHarness) -> None:
        super().__init__(store, SqlJobs(store.store), SqlWorkers(store.store))

    async def close(self) -> None:
        assert self.store.faults() == []
        await super().close()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def history_factory(request: pytest.FixtureRequest) -> Callable[[], HistoryHarness]:
    make = ADAPTERS[request.param]
    return lambda: SqlHarness(make())  # type: ignore[arg-type]  # all three have a SqlStore


class TestSql(JobRepositoryContract, WorkerRepositoryContract):
    pass
