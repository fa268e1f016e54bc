"""`holdfast jobs`, `queues`, `tasks`, `workers`: reading and steering, in words and as JSON."""

import pytest

from tests.cli.conftest import Command
from tests.node.processes import NodeProcess, eventually

LATER = ("--in", "1h")


def made(at: Command, *options: object, task: str = "mail.welcome", payload: str = '{"user_id": 1}') -> str:
    return str(at("enqueue", task, payload, "--json", *options).json[0]["id"])


def state(at: Command, job_id: str) -> str:
    return str(at("jobs", "show", job_id, "--json").json["job"]["state"])


def test_a_job_is_shown_with_its_attempts_and_the_reason(at: Command, node: NodeProcess) -> None:
    job_id = made(at, task="shop.bad", payload='{"text": "no such user"}')
    eventually(lambda: node.state(job_id) == "failed")
    text = at("jobs", "show", job_id).out
    for word in (job_id, "shop.bad", "failed", "no such user", "1 of 1", "Retry it when the cause is gone"):
        assert word in text, word
    shown = at("jobs", "show", job_id, "--json").json
    assert [attempt["end"] for attempt in shown["job"]["attempts"]] == ["failed"]
    assert "failed for good" in at("jobs", "why", job_id).out
    assert at("jobs", "result", job_id).code == 10


def test_unknown_ones_are_told(at: Command) -> None:
    for command in (
        ["jobs", "show", "none"],
        ["jobs", "why", "none"],
        ["tasks", "show", "none"],
        ["queues", "pause", "none"],
    ):
        answer = at(*command)
        assert (answer.code, "'none'" in answer.err) == (9, True), command
    for action in ("cancel", "retry", "delete"):
        answer = at("jobs", action, "none")
        assert (answer.code, "unknown job" in answer.out) == (9, True), action
    assert at("jobs", "cancel", "none", made(at, *LATER)).code == 10  # the other one was canceled


def test_jobs_are_chosen_with_the_words_of_the_api(at: Command) -> None:
    tagged = made(at, *LATER, "--tag", "blue", "--key", "user:9")
    for words in (
        ["--tag", "blue"],
        ["--key", "user:9"],
        ["--state", "scheduled", "--tag", "blue"],
        ["--text", tagged],
    ):
        found = at("jobs", "ls", "--json", *words).json["items"]
        assert [job["id"] for job in found] == [tagged], words
    assert at("jobs", "ls", "--state", "lost").code == 4


def test_cancel_pause_resume_retry_replay_and_delete_do_what_they_say(at: Command) -> None:
    job_id = made(at, *LATER)
    for action, expected in (("pause", "paused"), ("resume", "scheduled"), ("cancel", "canceled")):
        answer = at("jobs", action, job_id)
        assert (answer.code, answer.out) == (0, f"{job_id}  done\n")
        assert state(at, job_id) == expected
    assert "as " in at("jobs", "replay", job_id).out
    assert at("jobs", "delete", job_id).code == 0
    assert job_id not in at("jobs", "ls", "--state", "canceled").out
    assert "hidden, purged by retention" in at("jobs", "show", job_id).out


def test_a_refusal_is_told_per_id_and_by_the_exit_code(at: Command) -> None:
    job_id = made(at, *LATER)
    answer = at("jobs", "retry", job_id)
    assert answer.code == 10
    assert f"{job_id}  refused: " in answer.out


def test_by_filter_the_count_comes_first_and_nobody_is_surprised(at: Command) -> None:
    ids = [made(at, *LATER, "--tag", "bulk") for _ in range(3)]
    seen = at("jobs", "cancel", "--tag", "bulk", "--preview")
    assert "3 jobs match. Nothing was changed." in seen.out
    refused = at("jobs", "cancel", "--tag", "bulk")
    assert (refused.code, "expected --yes" in refused.err, "3 jobs" in refused.err) == (2, True, True)
    assert {state(at, job_id) for job_id in ids} == {"scheduled"}
    assert "3 of 3 jobs done" in at("jobs", "cancel", "--tag", "bulk", "--yes").out
    assert {state(at, job_id) for job_id in ids} == {"canceled"}


