"""Queues, tasks, jobs and schedules from the command line: through a node, on a journal, and on each database.

Each command is given as a new user would give it, and everything that can be wrong with it is tried: one clear message, an
exit code, and nothing changed.
"""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.session import Session
from holdfast.job.commands import Define
from tests.cli.conftest import Command
from tests.cli.places import PLACES, TRIED, Here, everywhere, here, not_journal
from tests.features import feature

__all__ = ["here"]  # a fixture


@feature("T20", "T23", "T12", "T13")
@not_journal
def test_a_queue_is_stopped_shown_and_resumed_and_who_waits_is_told_what_runs(here: Here) -> None:
    here.ok("tasks", "create", "elsewhere")
    first, second = (here.json("enqueue", "elsewhere", "{}", "--queue", "line")[0]["id"] for _ in range(2))
    claim = here.claim("line")
    assert claim.id == first
    assert here.ok("queues", "stop", "line", "--why", "deploy").out == "line is paused; still running: 1 of line.\n"
    late = here("queues", "stop", "line", "--wait", "--timeout", "100ms")
    assert (late.code, late.out) == (10, "line is paused; still running: 1 of line.\n")
    assert late.err == "waiting for 1 of line\n"
    assert here("queues", "stop", "line", "--wait", "--timeout", "100ms", "--json").json == {
        "queues": ["line"], "running": {"line": 1}, "done": False,
    }  # fmt: skip
    shown = here.json("queues", "show", "line")
    assert (shown["queue"]["paused_why"], shown["counts"]["running"], shown["counts"]["queued"]) == ("deploy", 1, 1)
    assert "paused by" in here.ok("queues", "show", "line").out
    threading.Timer(0.3, here.settle, [claim]).start()
    done = here.ok("queues", "stop", "line", "--wait")
    assert done.out == "line is paused; nothing of it runs.\n"
    assert here.ok("queues", "resume", "line").out == "queue line runs.\n"
    assert here.claim("line").id == second


@feature("T20")
@pytest.mark.parametrize("here", [kind for kind in PLACES if kind != "node"], indirect=True)
def test_all_queues_are_stopped_and_resumed_at_once(here: Here) -> None:
    assert here.ok("queues", "stop", "--all").out == "there are no queues.\n"
    here.ok("tasks", "create", "elsewhere")
    for queue in ("a", "b"):
        here.ok("enqueue", "elsewhere", "{}", "--queue", queue)
    assert here.ok("queues", "stop", "--all", "--wait").out == "a, b are paused; nothing of it runs.\n"
    assert [one["queue"]["paused"] for one in here.json("queues", "ls")] == [True, True]
    assert here.ok("queues", "resume", "--all").out == "queue a runs.\nqueue b runs.\n"
    assert here.ok("queues", "resume", "--all").out == "no queue is paused.\n"


@feature("T12", "T13", "T15", "T19", "T22")
@everywhere
def test_a_queues_policy_is_changed_and_shown(here: Here) -> None:
    here.ok("queues", "set", "policy", "--create", "--poll", "7s", "--rescue-after", "2m", "--keep-failed", "none")
    here.ok("queues", "set", "policy", "--keep-succeeded-count", "5", "--keep-failed-count", "none")
    here.ok("queues", "limit", "policy", "serial")
    queue = here.json("queues", "show", "policy")["queue"]
    told = {
        name: queue.get(name)
        for name in ("mode", "poll_interval", "rescue_after", "keep_failed", "keep_succeeded_count")
    }
    assert told == {
        "mode": "serial", "poll_interval": 7.0, "rescue_after": 120.0, "keep_failed": None, "keep_succeeded_count": 5,
    }  # fmt: skip
    here.ok("queues", "set", "policy", "--poll", "none", "--rescue-after", "none")
    text = here.ok("queues", "show", "policy").out
    assert text.count("as each worker says") == 2
    assert "for ever, any number" in text
    here.ok("queues", "delete", "policy", "--yes")
    assert here("queues", "show", "policy").code == 9


