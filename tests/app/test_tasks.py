"""`@app.task`: policy and registry; every wrong option told at once, with what to write instead."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast import Holdfast, RetryPolicy
from holdfast.errors import ConfigError, DuplicateTask
from holdfast.job.model import OnWait
from tests.features import feature


def nothing() -> None:
    """Do nothing."""


async def soon() -> None: ...


@feature("T4", "T5", "T6")
def test_a_task_is_known_by_its_alias_with_the_policy_it_was_given(app: Holdfast) -> None:
    task = app.task(
        "mail.welcome",
        queue="mail",
        max_attempts=7,
        timeout="30s",
        priority=-5,
        on_wait="pass",
        title="Welcome mail",
        memo="owned by growth",
        cancel_grace="2s",
        no_retry_on=(ValueError, KeyError),
    )(nothing)
    policy = task.policy
    assert app.tasks.get("mail.welcome") is task
    assert (policy.queue, policy.retry.max_attempts, policy.timeout, policy.priority) == ("mail", 7, 30.0, -5)
    assert (policy.on_wait, policy.title, policy.memo) == (OnWait.PASS, "Welcome mail", "owned by growth")
    assert (policy.description, policy.cancel_grace) == ("Do nothing.", 2.0)
    assert policy.no_retry_on == (ValueError, KeyError)


def test_a_bare_decorator_takes_the_name_of_the_function(app: Holdfast) -> None:
    assert app.task(nothing).alias == "nothing"
    assert app.task()(soon).alias == "soon"


@pytest.mark.parametrize(
    ("function", "executor", "found"),
    [
        (soon, None, "async"),
        (nothing, None, "thread"),
        (nothing, "thread", "thread"),
        (nothing, "process", "process"),
        (soon, "process", "process"),
    ],
)
def test_the_executor_goes_by_the_kind_of_function(app: Holdfast, function: Any, executor: Any, found: str) -> None:
    given = {} if executor is None else {"executor": executor}
    assert app.task("x", **given)(function).policy.executor == found


class Mailer:
    """A handler may be an object, too."""

    async def __call__(self, user: int) -> int:
        return user

    async def send(self, user: int) -> int:
        return user


async def test_objects_and_methods_are_handlers_too(app: Holdfast) -> None:
    mailer = Mailer()
    tasks: list[Any] = [app.task("object")(mailer), app.task("method")(mailer.send)]
    handles = [await task.enqueue(7) for task in tasks]
    await app.work_once()
    assert [await handle.result(1) for handle in handles] == [7, 7]


def test_own_delays_are_a_retry_policy_too(app: Holdfast) -> None:
    policy = app.task("x", backoff=["1s", 10, "5m"])(nothing).policy
    assert policy.retry.delays == (1.0, 10.0, 300.0)
    assert policy.retry.max_attempts == 4
    assert app.task("y", max_attempts=9, backoff=[1])(nothing).policy.retry.max_attempts == 9
    given = RetryPolicy(max_attempts=2, base=5.0)
    assert app.task("z", retry=given)(nothing).policy.retry == given


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"queue": "a b"}, "queue: expected 1 to 100 letters, digits"),
    (
        {"max_attempts": 0},
        "max_attempts: expected a whole number from 1 (never retry) to 10,000, found 0. N retries are N + 1",
    ),
    ({"max_attempts": 2.5}, "max_attempts: expected a whole number"),
    ({"timeout": "soon"}, "timeout: expected a timedelta, a number of seconds, or a text like"),
    ({"timeout": 0}, "timeout: expected more than 0"),
    ({"backoff": "1s"}, 'backoff: expected a list of delays like ["1s", "10s"], found \'1s\'.'),
    ({"backoff": []}, "backoff: expected at least one delay, found none. For no retries write max_attempts=1."),
    ({"backoff": [-1]}, "backoff: expected 0 or more seconds"),
    ({"retry": 3}, "retry: expected a RetryPolicy, found 3. For your own delays use backoff=[…]."),
    (
        {"retry": RetryPolicy(), "max_attempts": 3},
        "retry: expected retry= alone, found max_attempts= or backoff= beside it.",
    ),
    ({"retry": RetryPolicy(factor=0.5)}, "retry factor: expected a number from 1 to 1,000, found 0.5."),
    ({"executor": "fibre"}, "executor: expected one of 'async', 'thread', 'process', found 'fibre'."),
    (
        {"executor": "async"},
        "executor: expected an `async def` for executor='async', found a plain `def`. Leave executor out.",
    ),
    ({"priority": 101}, "priority: expected a whole number from -100 to 100, found 101"),
    ({"on_wait": "stop"}, "on_wait: expected one of 'hold', 'pass', found 'stop'."),
    (
        {"no_retry_on": "ValueError"},
        "retry_on, no_retry_on: expected exception classes, found 'ValueError'. Pass (ValueError,).",
    ),
    ({"cancel_grace": "x"}, "cancel_grace: expected a timedelta"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_option_is_told_with_what_to_write(app: Holdfast, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        app.task("x", **options)(nothing)
    assert str(caught.value).startswith("task 'x': the options can not be used:\n  - ")
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1


def test_all_wrong_options_are_told_at_once(app: Holdfast) -> None:
    with pytest.raises(ConfigError) as caught:
        app.task("a b", queue="", timeout="x", priority=1000)(nothing)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["alias", "queue", "timeout", "priority"]


def test_a_thread_for_an_async_function_is_refused(app: Holdfast) -> None:
    with pytest.raises(ConfigError, match="expected a plain `def` for executor='thread', found an `async def`"):
        app.task("x", executor="thread")(soon)


def test_two_tasks_of_one_alias_name_both_places(app: Holdfast) -> None:
    app.task("mail")(nothing)
    with pytest.raises(DuplicateTask) as caught:
        app.task("mail")(soon)
    text = str(caught.value)
    assert "test_tasks.nothing (" in text
    assert "test_tasks.soon (" in text
    assert text.count("test_tasks.py:") == 2
    assert 'Give one of them another: @app.task("another.alias").' in text


def test_a_task_is_not_made_of_a_task(app: Holdfast) -> None:
    task = app.task("one")(nothing)
    with pytest.raises(ConfigError, match=r"<task one> is a task already. Put @app.task once"):
        app.task("two")(task)


def test_a_process_task_in_main_is_refused_with_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from holdfast import Holdfast\n"
        "app = Holdfast()\n"
        "@app.task('heavy', executor='process')\n"
        "def heavy() -> None: ...\n"
    )
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "this one is in __main__. Move the task (and its app) into a module of its own and import it" in run.stderr


async def items() -> Any:
    yield 1


def lines() -> Any:
    yield 1


@pytest.mark.parametrize("function", [items, lines])
def test_a_generator_is_no_task_because_calling_it_runs_nothing(app: Holdfast, function: Any) -> None:
    with pytest.raises(ConfigError, match=r"found a generator. Calling it would run nothing: return a list"):
        app.task("numbers")(function)


@pytest.mark.parametrize("thing", [5, dict, None])
def test_what_is_no_function_is_no_task(app: Holdfast, thing: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a function, found .*Put @app.task above a def or async def"):
        app.task("numbers")(thing)


def test_an_unknown_option_of_a_task_is_told_beside_those_that_exist(app: Holdfast) -> None:
    options: dict[str, Any] = {"retries": 3}
    with pytest.raises(
        ConfigError, match=r"@app.task: unknown option 'retries'. Expected some of queue, max_attempts,"
    ):
        app.task("one", **options)


def test_texts_that_are_no_text_are_told_with_the_other_faults(app: Holdfast) -> None:
    options: dict[str, Any] = {"title": 5, "memo": b"x", "priority": 1000}
    with pytest.raises(ConfigError) as caught:
        app.task("one", **options)(nothing)
    assert len(caught.value.faults) == 3
    assert caught.value.faults[1:] == (
        "title: expected text, found 5 (int).",
        "memo: expected text, found b'x' (bytes).",
    )