def test_an_action_needs_ids_or_a_filter(at: Command) -> None:
    assert at("jobs", "cancel").code == 2
    assert at("jobs", "cancel", "x", "--tag", "bulk").code == 2


def test_queues_are_paused_resumed_and_limited(at: Command) -> None:
    assert at("queues", "limit", "slow", "serial", "--create").code == 0
    assert at("queues", "pause", "slow", "--why", "deploy").code == 0
    job_id = made(at, "--queue", "slow")
    assert "deploy" in at("jobs", "why", job_id).out
    text = at("queues", "ls").out
    assert "serial" in text
    assert "paused by" in text
    assert at("queues", "resume", "slow").code == 0
    assert at("queues", "limit", "slow", "0").code == 2
    found = {one["queue"]["name"]: one["queue"] for one in at("queues", "ls", "--json").json}
    assert found["slow"]["mode"] == "serial"


def test_tasks_are_listed_shown_and_switched(at: Command) -> None:
    assert "mail.welcome" in at("tasks", "ls").out
    assert '"user_id":{"type":"integer"}' in at("tasks", "show", "mail.welcome").out
    assert at("tasks", "cancel", "shop.gate").code == 0
    assert at("enqueue", "shop.gate", '{"opened": "x"}').code == 10
    assert at("tasks", "activate", "shop.gate").code == 0


@pytest.mark.parametrize("group", ["queues", "tasks", "jobs"])
def test_a_group_without_a_command_lists_with_the_options_of_its_list(cli: Command, at: Command, group: str) -> None:
    at("enqueue", "mail.welcome", '{"user_id": 1}')
    # Jobs of this and of earlier tests may still be under way; what both show is the same once nothing moves.
    eventually(lambda: at(group, "--json").json == at(group, "ls", "--json").json)
    assert at(group).code == 0
    assert "ls " in cli(group, "--help").out
    assert cli(group, "mend").code == 2


def test_workers_are_listed(at: Command, node: NodeProcess) -> None:
    [worker] = at("workers", "--json").json
    assert (worker["pid"], worker["state"]) == (node.info["pid"], "ready")
    assert str(node.info["pid"]) in at("workers").out


@pytest.mark.parametrize(
    "command",
    [["jobs", "ls"], ["queues", "ls"], ["tasks", "ls"], ["status"], ["workers"], ["config"], ["doctor"], ["migrate"]],
)
def test_every_answer_is_one_json_value_when_asked(at: Command, command: list[str]) -> None:
    answer = at(*command, "--json")
    assert answer.code == 0, answer.out
    assert answer.json is not None


def test_what_comes_from_outside_does_not_steer_the_terminal(at: Command, node: NodeProcess) -> None:
    job_id = made(at, task="shop.bad", payload='{"text": "\\u001b[2Jgone"}')
    eventually(lambda: node.state(job_id) == "failed")
    assert "\x1b" not in at("jobs", "ls").out


def test_an_action_that_jobs_refuse_ends_with_10_by_ids_and_by_filter(at: Command) -> None:
    job_id = made(at, *LATER, "--tag", "odd")
    refused = (["retry", job_id], ["retry", "--tag", "odd", "--yes"])
    for words in refused:
        answer = at("jobs", *words)
        assert (answer.code, "refused" in answer.out) == (10, True), words
    assert at("jobs", "retry", "--tag", "odd", "--preview").code == 0
    assert at("jobs", "retry", "--tag", "none", "--yes").code == 0
    assert at("jobs", "cancel", "--tag", "odd", "--yes").code == 0


def test_a_search_by_text_says_how_far_back_it_looked(at: Command) -> None:
    made(at, *LATER, payload='{"user_id": 7654321}')
    found = at("jobs", "ls", "--text", "7654321")
    assert "--since" in found.err
    assert len(at("jobs", "ls", "--text", "7654321", "--json").json["items"]) == 1
    assert "--since" not in at("jobs", "ls", "--text", "7654321", "--since", "7d").err
