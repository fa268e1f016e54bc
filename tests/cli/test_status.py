"""`holdfast status`: the node's own numbers of this moment, or the files' with their age, never one for the other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.features import feature
from tests.node.processes import NodeProcess, eventually


@pytest.fixture
def live(tmp_path: Path) -> Iterator[NodeProcess]:
    started = NodeProcess(tmp_path / "live")
    yield started
    started.kill()


@feature("B56", "BW17", "A22", "B1", "B46")
def test_a22_status_tells_the_numbers_of_this_moment(cli: Command, live: NodeProcess) -> None:
    def now() -> dict[str, int]:
        found: dict[str, int] = cli("status", "--data", live.data, "--json").json
        return {name: found[name] for name in ("pending", "in_flight", "completed", "dead", "failed", "busy")}

    assert now() == {"pending": 0, "in_flight": 0, "completed": 0, "dead": 0, "failed": 0, "busy": 0}
    done, bad = live.enqueue("mail.welcome", user_id=1), live.enqueue("shop.bad")
    gate = live.data.parent / "gate"
    live.enqueue("shop.gate", opened=str(gate))
    eventually(gate.with_suffix(".begun").exists)
    eventually(lambda: (live.state(done), live.state(bad)) == ("succeeded", "failed"))
    found = now()
    assert (found["in_flight"], found["completed"], found["dead"], found["failed"]) == (1, 1, 1, 1)
    gate.write_text("open")
    text = cli("status", "--data", live.data).out
    assert re.search(rf"ready, pid {live.info['pid']} on .+, since .+ UTC \((now|.+ ago)\)", text)
    assert re.search(r"^workers +1$", text, re.MULTILINE)
    assert "mail" in text


@feature("BW17")
def test_without_a_node_status_shows_nothing_unless_offline_and_then_says_its_age(
    cli: Command, live: NodeProcess
) -> None:
    job_id = live.enqueue("mail.welcome", user_id=1)
    eventually(lambda: live.state(job_id) == "succeeded")
    live.process.kill()
    live.wait()
    answer = cli("status", "--data", live.data)
    assert (answer.code, answer.out) == (5, "")
    assert "no node is running" in answer.err
    assert "holdfast run" in answer.err
    offline = cli("status", "--data", live.data, "--offline", "--json").json
    assert (offline["offline"], offline["completed"]) == (True, 1)
    assert offline["age"] >= 0
    assert re.search(r"said at .+ UTC \((now|.+ ago)\)", cli("status", "--data", live.data, "--offline").out)
    before = sorted(path.name for path in live.data.iterdir())
    cli("jobs", "ls", "--data", live.data, "--offline")
    assert sorted(path.name for path in live.data.iterdir()) == before


def test_a_folder_without_a_journal_is_not_made_by_looking_at_it(cli: Command, tmp_path: Path) -> None:
    for command in (
        ["status"],
        ["jobs", "ls"],
        ["enqueue", "x"],
        ["queues", "ls"],
        ["workers"],
    ):
        answer = cli(*command, "--data", tmp_path / "none")
        assert answer.code == 5, command
        assert "no node is running" in answer.err
    for command in (["status", "--offline"], ["jobs", "ls", "--offline"]):
        answer = cli(*command, "--data", tmp_path / "none")
        assert answer.code == 3, command
        assert "expected the folder of a journal, found none. Name it with --data" in answer.err
    assert not (tmp_path / "none").exists()


def test_commands_open_a_stopped_journal_themselves(cli: Command, live: NodeProcess) -> None:
    assert live.stop() == 0
    made = cli("enqueue", "mail.welcome", '{"user_id": 1}', "--data", live.data, "--json").json
    assert cli("jobs", "ls", "--data", live.data, "--json").json["items"][0]["id"] == made[0]["id"]
    assert cli("jobs", "cancel", made[0]["id"], "--data", live.data).code == 0
