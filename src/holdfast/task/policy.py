"""How a task's jobs run: the options of `@app.task`, checked at once, with every fault named."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from holdfast.durations import Duration, seconds
from holdfast.errors import ConfigError, ContentError
from holdfast.job.content import clean_text
from holdfast.job.ids import check_name, check_priority
from holdfast.job.model import DEFAULT_QUEUE, OnWait
from holdfast.job.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

ExecutorName = Literal["async", "thread", "process"]
EXECUTORS: Final = ("async", "thread", "process")
ATTEMPTS_MAX: Final = 10_000
TITLE_MAX: Final = 255
DESCRIPTION_MAX: Final = 16 * 1024
CANCEL_GRACE: Final = 5.0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The checked options of a task. Durations are seconds."""

    alias: str
    queue: str = DEFAULT_QUEUE
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    executor: ExecutorName = "async"
    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    no_retry_on: tuple[type[BaseException], ...] = ()
    priority: int = 0
    on_wait: OnWait = OnWait.HOLD
    title: str = ""
    description: str = ""
    memo: str = ""
    cancel_grace: float = CANCEL_GRACE
    sticky: str | None = None  # the service whose pods run its jobs


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `@app.task` as they were written; see `Holdfast.task` for what they mean."""

    queue: str = DEFAULT_QUEUE
    max_attempts: int | None = None
    retry: Any = None
    backoff: Any = None
    timeout: Any = None
    executor: str | None = None
    retry_on: Any = None
    no_retry_on: Any = ()
    priority: int = 0
    on_wait: str = OnWait.HOLD
    title: str = ""
    description: str | None = None
    memo: str = ""
    cancel_grace: Any = CANCEL_GRACE
    sticky: Any = None


def make_policy(alias: str, function: Callable[..., Any], options: TaskOptions) -> Policy:
    """Return the checked policy of a task. Raises ConfigError that lists every fault."""
    _refuse_what_no_job_can_run(alias, function)
    faults = _Faults()
    retry = faults.of(lambda: read_retry(options.retry, options.max_attempts, options.backoff), RetryPolicy())
    policy = Policy(
        alias=faults.of(lambda: check_name(alias, "alias"), ""),
        queue=faults.of(lambda: check_name(options.queue, "queue"), ""),
        retry=retry,
        timeout=faults.of(lambda: read_timeout(options.timeout), None),
        executor=faults.of(lambda: _read_executor(options.executor, function), "async"),
        retry_on=faults.of(
            lambda: _read_errors((BaseException,) if options.retry_on is None else options.retry_on), ()
        ),
        no_retry_on=faults.of(lambda: _read_errors(options.no_retry_on), ()),
        priority=faults.of(lambda: check_priority(options.priority), 0),
        on_wait=faults.of(lambda: read_choice(OnWait, options.on_wait, "on_wait"), OnWait.HOLD),
        title=faults.of(lambda: _read_text(options.title, "title", TITLE_MAX), ""),
        description=faults.of(
            lambda: _read_text(_read_description(options.description, function), "description", DESCRIPTION_MAX), ""
        ),
        memo=faults.of(lambda: _read_text(options.memo, "memo", DESCRIPTION_MAX), ""),
        cancel_grace=faults.of(lambda: seconds(options.cancel_grace, "cancel_grace"), CANCEL_GRACE),
        sticky=faults.of(lambda: _read_sticky(options.sticky, options.executor), None),
    )
    if faults.found:
        raise ConfigError(f"task {alias!r}: the options can not be used:", faults.found)
    return policy


def _refuse_what_no_job_can_run(alias: str, function: object) -> None:
    inner = inspect.unwrap(function) if callable(function) else function
    if not callable(inner) or isinstance(inner, type):
        raise ConfigError(
            f"task {alias!r}: expected a function, found {inner!r:.80}. Put @app.task above a def or async def."
        )
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ConfigError(
            f"task {alias!r}: expected a function that returns its result, found a generator. Calling it would run nothing: "
            "return a list, or enqueue a job for each item."
        )


class _Faults:
    """Collects the messages of checks that fail, so that one run shows them all."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, check: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return check()
        except (ConfigError, ContentError) as error:
            self.found.append(str(error))
            return otherwise


def read_timeout(value: Duration | None) -> float | None:
    """Return a time limit in seconds; None: no limit."""
    return None if value is None else seconds(value, "timeout", positive=True)


