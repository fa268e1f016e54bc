"""Workers steered and statistics read over HTTP, the same on every store."""

from itertools import pairwise
from typing import Any

import pytest

from holdfast.job.commands import ErrorInfo, Failed
from holdfast.job.model import InstanceState
from tests.features import feature
from tests.hub.site import Site


@feature("A13", "H11", "H14", "H15", "HW8", "HW10")
async def test_a_worker_that_beats_is_online_is_steered_and_falls_silent(every_site: Site) -> None:
    site, rig = every_site, every_site.rig
    await rig.beat("i1", worker="mailer", state=InstanceState.READY, host="box", pid=7)
    [worker] = [one for one in await site.get("/workers") if one["name"] == "mailer"]
    assert worker["last_heartbeat_at"] == pytest.approx(site.clock.now(), abs=1.0)
    assert await site.get("/offline-workers?silent_for=60") == []
    [instance] = [one for one in await site.get("/instances") if one["id"] == "i1"]
    assert (instance["host"], instance["pid"], instance["state"]) == ("box", 7, "ready")

    share = {"name": "mail", "concurrency": 20, "weight": 3}
    changed = await site.do("PATCH", "/workers/mailer", {"queues": [share], "enabled": False})
    assert (changed["queues"], changed["enabled"]) == ([share], False)
    signals = await rig.beat("i1", worker="mailer", state=InstanceState.READY)
    assert signals.config is not None
    assert (signals.enabled, signals.config.queues[0].concurrency) == (False, 20)
    await site.do("PATCH", "/workers/mailer", {"drain": True, "enabled": True})
    assert (await rig.beat("i1", worker="mailer", state=InstanceState.READY)).drain is True
    assert (await site.get("/workers/mailer"))["queues"] == [share]  # what was not named stays

    site.clock.advance(61.0)
    assert [one["name"] for one in await site.get("/offline-workers?silent_for=60")] == ["mailer"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"queues": [{"name": "mail", "concurrency": 0}]}, "concurrency"),
        ({"queues": [{"name": "mail", "weight": 1_001}]}, "weight"),
        ({"queues": [{"name": "mail"}, {"name": "mail"}]}, "once"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"delay": -1}, "delay"),
        ({"enable": True}, "enable"),
    ],
)
async def test_a_change_that_can_not_be_names_the_field(site: Site, body: dict[str, Any], field: str) -> None:
    await site.do("PUT", "/workers", {"name": "mailer"})
    status, problem = await site.ask("PATCH", "/workers/mailer", body)
    assert status in (400, 422)
    assert field in str(problem)
    assert (await site.ask("PATCH", "/workers/nobody", {"enabled": True}))[0] == 404


@feature("A15", "A16", "H8", "H9", "HW16")
async def test_statistics_and_series_equal_values_computed_by_hand(every_site: Site) -> None:
    site, rig = every_site, every_site.rig
    await rig.make(4)
    site.clock.advance(3.0)
    claims = await rig.claim(4)
    site.clock.advance(5.0)
    for claim in claims[:3]:
        await rig.settle(claim)
    await rig.settle(claims[3], Failed(ErrorInfo("E", "broke", ""), retryable=False))
    [whole] = await site.get("/statistics")
    assert (whole["total"], whole["succeeded"], whole["failed"], whole["gave_up"]) == (4, 3, 1, 1)
    assert (whole["success_rate"], whole["waiting"]["mean"], whole["running"]["mean"]) == (0.75, 3.0, 5.0)
    assert 5.0 / 2**0.25 <= whole["running"]["p99"] <= 5.0 * 2**0.25
    names = {
        by: [one["name"] for one in await site.get(f"/statistics?by={by}")] for by in ("queue", "worker", "outcome")
    }
    assert names == {"queue": [rig.queue], "worker": ["w"], "outcome": ["failed", "succeeded"]}
    assert [one["total"] for one in await site.get("/statistics?end=failed&end=lost")] == [1]
    for hours, span, seconds in ((24, "hour", 3_600), (168, "hour", 3_600), (2, "minute", 60)):
        points = await site.get(f"/series?hours={hours}&span={span}")
        assert len(points) == hours * 3_600 // seconds
        assert {two["at"] - one["at"] for one, two in pairwise(points)} == {seconds}
        assert [one["total"] for one in points[:-1]] == [0] * (len(points) - 1)
        assert (points[-1]["total"], points[-1]["running"]["mean"]) == (4, 5.0)


@pytest.mark.parametrize(
    "path",
    [
        "/statistics?hours=0",
        "/statistics?by=planet",
        "/series?hours=169",
        "/series?span=week",
        "/series?end=x",
        "/series?x=1",
    ],
)
async def test_what_can_not_be_asked_is_refused(site: Site, path: str) -> None:
    assert (await site.ask("GET", path))[0] in (400, 422)
