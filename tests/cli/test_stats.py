"""`holdfast stats`: the figures of a node, by what they are told apart by, and hour by hour."""

import asyncio

import pytest

from holdfast import Holdfast
from holdfast.stores.sql.dialects.sqlite import SqliteDialect
from tests.cli.conftest import Command
from tests.node.processes import NodeProcess


def test_figures_of_a_live_node_are_told_by_queue_task_and_outcome_and_hour_by_hour(
    at: Command, node: NodeProcess
) -> None:
    made = at("enqueue", "mail.welcome", '{"user_id": 1}', "--json").json
    job_id = made[0]["id"] if isinstance(made, list) else made["id"]
    assert at("jobs", "result", job_id, "--wait", "20").code == 0
    [queue] = at("stats", "--json").json
    assert (queue["total"], queue["succeeded"], queue["success_rate"]) == (1, 1, 1.0)
    assert queue["running"]["p95"] is not None
    assert [one["name"] for one in at("stats", "--by", "task", "--json").json] == ["mail.welcome"]
    assert at("stats", "--by", "outcome", "--end", "failed", "--json").json == []
    points = at("stats", "--series", "hour", "--hours", "3", "--json").json
    assert (len(points), sum(one["total"] for one in points)) == (3, 1)
    shown = at("stats").out
    assert "100.0 %" in shown
    assert "waited p50" in shown


def test_what_is_no_figure_is_refused(cli: Command) -> None:
    assert cli("stats", "--by", "colour").code == 2
    assert cli("stats", "--hours", "169").code == 2
    assert cli("stats", "--series", "week").code == 2


async def many(url: str) -> None:
    """Jobs that wait in a file."""
    app = Holdfast(url)

    @app.task("mail")
    async def mail() -> None:
        """Never run."""

    await mail.enqueue_many([()] * 150)
    await app.close()


def test_counts_that_are_estimates_are_shown_as_such(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    at = ("--url", "sqlite:///q.db")
    asyncio.run(many(at[1]))
    assert cli("status", *at, "--json").json["estimated"] == {}
    monkeypatch.setattr(SqliteDialect, "count_exact", 10)
    told = cli("status", *at, "--json").json
    assert (told["queued"], told["estimated"]) == (150, {"default": ["queued"]})
    assert cli("status", *at).out.count("about 150") == 2
    [queue] = cli("queues", "ls", *at, "--json").json
    assert (queue["counts"]["queued"], queue["estimated"]) == (150, ["queued"])
    assert "about 150" in cli("queues", "show", "default", *at).out
    assert "about 150 jobs match" in cli("jobs", "cancel", "--queue", "default", "--preview", *at).out
    assert "about 150 jobs by filter" in cli("jobs", "cancel", "--queue", "default", *at).err
    assert "150 of 150 jobs done" in cli("jobs", "cancel", "--queue", "default", "--yes", *at).out