@feature("T3", "T4", "T33")
@everywhere
def test_a_task_is_made_edited_switched_hidden_brought_back_and_forgotten(here: Here) -> None:
    made = here.json("tasks", "create", "report", "--title", "Report", "--memo", "ask ann")
    assert (made["alias"], made["title"], made["memo"], made["status"]) == ("report", "Report", "ask ann", "active")
    assert here("tasks", "create", "report").code == 10
    here.ok("tasks", "edit", made["id"], "--title", "Reports", "--alias", "reports")
    shown = here.json("tasks", "show", "reports")
    assert (shown["id"], shown["title"], shown["memo"]) == (made["id"], "Reports", "ask ann")
    waiting = here.json("enqueue", "reports", "{}", "--queue", "reports")[0]["id"]
    for word, opposite in (("cancel", "activate"), ("delete", "restore")):
        here.ok("tasks", word, "reports")
        refused = here("enqueue", "reports", "{}")
        assert (refused.code, "reports" in refused.err) == (10, True)
        assert here.json("jobs", "show", waiting)["job"]["state"] == "paused"
        here.ok("tasks", opposite, "reports")
        assert here.json("jobs", "show", waiting)["job"]["state"] == "queued"
    assert "unfinished" in here("tasks", "delete", "reports", "--hard", "--yes").err
    here.ok("jobs", "cancel", waiting)
    count = here.json("tasks", "ls", "--count")
    assert here.ok("tasks", "delete", "reports", "--hard", "--yes").out == "task reports is forgotten.\n"
    assert here.json("tasks", "ls", "--count", "--deleted") == count - 1
    assert here("tasks", "show", "reports").code == 9
    assert here.json("jobs", "show", waiting)["job"]["state"] == "canceled"


#: Every column of the seed's queue item and of its definition, under our names.
ITEM = (
    "id",
    "state",
    "queue",
    "task",
    "payload",
    "result",
    "attempts",
    "created_at",
    "updated_at",
    "finished_at",
    "deleted_at",
)
TASK = ("id", "status", "alias", "title", "description", "memo", "created_at", "updated_at", "deleted_at")
SCHEDULE = (
    "name", "description", "status", "rule", "queue", "task", "payload", "start_at", "end_at", "count", "max_count",
    "last_run_at", "next_run_at", "created_at", "updated_at", "deleted_at",
)  # fmt: skip


@feature("T8", "T4", "T31")
@everywhere
def test_every_field_of_a_job_a_task_and_a_schedule_is_told_as_json(here: Here) -> None:
    task = here.json("tasks", "create", "whole")
    assert [name for name in TASK if name not in task] == []
    job_id = here.json("enqueue", "whole", '{"n": [1, {"x": 2.5}]}', "--queue", "fields")[0]["id"]
    assert here.run("fields") == job_id
    job = here.json("jobs", "show", job_id)["job"]
    assert [name for name in ITEM if name not in job] == []
    assert (job["payload"], job["result"], job["state"]) == ({"n": [1, {"x": 2.5}]}, "fine", "succeeded")
    [attempt] = job["attempts"]
    assert (attempt["number"], attempt["worker"], attempt["end"]) == (1, "w", "succeeded")
    assert job["created_at"] <= attempt["started_at"] <= attempt["ended_at"] == job["finished_at"]
    schedule = here.json("schedules", "add", "all.fields", "whole", "{}", "--cron", "@daily", "--draft")
    assert [name for name in SCHEDULE if name not in schedule] == []
    assert schedule["status"] == "draft"


@feature("T33", "T26")
@everywhere
def test_a_job_is_edited_requeued_with_other_arguments_restarted_hidden_and_purged(here: Here) -> None:
    here.ok("tasks", "create", "work")
    job_id = here.json("enqueue", "work", '{"n": 1}', "--queue", "old", "--delay", "1h")[0]["id"]
    here.ok("jobs", "edit", job_id, "--payload", '{"n": 2}', "--to-queue", "new", "--priority", "5")
    job = here.json("jobs", "show", job_id)["job"]
    assert (job["payload"], job["queue"], job["priority"]) == ({"n": 2}, "new", 5)
    here.ok("jobs", "edit", job_id, "--run-at", "2020-01-01T00:00:00+01:00")
    assert here.run("new") == job_id
    told = here.ok("jobs", "replay", job_id, "--payload", '{"n": 3}', "--to-queue", "again").out
    copy = told.split()[-1]
    made = here.json("jobs", "show", copy)["job"]
    assert (made["payload"], made["queue"], made["replay_of"]) == ({"n": 3}, "again", job_id)
    assert here("jobs", "replay", job_id).code == 10  # twice only with --force
    here.ok("jobs", "cancel", copy)
    here.ok("jobs", "retry", copy)  # restarted in place, in its own queue
    assert here.run("again") == copy
    here.ok("jobs", "delete", job_id)
    assert job_id not in here.ok("jobs", "ls", "--queue", "new").out
    assert here.json("jobs", "show", job_id)["job"]["deleted_at"] is not None
    assert job_id in here.ok("jobs", "ls", "--queue", "new", "--deleted").out
    here.ok("jobs", "delete", job_id, "--hard")
    assert here("jobs", "show", job_id).code == 9


