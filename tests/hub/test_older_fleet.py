"""The addresses of an older system for workers and queues, exactly: features 4.4, with its weaknesses mended."""

import pytest

from holdfast.hub.scopes import Scope
from holdfast.job.commands import ErrorInfo, Failed
from tests.features import feature
from tests.hub.site import Site

SHOP = {"worker_name": "shop-1", "queue_groups": [{"name": "mail", "concurrency": 5}, {"name": "ledger"}]}


@feature("H11", "HW8", "HW15")
async def test_a_worker_made_by_hand_is_enabled_and_has_its_defaults(every_site: Site) -> None:
    made = (await every_site.do("POST", "/workers", {**SHOP, "default_retry_count": 0, "default_delay": 2}))["worker"]
    assert (made["name"], made["max_attempts"], made["timeout"], made["delay"]) == ("shop-1", 1, 30.0, 2.0)
    assert [(one["name"], one.get("concurrency", 10)) for one in made["queues"]] == [("mail", 5), ("ledger", 10)]
    assert made.get("enabled", True) is True
    await every_site.do("POST", "/workers", {**SHOP, "is_enabled": False})
    assert (await every_site.get("/workers/shop-1"))["enabled"] is False


@feature("H12", "HW9", "HW10")
async def test_a_worker_registers_once_and_beats(every_site: Site) -> None:
    site = every_site
    first = await site.do("POST", "/workers/register", SHOP)
    assert first["message"] == ""
    again = await site.do("POST", "/workers/register", {**SHOP, "default_timeout": 60})
    assert ("skipped" in again["message"], again["worker"]["timeout"]) == (True, 30.0)
    changed = await site.do("POST", "/workers/register", {**SHOP, "default_timeout": 60, "overwrite": True})
    assert changed["worker"]["timeout"] == 60.0
    beat = await site.do("POST", "/workers/shop-1/heartbeat")
    assert (beat["status"], beat["worker_name"]) == ("ok", "shop-1")
    assert (await site.get("/workers/shop-1"))["last_heartbeat_at"] == beat["heartbeat_at"]
    assert (await site.ask("POST", "/workers/none/heartbeat"))[0] == 404


async def test_whoever_may_only_work_replaces_no_configuration(site: Site) -> None:
    await site.do("POST", "/workers", SHOP)
    site.token = site.make("worker", Scope.WORK)
    status, problem = await site.ask("POST", "/workers/register", {**SHOP, "overwrite": True})
    assert (status, "admin" in problem["detail"]) == (403, True)
    assert (await site.ask("POST", "/workers", SHOP))[0] == 403


@feature("H8", "H9")
async def test_a_worker_tells_its_figures_and_its_hours(every_site: Site) -> None:
    site = every_site
    await site.do("POST", "/workers", SHOP)
    stats = (await site.get("/workers/shop-1/stats"))["stats"]
    assert (stats["worker"], stats["total"]) == ("shop-1", 0)
    assert len((await site.get("/workers/shop-1/timeseries"))["timeseries"]) == 24
    assert len((await site.get("/workers/shop-1/timeseries?hours=168"))["timeseries"]) == 168
    assert (await site.ask("GET", "/workers/shop-1/timeseries?hours=169"))[0] == 422
    assert (await site.ask("GET", "/workers/none/stats"))[0] == 404


@feature("HW11", "HW12", "A17")
async def test_queues_of_a_worker_are_counted_and_cleared_on_record(every_site: Site) -> None:
    site = every_site
    queue = site.rig.queue
    await site.define("t")
    await site.do("POST", "/workers", {"worker_name": "shop-1", "queue_groups": [{"name": queue}, {"name": "other"}]})
    for _ in range(4):
        await site.do("POST", "/jobs", {"task": "t"})
    [claim] = await site.rig.claim(1)
    await site.rig.settle(claim, Failed(ErrorInfo("E", "e", ""), retryable=False))
    mine, other = (await site.get("/queues/stats?worker_name=shop-1"))["items"]
    assert (mine["queue_group"], mine["full_name"], mine["pending"], mine["archived"]) == (
        queue,
        f"shop-1:{queue}",
        3,
        1,
    )
    assert (mine["size"], other["size"]) == (3, 0)
    cleared = await site.do("POST", "/queues/clear", {"worker_name": "shop-1", "queue_name": queue})
    assert (cleared["status"], cleared["cleared_queues"], cleared["total_deleted"]) == ("cleared", [queue], 3)
    dead = await site.do("POST", "/queues/clear-dead", {"worker_name": "shop-1"})
    assert (dead["cleared_queues"], dead["total_deleted"]) == ([queue], 1)
    noted = (await site.get("/audit"))["items"]
    assert {"clear_queue", "clear_dead"} <= {one["action"] for one in noted}


REFUSED = {
    "a bad name": ("/workers", {**SHOP, "worker_name": "a b"}, 422),
    "a short name": ("/workers", {**SHOP, "worker_name": "ab"}, 422),
    "no queue": ("/workers", {**SHOP, "queue_groups": []}, 422),
    "a bad queue": ("/workers", {**SHOP, "queue_groups": [{"name": "a b"}]}, 422),
    "no concurrency": ("/workers", {**SHOP, "queue_groups": [{"name": "a", "concurrency": 0}]}, 422),
    "retries below none": ("/workers", {**SHOP, "default_retry_count": -1}, 422),
    "no time": ("/workers", {**SHOP, "default_timeout": 0}, 422),
    "an unknown worker": ("/queues/clear", {"worker_name": "none"}, 404),
    "a queue of others": ("/queues/clear", {"worker_name": "shop-1", "queue_name": "none"}, 422),
    "an unknown field": ("/workers", {**SHOP, "x": 1}, 422),
}


@pytest.mark.parametrize(("path", "body", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_does_not_fit_is_refused_and_named(site: Site, path: str, body: object, status: int) -> None:
    await site.do("POST", "/workers", SHOP)
    found, problem = await site.ask("POST", path, body)
    assert (found, bool(problem["detail"])) == (status, True), problem
    if status == 422:
        assert problem.get("field"), problem


async def test_a_worker_whose_name_ends_like_an_address_is_still_read(site: Site) -> None:
    await site.do("PUT", "/workers", {"name": "a/stats"})
    assert (await site.ask("GET", "/workers/a/b/c"))[0] == 404
    assert (await site.get("/workers"))[0]["name"] == "a/stats"
