"""`holdfast schedules` and `holdfast tasks run`: in words and as JSON."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.cli.handlers import read_words
from holdfast.errors import BadArguments
from tests.cli.conftest import Command
from tests.features import feature
from tests.node.processes import NodeProcess, eventually

APP = ("--app", "tests.node.shop:app")


def added(at: Command, name: str, *options: object, task: str = "mail.welcome") -> dict[str, object]:
    answer = at("schedules", "add", name, task, '{"user_id": 1}', *options, "--json")
    assert answer.code == 0, answer.err
    return dict(answer.json)


@feature("T31")
def test_a_schedule_is_made_listed_shown_paused_resumed_and_removed(at: Command) -> None:
    made = added(at, "nightly", "--cron", "0 3 * * *", "--zone", "Europe/Berlin", "--overlap", "skip")
    assert (made["queue"], made["payload"], made["status"]) == ("mail", {"user_id": 1}, "active")
    text = at("schedules", "ls").out
    for word in ("nightly", "0 3 * * *", "Europe/Berlin", "mail.welcome", "active"):
        assert word in text, word
    assert "left out while the last job goes on" in at("schedules", "show", "nightly").out
    assert at("schedules", "pause", "nightly").out == "schedule nightly is inactive.\n"
    assert at("schedules", "show", "nightly", "--json").json["next_run_at"] is None
    assert "fires at none of these" in at("schedules", "next", "nightly").err
    resumed = at("schedules", "resume", "nightly").out
    assert resumed.startswith("schedule nightly is active; next at ")
    assert at("schedules", "rm", "nightly").code == 0
    assert at("schedules", "show", "nightly").code == 9
    assert "nightly" in at("schedules", "ls", "--deleted").out


@feature("T31")
def test_a_schedule_fires_on_the_node_and_can_be_run_by_hand(at: Command, node: NodeProcess) -> None:
    added(at, "often", "--every", "100ms", "--max-count", "3")

    def is_done() -> bool:
        return bool(at("schedules", "show", "often", "--json").json["status"] == "completed")

    eventually(is_done)
    shown = at("schedules", "show", "often", "--json").json
    assert (shown["count"], shown["next_run_at"]) == (3, None)
    by_hand = at("schedules", "run", "often", "--json").json["id"]
    eventually(lambda: node.state(by_hand) == "succeeded")
    jobs = at("jobs", "ls", "--tag", "schedule:often", "--json").json["items"]
    assert len(jobs) == 4


@feature("T31", "T32")
def test_the_next_times_of_a_schedule_and_of_a_rule_on_trial_are_shown(at: Command) -> None:
    added(at, "weekly", "--rule", '{"frequency": "weekly", "days_of_week": ["mon"], "starts_at": 1900000000}')
    times = at("schedules", "next", "weekly", "-n", "3", "--json").json
    assert [datetime.fromisoformat(time).weekday() for time in times] == [0, 0, 0]
    tried = at("schedules", "next", "--rule", "30 2 * * *", "--zone", "Asia/Tokyo", "-n", "2")
    assert (tried.code, tried.out.count("02:30:00 +0900"), tried.out.count("17:30:00")) == (0, 2, 2)
    assert at("schedules", "next").code == 2
    assert at("schedules", "next", "weekly", "--rule", "@daily").code == 2


@feature("T31", "T32")
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 3, "expected one of cron="),
        (["--cron", "nonsense"], 3, "five fields"),
        (["--cron", "@daily", "--zone", "Berlin"], 3, "time zone"),
        (["--every", "0s"], 3, "more than 0"),
        (["--cron", "@daily", "--max-count", "0"], 3, "max_count"),
        (["--at", "tomorrow"], 4, "ISO|such as 2030"),
        (["--at", "2020-01-01T00:00:00+00:00"], 3, "would never fire"),
        (["--cron", "@daily", "--start", "2031-01-01T00:00:00Z", "--end", "2030-01-01T00:00:00Z"], 3, "before it"),
        (["--rule", '{"frequency": "monthly", "days_of_month": [31], "months_of_year": [2]}'], 3, "would never fire"),
        (["--cron", "@daily", "--catch-up", "never"], 2, "once"),
    ],
)
def test_bad_schedules_are_refused_and_nothing_is_stored(at: Command, options: list[str], code: int, says: str) -> None:
    answer = at("schedules", "add", "bad", "mail.welcome", '{"user_id": 1}', *options)
    assert answer.code == code
    assert any(word in answer.err for word in says.split("|"))
    assert at("schedules", "show", "bad").code == 9


@feature("T31")
def test_unknown_tasks_taken_names_and_wrong_arguments_are_refused(at: Command) -> None:
    added(at, "taken", "--every", "1d")
    assert at("schedules", "add", "taken", "mail.welcome", '{"user_id": 1}', "--every", "1d").code == 10
    assert at("schedules", "add", "x", "nobody", "--every", "1d").code == 9
    assert at("schedules", "add", "x", "mail.welcome", "--every", "1d").code == 4
    assert at("schedules", "add", "x", "mail.welcome", "[1]", "--every", "1d").code == 4
    assert at("schedules", "add", "", "mail.welcome", '{"user_id": 1}', "--every", "1d").code == 3
    for verb in ("show", "next", "run", "pause", "resume", "rm"):
        answer = at("schedules", verb, "nobody")
        assert (answer.code, "unknown schedule 'nobody'" in answer.err) == (9, True), verb


@feature("T31", "TW4")
def test_a_schedule_of_a_canceled_task_is_refused(at: Command) -> None:
    assert at("tasks", "cancel", "shop.where").code == 0
    assert at("schedules", "add", "x", "shop.where", '{"opened": "x"}', "--every", "1d").code == 10
    assert at("tasks", "activate", "shop.where").code == 0


# --- tasks


@feature("T3", "T26")
def test_tasks_are_listed_by_status_and_counted(at: Command) -> None:
    all_of_them = int(at("tasks", "ls", "--count").out)
    at("tasks", "cancel", "shop.deaf")
    assert [one["alias"] for one in at("tasks", "ls", "--status", "canceled", "--json").json] == ["shop.deaf"]
    assert int(at("tasks", "ls", "--count", "--status", "active").out) == all_of_them - 1
    at("tasks", "activate", "shop.deaf")


@feature("T29")
def test_a_tasks_function_is_run_from_the_command_line_without_any_job(cli: Command) -> None:
    answer = cli("tasks", "run", "mail.welcome", "--user-id=42", "--lang", "de", *APP)
    assert (answer.code, answer.out) == (0, "succeeded: de:42\n")
    assert cli("tasks", "run", "mail.welcome", *APP, "--", "--user_id", "7", "--json").code == 4
    done = cli("tasks", "run", "mail.welcome", "--user_id=7", "--json", *APP).json
    assert (done["state"], done["result"]) == ("succeeded", "en:7")


@feature("T29")
def test_a_handler_that_fails_is_told_in_one_line(cli: Command) -> None:
    answer = cli("tasks", "run", "shop.bad", "--text=no such user", *APP)
    assert (answer.code, answer.err) == (10, "failed: ValueError: no such user\n")


@feature("T29")
def test_wrong_words_are_refused_before_anything_runs(cli: Command) -> None:
    assert cli("tasks", "run", "nobody", *APP).code == 9
    assert cli("tasks", "run", "mail.welcome", *APP).code == 4
    assert cli("tasks", "run", "mail.welcome", "--user_id=many", *APP).code == 4
    assert cli("tasks", "run", "mail.welcome", "--user_id=1", "--colour=red", *APP).code == 4
    assert cli("tasks", "run", "mail.welcome", "seven", *APP).code == 4
    assert cli("tasks", "run", "mail.welcome", "--user_id=1").code == 2
    assert cli("tasks", "run", "mail.welcome", "--user_id=1", "--app", "nowhere:app").code == 3


@feature("T29")
def test_without_a_task_the_tasks_of_the_app_are_listed(cli: Command) -> None:
    answer = cli("tasks", "run", *APP)
    assert answer.code == 0
    assert "mail.welcome" in answer.out


@feature("T29")
def test_words_become_typed_arguments(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(
        "from holdfast import Holdfast\n"
        "app = Holdfast()\n"
        "@app.task('typed')\n"
        "def typed(number: int, share: float = 0.0, text: str = '', many: list[int] = [], on: bool = False,\n"
        "          more: dict[str, int] | None = None) -> list:\n"
        "    return [number, share, text, many, on, more]\n"
    )
    words = ("--number=7", "--share", "0.5", "--text=12", "--many=1", "--many=2", "--on", '--more={"a": 1}')
    done = cli("tasks", "run", "typed", *words, "--json", "--app", "typed:app").json
    assert done["result"] == [7, 0.5, "12", [1, 2], True, {"a": 1}]


def test_words_that_are_none_are_refused() -> None:
    assert read_words(["--a-b=c=d", "--e", "--f", "g"]) == {"a_b": ["c=d"], "e": [True], "f": ["g"]}
    for words in (["a"], ["--"], ["--=x"], ["-a"]):
        if words == ["--"]:
            assert read_words(words) == {}
            continue
        with pytest.raises(BadArguments):
            read_words(words)


def test_times_are_shown_in_utc_and_json_is_json(at: Command) -> None:
    added(at, "plain", "--at", "2040-01-01T00:00:00+01:00")
    shown = json.loads(at("schedules", "show", "plain", "--json").out)
    assert shown["next_run_at"] == datetime(2039, 12, 31, 23, tzinfo=UTC).timestamp()
    assert "2039-12-31 23:00:00" in at("schedules", "ls").out