@feature("T31")
@everywhere
def test_a_schedule_is_made_edited_run_paused_and_removed(here: Here) -> None:
    here.ok("tasks", "create", "tick")
    name = "ticking"
    assert here.json("schedules", "add", name, "tick", '{"n": 1}', "--cron", "0 9 * * mon-fri")["status"] == "active"
    changed = here.json("schedules", "edit", name, "--zone", "Europe/Berlin", "--arguments", '{"n": 2}')
    assert (changed["zone"], changed["payload"], changed["rule"]) == ("Europe/Berlin", {"n": 2}, "0 9 * * mon-fri")
    assert len(here.json("schedules", "next", name, "-n", "3")) == 3
    job = here.json("schedules", "run", name)
    assert (job["payload"], job["task"]) == ({"n": 2}, "tick")
    assert here.ok("schedules", "pause", name).out == f"schedule {name} is inactive.\n"
    assert here.ok("schedules", "resume", name).out.startswith(f"schedule {name} is active; next at ")
    assert name in here.ok("schedules").out
    here.ok("jobs", "cancel", job["id"])
    assert name in here("tasks", "delete", "tick", "--hard", "--yes").err
    here.ok("schedules", "rm", name)
    assert here("schedules", "run", name).code == 9


@feature("T10", "T27")
@everywhere
def test_a_job_is_given_no_arguments_that_its_task_does_not_take(here: Here) -> None:
    here.within(lambda store: store.define([Define(alias="narrow", queue="narrow", parameters=TYPED)]))
    job_id = here.json("enqueue", "narrow", '{"n": 1}')[0]["id"]
    before = here.json("jobs", "show", job_id)["job"]
    for payload, said in (('{"n":"x"}', "argument 'n': expected int, got str"), ("{}", "missing argument 'n'")):
        edited = here("jobs", "edit", job_id, "--payload", payload)
        assert (edited.code, said in edited.out) == (10, True)
        assert said in here("jobs", "edit", "--queue", "narrow", "--payload", payload, "--yes").out
    assert here.json("jobs", "show", job_id)["job"] == before
    here.ok("jobs", "cancel", job_id)
    again = here("jobs", "replay", job_id, "--payload", '{"m":1}')
    assert (again.code, "unknown argument 'm'" in again.out) == (10, True)
    here.ok("jobs", "replay", job_id, "--payload", '{"n":2}')


@feature("T29")
@everywhere
def test_a_tasks_function_runs_beside_any_store_and_leaves_nothing_in_it(here: Here) -> None:
    before = facts(here)
    app = ("--app", "tests.node.shop:app")
    done = here.ok("tasks", "run", "mail.welcome", "--user-id=42", "--lang", "de", *app)
    assert done.out == "succeeded: de:42\n"
    assert "mail.welcome" in here.ok("tasks", "run", *app).out
    assert here("tasks", "run", "mail.welcom", *app).code == 9
    wrong = here("tasks", "run", "mail.welcome", "--user-id=x", *app)
    assert (wrong.code, "argument 'user_id': expected int, got str" in wrong.err) == (4, True)
    assert facts(here) == before


