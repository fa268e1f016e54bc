"""A16: the routes of the history are the same over every history, which the HTTP layer is given and knows nothing of.

These are the node's own tests of the routes, over the ledger (memory, journal), the tables of each database, and ClickHouse.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from holdfast.chance import IdMaker
from holdfast.connect import make_history
from holdfast.hub.api import make_api
from holdfast.hub.parts import Parts
from holdfast.testing.contract_history import HistoryHarness
from tests.clickhouse.harness import embedded_history
from tests.contract.adapters import ADAPTERS, MemoryHarness
from tests.features import feature
from tests.node import test_api_history
from tests.node.remote import info
from tests.node.test_api_history import Api, worked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=[*ADAPTERS, "clickhouse"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """The API over a store whose history is of this kind."""
    behind: HistoryHarness
    if request.param == "clickhouse":
        behind = embedded_history(MemoryHarness())
    else:
        store = ADAPTERS[request.param]()
        jobs, of_store = make_history(store.store)
        assert jobs is not None
        assert of_store is not None
        behind = HistoryHarness(store, jobs, of_store)
    rig = behind.store
    parts = Parts(
        store=rig.store, new_id=IdMaker(rig.clock.now), node=info, history=behind.jobs, workers=behind.workers
    )
    async with AsyncExitStack() as stack:
        await behind.open()
        stack.push_async_callback(behind.close)
        # In the loop of the store, which its connections are bound to; Litestar's own test client has one of its own.
        served: Any = make_api(parts)
        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://testserver.local")
        )
        yield Api(client, rig, behind.sync)


def suite() -> dict[str, Any]:
    """The node's tests of the history, by name."""
    named = {name: test for name, test in vars(test_api_history).items() if name.startswith("test_")}
    assert len(named) >= 10, "the tests of the history have moved"
    return named


globals().update({f"test_a16_{name.removeprefix('test_')}": test for name, test in suite().items()})


@feature("A16")
async def test_a16_statistics_and_series_are_told_by_hours_and_by_days(api: Api) -> None:
    await worked(api)
    for reach in ("hours=24", "days=7"):
        [whole] = await api.get(f"/statistics?{reach}")
        assert (whole["total"], whole["succeeded"], whole["gave_up"], whole["success_rate"]) == (2, 1, 1, 0.5)
        assert whole["running"]["mean"] == 2.0
        points = await api.get(f"/series?{reach}&span=day" if "days" in reach else f"/series?{reach}")
        assert (len(points), points[-1]["total"]) == (7 if "days" in reach else 24, 2)
    assert (await api.ask("GET", "/statistics?days=0"))[0] == 422


@feature("A16")
async def test_a16_a_job_is_found_by_its_id_and_in_lists_after_it_has_ended(api: Api) -> None:
    await worked(api)
    jobs = (await api.get("/jobs"))["items"]
    assert {job["state"] for job in jobs} == {"succeeded", "failed"}
    for job in jobs:
        found = await api.get(f"/jobs/{job['id']}")
        assert found["job"]["state"] == job["state"]


@feature("A16")
async def test_a16_workers_are_configured_read_and_deleted(api: Api) -> None:
    status, saved = await api.ask("PUT", "/workers", {"name": "w1", "delay": 2.0})
    assert (status, saved["delay"]) == (200, 2.0)
    assert [worker["name"] for worker in await api.get("/workers")] == ["w1"]
    assert (await api.ask("DELETE", "/workers/w1"))[0] == 200
    assert await api.get("/workers") == []
    assert (await api.ask("DELETE", "/workers/w1"))[0] == 404
