"""`holdfast stats`: the figures of a node, by what they are told apart by, and hour by hour."""

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