LONG = "x" * 101
NEVER = '{"frequency":"monthly","days_of_month":[30],"months_of_year":[2]}'
#: What `@app.task` stores of a function that takes n: int.
TYPED = b'{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
BAD: list[tuple[str, int, str]] = [
    # unknown queue or alias
    ("queues pause nobody", 9, "unknown queue 'nobody'"),
    ("queues stop nobody", 9, "unknown queue 'nobody'"),
    ("queues stop known nobody", 9, "unknown queue 'nobody'"),
    ("queues resume nobody", 9, "unknown queue 'nobody'"),
    ("queues show nobody", 9, "unknown queue 'nobody'"),
    ("queues limit nobody 3", 9, "unknown queue 'nobody'"),
    ("queues set nobody --poll 3s", 9, "unknown queue 'nobody'"),
    ("queues clear nobody --yes", 9, "unknown queue 'nobody'"),
    ("queues delete nobody --yes", 9, "unknown queue 'nobody'"),
    ("enqueue nobody {}", 9, "unknown task 'nobody'"),
    ("tasks show nobody", 9, "unknown task 'nobody'"),
    ("tasks cancel nobody", 9, "unknown task 'nobody'"),
    ("tasks activate nobody", 9, "unknown task 'nobody'"),
    ("tasks edit nobody --title x", 9, "unknown task 'nobody'"),
    ("tasks delete nobody", 9, "unknown task 'nobody'"),
    ("tasks delete nobody --hard --yes", 9, "unknown task 'nobody'"),
    ("schedules add s nobody {} --cron @daily", 9, "unknown task 'nobody'"),
    ("schedules show nobody", 9, "unknown schedule 'nobody'"),
    ("schedules edit nobody --cron @daily", 9, "unknown schedule 'nobody'"),
    ("schedules pause nobody", 9, "unknown schedule 'nobody'"),
    ("jobs show nobody", 9, "nobody"),
    # taken, canceled, deleted
    ("tasks create known.task", 10, "taken"),
    ("tasks edit off --alias known.task", 10, "taken"),
    ("enqueue off {}", 10, "canceled"),
    ("enqueue gone {}", 10, "deleted"),
    ("schedules add s off {} --cron @daily", 10, "canceled"),
    ("tasks activate gone", 10, "Restore it first"),
    ("tasks cancel gone", 10, "Restore it first"),
    ("schedules add known.schedule known.task {} --cron @daily", 10, "known.schedule"),
    # names
    (f"queues pause {LONG} --create", 3, "1 to 100"),
    ("queues pause a|b --create", 3, "1 to 100"),
    ("queues pause  --create", 2, "NAME"),
    (f"tasks create {LONG}", 3, "1 to 100"),
    ("tasks create a|b", 3, "1 to 100"),
    (f"tasks edit off --alias {LONG}", 3, "1 to 100"),
    (f"tasks edit off --title {'x' * 256}", 3, "255"),
    (f"enqueue known.task {{}} --queue {LONG}", 3, "1 to 100"),
    (f"schedules add {LONG} known.task {{}} --cron @daily", 3, "1 to 100"),
    # parameters
    ("enqueue known.task {", 4, "JSON"),
    ("enqueue known.task [1]", 4, "object"),
    ("jobs replay x --payload [1]", 4, "object"),
    ("jobs edit x --payload {", 4, "object"),
    ("jobs edit x", 2, "something to change"),
    ("jobs edit x --run-at tomorrow", 4, "2030-01-31T09:00:00+01:00"),
    ("jobs edit x --run-at 2030-01-01T00:00:00", 4, "zone"),
    ("schedules edit known.schedule --arguments 7", 4, "object"),
    ("enqueue typed {}", 4, "missing argument 'n'"),
    ("enqueue typed {\"n\":\"x\"}", 4, "argument 'n': expected int, got str"),
    ("enqueue typed {\"n\":1,\"m\":2}", 4, "unknown argument 'm'"),
    ("schedules add s typed {\"n\":\"x\"} --cron @daily", 4, "argument 'n': expected int, got str"),
    # times
    ("schedules add s known.task {} --cron nonsense", 3, "five fields"),
    ("schedules add s known.task {} --cron @daily --zone Berlin", 3, "time zone"),
    ("schedules add s known.task {} --cron 0|0|30|2|*", 3, "Does the day exist"),
    (f"schedules add s known.task {{}} --rule {NEVER}", 3, "never"),
    ("schedules add s known.task {} --cron @daily --start 2031-01-01T00:00:00Z --end 2030-01-01T00:00:00Z", 3, "before"),
    ("schedules edit known.schedule --cron nonsense", 3, "five fields"),
    ("schedules edit known.schedule", 2, "something to change"),
    ("schedules next known.schedule --count 0", 2, "range"),
    ("schedules next --rule 0|0|30|2|*", 3, "Does the day exist"),
    (f"schedules next --rule {NEVER}", 3, "never"),
    # limits
    ("queues limit known 0", 2, "1 or more"),
    ("queues limit known -1", 2, "such option"),
    ("queues limit known many", 2, "serial or none"),
    ("queues limit known 99999999999999999999", 3, "limit"),
    ("queues set known --poll 0s", 3, "poll_interval"),
    ("queues set known --poll often", 4, "--poll"),
    ("queues set known --rescue-after=-5s", 4, "--rescue-after"),
    ("queues set known --keep-failed-count few", 2, "whole number or none"),
    ("queues set known", 2, "something to change"),
    ("schedules add s known.task {} --every 0s", 3, "more than 0"),
    ("schedules add s known.task {} --cron @daily --max-count 0", 3, "max_count"),
    ("enqueue known.task {} --max-attempts 0", 4, "max_attempts"),
    ("enqueue known.task {} --priority 101", 4, "priority"),
    # the command line itself
    ("queues stop", 2, "--all"),
    ("queues stop known --all", 2, "--all"),
    ("queues stop known --timeout 3s", 2, "--wait"),
    ("queues stop known --wait --timeout soon", 4, "--timeout"),
    ("queues resume", 2, "--all"),
    ("queues clear known", 2, "--yes"),
    ("queues delete known", 2, "--yes"),
    ("queues delete known --yes", 10, "unfinished"),
    ("tasks delete known.task --hard", 2, "--yes"),
    ("tasks delete known.task --hard --yes", 10, "unfinished"),
    ("tasks edit known.task", 2, "something to change"),
    ("tasks run known.task", 2, "--app"),
    ("tasks ls --status sleeping", 2, "sleeping"),
]  # fmt: skip


