"""The history over HTTP: attempts, figures, series, and reports of jobs that ran elsewhere."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from holdfast.chance import IdMaker
from holdfast.clock import ManualClock
from holdfast.connect import make_history
from holdfast.hub.api import make_api
from holdfast.hub.parts import Parts
from holdfast.job.commands import ErrorInfo, Failed
from holdfast.stores.memory import MemoryStore
from holdfast.testing.contract.harness import StoreHarness
from tests.features import feature
from tests.node.remote import info


class Api:
    """The API over a store with a history, as a client sees it; `rig` works behind it."""

    def __init__(self, client: Any, rig: StoreHarness, sync: Callable[[], Awaitable[None]] | None = None) -> None:
        self.client, self.rig, self._sync = client, rig, sync

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request below /api/v1, when the history shows all that the store knows."""
        if self._sync is not None:
            await self._sync()
        content = None if body is None else json.dumps(body).encode()
        answer = await self.client.request(method, f"/api/v1{path}", content=content)
        return answer.status_code, answer.json()

    async def get(self, path: str) -> Any:
        """Read what must be there."""
        status, answer = await self.ask("GET", path)
        assert status == 200, answer
        return answer


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    clock = ManualClock()
    rig = StoreHarness(MemoryStore(clock=clock), clock)
    await rig.open()
    history, workers = make_history(rig.store)
    parts = Parts(store=rig.store, new_id=IdMaker(clock.now), node=info, history=history, workers=workers)
    async with AsyncTestClient(make_api(parts)) as client:
        yield Api(client, rig)
    await rig.close()


async def worked(api: Api) -> None:
    """One job succeeded and one failed for good, both by worker w."""
    await api.rig.make(2, max_attempts=1)
    first, second = await api.rig.claim()
    api.rig.advance(2.0)
    await api.rig.settle(first, duration=2.0)
    await api.rig.settle(second, Failed(ErrorInfo("builtins.ValueError", "no such order", "")))


@feature("H7")
async def test_attempts_of_all_jobs_are_found_by_how_they_ended_and_by_text(api: Api) -> None:
    await worked(api)
    assert len((await api.get("/attempts"))["items"]) == 2
    [row] = (await api.get("/attempts?end=failed&text=such"))["items"]
    assert (row["task"], row["attempt"]["worker"], row["attempt"]["error"]) == ("t", "w", "no such order")
    assert (await api.get("/attempts?worker=nobody"))["items"] == []


@feature("H4")
async def test_attempts_come_in_pages_none_shown_twice(api: Api) -> None:
    await api.rig.make(5)
    await api.rig.claim()
    seen: list[str] = []
    cursor = ""
    while True:
        page = await api.get(f"/attempts?limit=2&cursor={cursor}")
        seen += [row["job"] for row in page["items"]]
        cursor = page["cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == 5


@feature("H8")
async def test_a_worker_has_its_counts_and_its_success_rate(api: Api) -> None:
    await worked(api)
    stats = await api.get("/worker-stats?worker=w")
    assert (stats["total"], stats["succeeded"], stats["failed"], stats["success_rate"]) == (2, 1, 1, 0.5)
    assert stats["avg_duration"] == 2.0
    assert (await api.get("/worker-stats?worker=nobody"))["total"] == 0


@feature("H9")
async def test_the_series_has_a_bucket_for_each_hour_asked(api: Api) -> None:
    await worked(api)
    series = await api.get("/worker-series?hours=3")
    assert [bucket["total"] for bucket in series] == [0, 0, 2]


@pytest.mark.parametrize("hours", [0, 169, -1])
async def test_hours_out_of_reach_are_refused_by_name(api: Api, hours: int) -> None:
    status, problem = await api.ask("GET", f"/worker-series?hours={hours}")
    assert status == 422
    assert "hours" in problem["detail"]


@feature("H10")
async def test_failed_jobs_are_listed_newest_first(api: Api) -> None:
    await worked(api)
    [job] = await api.get("/failed-jobs?worker=w")
    assert job["state"] == "failed"


async def test_queues_tell_their_jobs_and_their_records_apart(api: Api) -> None:
    await worked(api)
    [queue] = await api.get("/queue-stats")
    assert (queue["name"], queue["states"]["succeeded"], queue["records"]["succeeded"]) == ("default", 1, 0)


@feature("H15")
async def test_workers_that_were_never_heard_of_are_offline(api: Api) -> None:
    await api.ask("PUT", "/workers", {"name": "quiet", "enabled": False})
    assert [worker["name"] for worker in await api.get("/offline-workers?silent_for=60")] == ["quiet"]
    assert (await api.ask("GET", "/offline-workers?silent_for=0"))[0] == 422


@feature("H1", "H2", "H6")
async def test_a_job_that_ran_elsewhere_is_recorded_step_by_step(api: Api) -> None:
    now = api.rig.clock.now()
    await api.rig.make(1)
    template = (await api.get("/jobs"))["items"][0] | {"id": "elsewhere-1", "seq": 0}
    assert await api.ask("POST", "/records", {"jobs": [template]}) == (200, {"count": 1})
    update = {"id": "elsewhere-1", "state": "running", "attempt": 1, "worker": "other"}
    assert await api.ask("POST", "/record-statuses", {"updates": [update, update | {"id": "nobody"}]}) == (
        200,
        [True, False],
    )
    report = {
        "job": "elsewhere-1",
        "number": 1,
        "started_at": now,
        "ended_at": now + 1.0,
        "duration": 1.0,
        "end": "succeeded",
    }
    assert await api.ask("POST", "/record-attempts", {"attempts": [report]}) == (200, {"count": 1})
    job = (await api.get("/jobs/elsewhere-1"))["job"]
    assert (job["state"], job["origin"]) == ("succeeded", "external")


@feature("A16")
async def test_a_report_about_a_job_of_the_engine_is_refused(api: Api) -> None:
    [job_id] = await api.rig.make(1)
    report = {"job": job_id, "number": 1, "started_at": 1.0}
    status, problem = await api.ask("POST", "/record-attempts", {"attempts": [report]})
    assert (status, problem["code"]) == (409, "Conflict")


async def test_a_process_without_history_says_so(api: Api) -> None:
    bare = Parts(store=api.rig.store, new_id=IdMaker(api.rig.clock.now), node=info)
    async with AsyncTestClient(make_api(bare)) as client:
        for path in ("attempts", "worker-stats", "offline-workers"):
            answer = await client.get(f"/api/v1/{path}")
            assert (answer.status_code, answer.json()["code"]) == (501, "NoHistory")
