"""Acceptance scenarios over HTTP, the same on every store (A16): workers, tasks of an older system, series, bad input."""

from itertools import pairwise
from typing import Any

import pytest

from holdfast.hub.scopes import Scope
from holdfast.job.commands import ErrorInfo, Failed
from tests.features import feature
from tests.hub.site import Site


@feature("A13", "A16", "H14", "H15")
async def test_a13_a_worker_is_registered_and_heard_of_and_falls_silent(every_site: Site) -> None:
    site = every_site
    await site.do("PUT", "/workers", {"name": "mailer", "queues": [{"name": site.rig.queue}]})
    names = [one["name"] for one in await site.get("/offline-workers")]
    assert names == ["mailer"]  # never heard of
    assert site.parts.workers is not None
    assert await site.parts.workers.update_heartbeat("mailer", site.clock.now())
    assert await site.get("/offline-workers?silent_for=60") == []
    assert (await site.get("/workers/mailer"))["last_heartbeat_at"] == pytest.approx(site.clock.now(), abs=1.0)
    site.clock.advance(61.0)
    assert [one["name"] for one in await site.get("/offline-workers?silent_for=60")] == ["mailer"]


async def posted(site: Site, count: int = 3, **more: Any) -> list[str]:
    await site.define("mailer:" + site.rig.queue)
    await site.do("PUT", "/workers", {"name": "mailer", "queues": [{"name": site.rig.queue}], "max_attempts": 1})
    body = {"worker_name": "mailer", "queue": site.rig.queue, "payload": {"to": "ann"}, **more}
    return [(await site.do("POST", "/tasks", body))["task_id"] for _ in range(count)]


@feature("A14", "A16", "H1", "H3", "H4", "H5", "H10", "HW1", "HW5", "HW6", "HW7")
async def test_a14_tasks_are_posted_listed_read_replayed_and_retried_in_a_batch(every_site: Site) -> None:
    site, rig = every_site, every_site.rig
    ids = await posted(site, 5, priority="critical")
    claims = await rig.claim(4)
    await rig.settle(claims[0])
    for claim in claims[1:3]:
        await rig.settle(claim, Failed(ErrorInfo("builtins.ValueError", "no such user", "")))

    listed = await site.get("/tasks?status=fail&worker_name=w")
    assert (listed["total"], {one["id"] for one in listed["items"]}) == (2, {claims[1].id, claims[2].id})
    assert [one["id"] for one in (await site.get("/tasks?limit=2&offset=1"))["items"]] == ids[::-1][1:3]
    assert (await site.get(f"/tasks?queue={rig.queue}&status=pending"))["total"] == 1
    read = await site.get(f"/tasks/{claims[1].id}")
    assert (read["item"]["priority"], read["item"]["state"]) == (10, "failed")
    assert [(one["number"], one["end"], one["error"]) for one in read["attempts"]] == [(1, "failed", "no such user")]

    replayed = await site.do("POST", f"/tasks/{claims[0].id}/replay", {"delay": 60})
    job = (await site.get(f"/jobs/{replayed['new_task_id']}"))["job"]
    assert (job["replay_of"], job["payload"], job["state"]) == (claims[0].id, {"to": "ann"}, "scheduled")
    status, problem = await site.ask("POST", f"/tasks/{claims[3].id}/replay")
    assert (status, "it is running" in problem["detail"]) == (409, True)
    assert (await site.ask("POST", "/tasks/none/replay"))[0] == 404
    assert (await site.ask("POST", f"/tasks/{claims[0].id}/replay"))[0] == 409  # it was, once

    preview = await site.do("POST", "/tasks/batch-retry", {"worker_name": "w", "preview": True})
    assert (preview["total_retried"], len(preview["results"])) == (0, 2)
    batch = await site.do("POST", "/tasks/batch-retry", {"worker_name": "w"})
    assert batch["total_retried"] == len(batch["new_task_ids"]) == 2
    again = await site.do("POST", "/tasks/batch-retry", {"worker_name": "w"})
    assert again["total_retried"] == 0
    mixed = await site.do("POST", "/tasks/batch-retry", {"task_ids": [claims[1].id, claims[3].id, "none"]})
    assert [one["done"] for one in mixed["results"]] == [False, False, False]
    assert all(one["why"] for one in mixed["results"])


@feature("A15", "A16", "H9")
async def test_a15_the_series_is_filled_with_zeros_and_adds_up(every_site: Site) -> None:
    site, rig = every_site, every_site.rig
    await posted(site, 3)
    claims = await rig.claim(3)
    site.clock.advance(2.0)
    await rig.settle(claims[0], duration=2.0)
    await rig.settle(claims[1], duration=4.0)
    await rig.settle(claims[2], Failed(ErrorInfo("E", "broke", "")))
    for hours in (24, 168):
        series = await site.get(f"/worker-series?hours={hours}")
        assert len(series) == hours
        assert [one["at"] % 3_600 for one in series] == [0] * hours
        assert [two["at"] - one["at"] for one, two in pairwise(series)] == [3_600] * (hours - 1)
        assert sum(one["total"] for one in series) == 3
        assert (series[-1]["succeeded"], series[-1]["failed"]) == (2, 1)
        assert series[-1]["avg_duration"] == pytest.approx(3.0)


