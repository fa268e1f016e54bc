"""From what a handler returns or raises to an ending: always one, whatever it was."""

import math
from typing import Any

import msgspec
import pytest

from holdfast import Holdfast, cancel, done, fail, snooze
from holdfast.app.inline import begin, claim_of
from holdfast.errors import BadArguments, BadTime
from holdfast.job.commands import Canceled, Claim, Failed, Snoozed, Succeeded
from holdfast.job.model import Job
from holdfast.job.outcome import Cancel, Done, Fail, Snooze
from holdfast.job.retry import backoff
from holdfast.task import Task, TaskProgram
from tests.features import feature


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Strange:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.fixture
def program(app: Holdfast) -> TaskProgram:
    @app.task("x", no_retry_on=(KeyError,), timeout="30s")
    def x() -> None: ...

    return TaskProgram(x)


def claim(task: Task[..., Any], **changes: Any) -> Claim[Job]:
    return claim_of(msgspec.structs.replace(begin(task.job(), 1_000.0), **changes))


@feature("G7", "G8", "G9", "G10", "G11")
@pytest.mark.parametrize(
    ("value", "ending"),
    [
        (None, Succeeded()),
        (0, Succeeded(b"0")),
        ("", Succeeded(b'""')),
        ({"a": [1]}, Succeeded(b'{"a":[1]}')),
        (done(), Succeeded()),
        (done(3, update={"n": 1}), Succeeded(b"3", b'{"n":1}')),
        (Done, Succeeded()),
        (snooze("5m", update={"tries": 2}, reason="patience"), Snoozed(300.0, b'{"tries":2}', "patience")),
        (cancel("gone", update={"n": 1}), Canceled("gone", b'{"n":1}')),
        (Cancel, Canceled()),
        (math.nan, Succeeded(b'"nan"')),
        ("a\x00b", Succeeded('"a␀b"'.encode())),
    ],
    ids=range(12),
)
def test_what_a_handler_returns_becomes_an_ending(program: TaskProgram, value: object, ending: object) -> None:
    assert program.ending(value) == ending


def test_fail_is_final_and_carries_its_update(program: TaskProgram) -> None:
    ending = program.ending(fail("no such\x00account"))
    assert isinstance(ending, Failed)
    assert (ending.error.type, ending.error.text, ending.retryable) == ("Fail", "no such␀account", False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "expected a value that JSON can carry, found object"),
        (Strange(), "expected a value that JSON can carry, found Strange"),
        ("x" * 1_048_575, "result: expected at most 1,048,576 bytes, found 1,048,577. Store the bulk elsewhere"),
        (done(1, update={"x": "x" * 65_536}), "update: expected at most 65,536 bytes"),
        (Snooze(-1.0), "snooze delay: expected 0 or more seconds"),
        (Snooze, 'Return snooze("5m"), say'),
        (Fail, "found the bare class"),
        (done(update=5), "int"),  # type: ignore[arg-type]
    ],
    ids=range(8),
)
def test_a_return_value_that_can_not_be_stored_fails_the_attempt_for_good(
    program: TaskProgram, value: object, words: str
) -> None:
    ending = program.ending(value)
    assert isinstance(ending, Failed)
    assert words in ending.error.text
    assert not ending.retryable, "the work was done: doing it again would end the same way"


def test_a_wrong_snooze_is_told_where_it_is_written() -> None:
    with pytest.raises(BadTime, match="snooze delay: expected a timedelta"):
        snooze("a while")


@feature("G28")
@pytest.mark.parametrize(
    ("error", "kind", "text", "retryable"),
    [
        (ValueError("broken\x00"), "ValueError", "broken␀", True),
        (KeyError("k"), "KeyError", "'k'", False),
        (SystemExit(3), "SystemExit", "3", True),
        (KeyboardInterrupt(), "KeyboardInterrupt", "", True),
        (BadArguments("task 'x': no"), "holdfast.errors.BadArguments", "task 'x': no", False),
        (Silent(), f"{__name__}.Silent", "<Silent, whose text can not be shown: RuntimeError>", True),
        (UnicodeError("\udcff"), "UnicodeError", "\\udcff", True),
    ],
    ids=range(7),
)
def test_what_a_handler_raises_becomes_an_ending(
    program: TaskProgram, error: BaseException, kind: str, text: str, retryable: bool
) -> None:
    ending = program.failed(error)
    assert isinstance(ending, Failed)
    assert (ending.error.type, ending.error.text, ending.retryable) == (kind, text, retryable)
    msgspec.json.encode(ending)


def test_only_errors_asked_for_are_retried(app: Holdfast) -> None:
    def work() -> None: ...

    program = TaskProgram(app.task("x", retry_on=ConnectionError, no_retry_on=ConnectionResetError)(work))
    verdicts = [program.failed(error()) for error in (ConnectionError, ConnectionResetError, ValueError)]
    assert [ending.retryable for ending in verdicts if isinstance(ending, Failed)] == [True, False, False]


def test_the_traceback_begins_at_the_handler_and_is_cut(app: Holdfast) -> None:
    @app.task("deep")
    def deep(n: int = 3_000) -> None:
        raise ValueError("x" * 200_000) if n <= 2_900 else _again(n)

    def _again(n: int) -> Exception:
        deep.function(n - 1)
        return ValueError()

    program = TaskProgram(deep)
    with pytest.raises(ValueError, match="x") as caught:
        program.bind(claim(deep), None)()  # type: ignore[arg-type]
    ending = program.failed(caught.value)
    assert isinstance(ending, Failed)
    assert len(ending.error.traceback.encode()) <= 65_536
    assert len(ending.error.text.encode()) <= 65_536
    assert "[cut: " in ending.error.text
    assert "test_program.py" in ending.error.traceback


async def test_own_delays_are_taken_one_after_the_other(app: Holdfast) -> None:
    async def wait() -> None:
        raise ConnectionError("no")

    policy = app.task("own", backoff=["1s", "10s"], max_attempts=9)(wait).policy.retry
    assert [backoff(policy, failures, jitter=0.5) for failures in (1, 2, 3, 4)] == [1.0, 10.0, 10.0, 10.0]


def test_the_time_limit_is_the_jobs_own_or_the_tasks(app: Holdfast, program: TaskProgram) -> None:
    task = app.tasks.get("x")
    assert task is not None
    assert program.time_limit(claim(task)) == 30.0
    assert program.time_limit(claim(task, timeout=5.0)) == 5.0
    assert claim_of(begin(task.using(timeout="7s").job(), 0.0)).item.timeout == 7.0
