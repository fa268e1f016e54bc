"""`holdfast enqueue`: jobs by name and from files; nothing of a bad file is stored, and the line is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.features import feature
from tests.node.processes import NodeProcess, eventually


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "jobs.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def count(at: Command) -> int:
    answer = at("status", "--json").json
    return sum(sum(states.values()) for states in answer["queues"].values())


@feature("A22")
def test_a22_a_job_is_enqueued_from_the_command_line_and_run_by_the_node(at: Command, node: NodeProcess) -> None:
    answer = at("enqueue", "mail.welcome", '{"user_id": 42, "lang": "de"}', "--json")
    assert answer.code == 0
    [made] = answer.json
    eventually(lambda: node.state(made["id"]) == "succeeded")
    assert at("jobs", "result", made["id"], "--json").json["result"] == "de:42"


@feature("B54", "A22")
@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_file_of_jobs_is_enqueued_and_counted(at: Command, node: NodeProcess, tmp_path: Path, form: str) -> None:
    jobs: list[dict[str, Any]] = [
        {"id": f"{form}-1", "task": "mail.welcome", "payload": {"user_id": 1}, "queue": "mail", "priority": 5},
        {"id": f"{form}-2", "payload": {"type": "mail.welcome", "user_id": 2}},
        {"id": f"{form}-3", "task": "mail.welcome", "payload": {"user_id": 3}, "delay": "1h"},
    ]
    text = json.dumps(jobs, indent=2) if form == "array" else "\n".join(map(json.dumps, jobs)) + "\n\n"
    answer = at("enqueue", "--file", write(tmp_path, text))
    assert answer.code == 0
    assert "3 jobs enqueued into mail." in answer.out
    eventually(lambda: [node.state(f"{form}-{n}") for n in (1, 2, 3)] == ["succeeded", "succeeded", "scheduled"])


GOOD = '{"task": "mail.welcome", "payload": {"user_id": 1}}'
TWIN = '{"id": "x", "task": "mail.welcome"}'
LARGE = f'{{"task": "mail.welcome", "payload": {{"x": "{"y" * 1_100_000}"}}}}'
FAT = f'{{"task": "mail.welcome", "payload": {{"user_id": 1, "lang": "{"y" * 950_000}"}}}}'
BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("empty", "", ":1: expected a JSON array of jobs or one job a line, found nothing"),
    ("cut off", f"[{GOOD},\n{GOOD}", ":2: expected , or ] behind a job, found 'the end'"),
    ("not JSON", f"{GOOD}\n{{task: 1}}\n", ":2: not JSON"),
    ("no comma", f"[{GOOD}\n{GOOD}]", ":2: expected , or ] behind a job"),
    ("trailing comma", f"[{GOOD},\n]", ":2: not JSON"),
    ("text behind the array", f"[{GOOD}]\nand more", ":2: expected nothing behind the array"),
    ("two on a line", f"{GOOD}\n{GOOD} {GOOD}", ":2: expected one job a line"),
    ("no object", f"{GOOD}\n17", ":2: expected 'object', got 'int'"),
    ("unknown field", f'{GOOD}\n{{"task": "mail.welcome", "colour": 1}}', ":2: object contains unknown field 'colour'"),
    ("wrong type", f'{GOOD}\n{{"task": 7}}', ":2: expected 'str', got 'int' - at '$.task'"),
    ("no task", f'{GOOD}\n{{"payload": {{}}}}', ":2: task: expected the alias of a task"),
    ("unknown task", f'{GOOD}\n\n{{"task": "nope"}}', ":3: unknown task 'nope'"),
    ("payload no object", f'{GOOD}\n{{"task": "mail.welcome", "payload": [1]}}', ":2: payload: expected an object"),
    ("bad delay", f'{GOOD}\n{GOOD[:-1]}, "delay": "soon"}}', ":2: delay: expected"),
    ("bad priority", f'{GOOD}\n{GOOD[:-1]}, "priority": 1000}}', ":2: priority: expected"),
    ("misfit", f'{GOOD}\n{{"task": "mail.welcome"}}', ":2: task 'mail.welcome': missing argument 'user_id'"),
    ("wrong kind", GOOD.replace("1", '"1"'), ":1: task 'mail.welcome': argument 'user_id': expected int, got str"),
    ("NUL", f'{GOOD}\n{{"task": "mail.welcome", "payload": {{"x": "\\u0000"}}}}', ":2: payload: at $.x"),
    ("NaN", f'{GOOD}\n{{"task": "mail.welcome", "payload": {{"x": NaN}}}}', ":2: "),
    ("Infinity", f'{GOOD}\n{{"task": "mail.welcome", "payload": {{"x": -Infinity}}}}', ":2: expected JSON"),
    ("beyond a float", f'{GOOD}\n{{"task": "mail.welcome", "payload": {{"x": 1e400}}}}', ":2: expected a number of at"),
    ("twice an id", f"{TWIN}\n{TWIN}", ":2: id 'x' stands on line 1"),
    ("twice an id on one line", f"[{TWIN}, {TWIN}]", ":1: id 'x' stands on line 1"),
    ("not UTF-8", GOOD.encode() + b"\n\xff\xfe", ":2: expected UTF-8, found the byte 0xff"),
    ("too deep", "[" * 100_000, ":1: expected at most 100 levels"),
    ("too deep payload", f'{{"task": "mail.welcome", "payload": {{"x": {"[" * 101}{"]" * 101}}}}}', ":1: payload: "),
    ("huge number", f'{{"task": "mail.welcome", "payload": {{"x": {"9" * 5_000}}}}}', ":1: "),
    ("too many", f"{GOOD}\n" * 10_001, ":10001: expected at most 10,000 jobs"),
    ("large payload", f"{GOOD}\n{LARGE}", ":2: payload: expected at most"),
    ("large batch", f"{FAT}\n" * 9, ": a batch: expected at most 8,388,608 bytes of payload"),
    ("too large", b" " * (16 * 1024 * 1024 + 1), ": expected at most 16,777,216 bytes"),
]  # fmt: skip


@feature("B54")
@pytest.mark.parametrize(("text", "words"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])
def test_of_a_bad_file_nothing_is_stored_and_the_line_is_named(
    at: Command, tmp_path: Path, text: str | bytes, words: str
) -> None:
    before = count(at)
    path = write(tmp_path, text)
    answer = at("enqueue", "-f", path)
    assert answer.code in (4, 9)
    assert f"{path}{words}" in answer.err
    assert answer.err.count("\n") == 1
    assert answer.err.count("Nothing was stored") <= 1
    assert count(at) == before


def test_a_file_that_is_not_there_is_told(at: Command, tmp_path: Path) -> None:
    answer = at("enqueue", "-f", tmp_path / "none.json")
    assert answer.code == 4
    assert "can not be read" in answer.err


def test_an_id_that_is_taken_refuses_the_whole_file(at: Command, tmp_path: Path) -> None:
    assert at("enqueue", "mail.welcome", '{"user_id": 1}', "--id", "mine").code == 0
    before = count(at)
    lines = [f'{GOOD[:-1]}, "id": "{one}"}}' for one in ("other", "mine")]
    answer = at("enqueue", "-f", write(tmp_path, "\n".join(lines)))
    assert answer.code == 10
    assert "jobs.json:2: already taken: 'mine' (held by job mine)" in answer.err
    assert count(at) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "expected a task or --file"),
        (("mail.welcome", "{}", "--file", "x"), 2, "exactly one of the two"),
        (("mail.welcome", "[1"), 4, "payload: expected a JSON object"),
        (("mail.welcom", "{}"), 9, "unknown task 'mail.welcom'"),
        (("mail.welcome", '{"user_id": 1}', "--in", "soon"), 4, "delay: expected"),
        (("mail.welcome",), 4, "missing argument 'user_id'"),
        (("mail.welcome", '{"user_id": "x"}'), 4, "argument 'user_id': expected int, got str"),
        (("mail.welcome", '{"user_id": 1, "user": 2}'), 4, "unknown argument 'user'"),
        (("--file", "x", "--key", "k"), 2, "--file takes no key"),
        (("mail.welcome", "--colour"), 2, "No such option"),
    ],
)
def test_a_wrong_command_is_told_in_one_message(at: Command, arguments: tuple[str, ...], code: int, words: str) -> None:
    answer = at("enqueue", *arguments)
    assert (answer.code, words in answer.err) == (code, True), answer.err
    assert answer.out == ""


def test_with_json_errors_are_json_too(at: Command) -> None:
    answer = at("enqueue", "nope", "--json")
    assert answer.code == 9
    assert json.loads(answer.err)["error"] | {"message": ""} == {"code": "UnknownTask", "exit": 9, "message": ""}