def facts(here: Here) -> Any:
    """All that a refused command could have changed."""
    jobs = [job["id"] for job in here.json("jobs", "ls", "--limit", "1000")["items"]]
    return here.json("queues", "ls"), here.json("tasks", "ls", "--deleted"), here.json("schedules", "ls"), jobs


@feature("T3", "T4", "T10", "T12", "T13", "T31", "T32", "TW12")
@pytest.mark.parametrize("here", TRIED, indirect=True)
def test_what_is_wrong_is_told_in_one_message_with_an_exit_code_and_changes_nothing(here: Here) -> None:
    for alias in ("known.task", "off", "gone"):
        here.ok("tasks", "create", alias)
    here.ok("tasks", "cancel", "off")
    here.ok("tasks", "delete", "gone")
    here.within(lambda store: store.define([Define(alias="typed", queue="typed", parameters=TYPED)]))
    here.ok("enqueue", "typed", '{"n": 1}', "--id", "typed-1")
    here.ok("enqueue", "known.task", "{}", "--queue", "known")
    here.ok("schedules", "add", "known.schedule", "known.task", "{}", "--cron", "@yearly")
    before = facts(here)
    wrong = []
    for line, code, says in BAD:
        words = [word.replace("|", " ") for word in line.split(" ")]
        answer = here(*[word for word in words if word])
        lines = [text for text in answer.err.splitlines() if text]
        # One message: a line, or a headline with its faults below, or click's three lines of usage.
        is_one = lines[:1] and (lines[0].startswith("Usage:") or all(text.startswith("  - ") for text in lines[1:]))
        if answer.code != code or says not in answer.err or not is_one or answer.out:
            wrong.append(f"{line[:80]}: {answer.code} {answer.err}{answer.out}")
        if here.kind != "sqlite":
            continue  # how an error is written is the command line's, whatever the store
        as_json = here(*[word for word in words if word], "--json")
        told = json.loads(as_json.err)["error"]
        if told["exit"] != answer.code:
            wrong.append(f"{line[:80]} --json: {as_json.err}")
    assert not wrong, "\n".join(wrong)
    assert facts(here) == before


def test_what_needs_an_answer_is_asked_on_a_terminal_and_a_no_changes_nothing(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    assert cli("migrate", "--url", url).code == 0
    assert cli("tasks", "create", "t", "--url", url).code == 0
    asked: list[str] = []

    def no(self: Session, what: str) -> None:
        asked.append(what)
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "confirm", no)
    assert cli("tasks", "delete", "t", "--hard", "--url", url).code == 130
    assert asked == ["forget task t"]
    assert cli("tasks", "show", "t", "--url", url).code == 0