@feature("A16")
async def test_reports_of_attempts_that_ran_elsewhere_are_one_row_each(every_site: Site) -> None:
    site = every_site
    record = {
        "seq": 0, "id": "far-1", "task": "t", "queue": "q", "state": "queued", "priority": 0, "run_at": 1.0, "retry": {},
        "timeout": None, "key": None, "on_wait": "hold", "sticky": None, "unique": None, "unique_window": None, "tags": [],
        "replay_of": None, "replayed_by": None, "origin": "external", "created_at": 1.0, "queued_at": None, "updated_at": 1.0,
        "finished_at": None, "deleted_at": None, "paused_by": "", "cancel": None, "pod": None, "pod_epoch": 0, "attempt": 0,
        "token": 0, "generation": 0, "failures": 0, "losses": 0, "crashes": 0, "snoozes": 0, "releases": 0, "suspect": False,
        "attempts": [],
    }  # fmt: skip
    await site.do("POST", "/records", {"jobs": [record]})
    now = site.clock.now()
    report = {"attempt": 1, "status": "running", "started_at": now, "worker_name": "far"}
    assert (await site.do("POST", "/tasks/far-1/report-attempt", report))["item"]["state"] == "running"
    done = {**report, "status": "success", "finished_at": now + 1.5}
    for _ in range(2):  # a report may come twice
        assert (await site.do("POST", "/tasks/far-1/report-attempt", done))["item"]["state"] == "succeeded"
    [attempt] = (await site.get("/tasks/far-1"))["attempts"]
    assert (attempt["end"], attempt["worker"]) == ("succeeded", "far")
    assert attempt["duration"] == pytest.approx(1.5)
    assert (await site.ask("POST", "/tasks/none/report-attempt", report))[0] == 404
    assert (await site.ask("POST", "/tasks/far-1/report-attempt", {**report, "status": "dead"}))[0] == 422


#: What a caller may get wrong -> status and field.
BAD: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/jobs/none", None, 404, ""),
    ("GET", "/nowhere", None, 404, ""),
    ("PUT", "/jobs", None, 405, ""),
    ("GET", "/jobs?state=done", None, 422, "state"),
    ("GET", "/statistics?by=colour", None, 422, "by"),
    ("GET", "/jobs?order=size", None, 422, "order"),
    ("GET", "/jobs?order=finished&cursor=12", None, 422, "cursor"),
    ("POST", "/jobs", {"task": "unknown"}, 422, "task"),
    ("PUT", "/workers", {"name": "w", "queues": [{"name": "q", "concurrency": 0}]}, 422, "queues"),
    ("GET", "/jobs?limit=x", None, 422, "limit"),
    ("GET", "/jobs?limit=5000", None, 422, "limit"),
    ("GET", "/jobs?cursor=abc", None, 422, "cursor"),
    ("GET", "/worker-series?hours=0", None, 422, "hours"),
    ("GET", "/offline-workers?silent_for=-1", None, 422, "silent_for"),
    ("POST", "/jobs", {"task": "t", "priority": 1_000}, 422, "priority"),
    ("POST", "/jobs", {"task": "a b"}, 422, "task"),
    ("POST", "/jobs", {"task": "t", "queue": ""}, 422, "queue"),
    ("POST", "/jobs", {"task": "t", "colour": 1}, 422, "colour"),
    ("POST", "/jobs", {"task": 7}, 422, "task"),
    ("POST", "/jobs", {"task": "t", "payload": {"x": "a\x00"}}, 422, "payload.x"),
    ("POST", "/job-actions", {"action": {"type": "explode"}, "ids": ["a"]}, 422, "action.type"),
    ("POST", "/job-actions", {"action": {"type": "cancel"}}, 422, ""),
    ("POST", "/queue-clear", {"queue": "none"}, 404, ""),
    ("POST", "/tasks", {"worker_name": "none", "queue": "q", "payload": {}}, 404, "worker_name"),
    ("POST", "/tasks", {"worker_name": "w", "queue": "other", "payload": {}}, 422, "queue"),
    ("POST", "/tasks", {"worker_name": "off", "queue": "q", "payload": {}}, 409, "worker_name"),
    ("POST", "/tasks", {"worker_name": "w", "queue": "q", "payload": {}, "task_id": "a/b"}, 422, "task_id"),
    ("POST", "/tasks", {"worker_name": "w", "queue": "q", "payload": {}, "priority": "urgent"}, 422, "priority"),
    ("POST", "/tasks/batch-retry", {"status": "running"}, 422, "status"),
    ("POST", "/tasks/batch-retry", {"limit": 1_001}, 422, "limit"),
    ("POST", "/session-links", {"scopes": []}, 422, "scopes"),
    ("POST", "/session-links", {"scopes": ["root"]}, 422, "scopes[0]"),
    ("POST", "/import", {"jobs": [], "epoch": -1}, 422, "epoch"),
]


async def test_bad_input_is_refused_with_the_field_that_is_to_blame(site: Site) -> None:
    await site.define("t")
    for name, enabled in (("w", True), ("off", False)):
        await site.do("PUT", "/workers", {"name": name, "queues": [{"name": "q"}], "enabled": enabled})
    for method, path, body, status, field in BAD:
        found, problem = await site.ask(method, path, body)
        assert (found, problem["status"], problem["field"]) == (status, status, field), (path, body, problem)
        assert problem["title"]
        assert problem["detail"]


async def test_a_token_that_ended_or_lacks_the_scope_is_told_apart(site: Site) -> None:
    now = site.clock.now()
    site.token = site.tokens.make("short", (Scope.READ,), now=now, expires_at=now + 10)
    assert (await site.ask("GET", "/stats"))[0] == 200
    status, problem = await site.ask("PATCH", "/queues/q", {"create": True})
    assert (status, "scope operate" in problem["detail"]) == (403, True)
    site.clock.advance(10.0)
    assert (await site.ask("GET", "/stats"))[0] == 401