def read_retry(retry: Any, max_attempts: int | None, backoff: Any = None) -> RetryPolicy:
    """Return the policy of `retry=`, or of `max_attempts=` and `backoff=`."""
    if retry is not None:
        if max_attempts is not None or backoff is not None:
            raise ConfigError("retry: expected retry= alone, found max_attempts= or backoff= beside it. Leave one out.")
        if not isinstance(retry, RetryPolicy):
            raise ConfigError(
                f"retry: expected a RetryPolicy, found {retry!r:.80}. For your own delays use backoff=[…]."
            )
        return _check_retry(retry)
    if backoff is not None:
        return _read_backoff(backoff, max_attempts)
    return RetryPolicy(max_attempts=_read_attempts(5 if max_attempts is None else max_attempts))


def _read_backoff(backoff: Any, max_attempts: int | None) -> RetryPolicy:
    if isinstance(backoff, str) or not hasattr(backoff, "__iter__"):
        raise ConfigError(f'backoff: expected a list of delays like ["1s", "10s"], found {backoff!r:.80}.')
    delays = tuple(seconds(delay, "backoff") for delay in backoff)
    if not delays:
        raise ConfigError("backoff: expected at least one delay, found none. For no retries write max_attempts=1.")
    attempts = _read_attempts(len(delays) + 1 if max_attempts is None else max_attempts)
    return RetryPolicy(max_attempts=attempts, delays=delays)


def _read_attempts(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= ATTEMPTS_MAX:
        return value
    raise ConfigError(
        f"max_attempts: expected a whole number from 1 (never retry) to {ATTEMPTS_MAX:,}, found {value!r:.80}. "
        "N retries are N + 1 attempts."
    )


def _check_retry(retry: RetryPolicy) -> RetryPolicy:
    _read_attempts(retry.max_attempts)
    seconds(retry.base, "retry base")
    seconds(retry.cap, "retry cap")
    if not 1.0 <= retry.factor <= 1_000.0:
        raise ConfigError(
            f"retry factor: expected a number from 1 to 1,000, found {retry.factor!r}. 2 doubles each wait."
        )
    return retry


def read_choice(choices: Any, value: object, what: str) -> Any:
    """Return the member of the enum `choices` that `value` names."""
    try:
        return choices(value)
    except ValueError:
        names = ", ".join(repr(choice.value) for choice in choices)
        raise ConfigError(f"{what}: expected one of {names}, found {value!r:.80}.") from None


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling `function` gives something to await: an `async def`, or an object whose `__call__` is one."""
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


def _read_executor(value: str | None, function: Callable[..., Any]) -> str:
    if value is None:
        return "async" if is_async(function) else "thread"
    if value not in EXECUTORS:
        raise ConfigError(f"executor: expected one of {', '.join(map(repr, EXECUTORS))}, found {value!r:.80}.")
    if is_async(function) and value == "thread":
        raise ConfigError(
            "executor: expected a plain `def` for executor='thread', found an `async def`. Leave executor out."
        )
    if not is_async(function) and value == "async":
        raise ConfigError(
            "executor: expected an `async def` for executor='async', found a plain `def`. Leave executor out."
        )
    if value == "process" and getattr(inspect.unwrap(function), "__module__", "") == "__main__":
        raise ConfigError(
            "executor: a process child imports its task by module name, but this one is in __main__. "
            "Move the task (and its app) into a module of its own and import it, or use executor='thread'."
        )
    return value


def _read_sticky(value: Any, executor: str | None) -> str | None:
    if value is None:
        return None
    name = getattr(value, "name", value)
    if not isinstance(name, str) or not name:
        raise ConfigError(f'sticky: expected what app.sticky("…") returned, found {value!r:.80}.')
    if executor == "process":
        raise ConfigError(
            "sticky: expected an async or a thread executor, found process: the state of a key lives in the worker's own "
            "process, where a child can not reach it. Leave executor out."
        )
    return name


def _read_errors(value: Any) -> tuple[type[BaseException], ...]:
    kinds = value if isinstance(value, tuple | list) else (value,)
    wrong = [kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, BaseException))]
    if wrong:
        raise ConfigError(
            f"retry_on, no_retry_on: expected exception classes, found {wrong[0]!r:.80}. Pass (ValueError,)."
        )
    return tuple(kinds)


def _read_text(value: object, what: str, most: int) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{what}: expected text, found {value!r:.80} ({type(value).__name__}).")
    if len(value) > most:
        raise ConfigError(f"{what}: expected at most {most:,} characters, found {len(value):,}. Shorten it.")
    return clean_text(value, 4 * most)


def _read_description(value: str | None, function: Callable[..., Any]) -> str:
    """What was given; else the docstring, of which there may be too much: its beginning then."""
    return clean_text(inspect.cleandoc(function.__doc__ or ""), DESCRIPTION_MAX) if value is None else value
