"""The history in ClickHouse keeps the contract, over every kind of store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_history")

from holdfast.job.commands import JobFilter, Page  # noqa: E402
from holdfast.job.state import State  # noqa: E402
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


@pytest.mark.asyncio
async def test_a_page_shows_each_job_once_and_as_it_is_now_while_older_versions_are_still_there() -> None:
    h = embedded_history(ADAPTERS["memory"]())
    await h.open()
    await h.history.client.execute("SYSTEM STOP MERGES")
    try:
        await h.record("x", state=State.FAILED, queue="a")
        h.store.advance(5.0)
        await h.record("x", state=State.FAILED, queue="a", priority=7)
        [[versions]] = await h.rows("SELECT count() FROM {job}")
        page = await h.jobs.list(JobFilter(states=(State.FAILED,)), Page(limit=10))
    finally:
        await h.history.client.execute("SYSTEM START MERGES")
        await h.close()
    assert versions == 2
    assert [(job.id, job.priority) for job in page.items] == [("x", 7)]
