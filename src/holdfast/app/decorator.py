"""The types of `@app.task(…)`: what it takes, and what it makes of a function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from holdfast.durations import Duration
from holdfast.job.model import OnWait
from holdfast.job.outcome import Outcome
from holdfast.job.retry import RetryPolicy
from holdfast.sticky.service import Sticky
from holdfast.task import AsyncTask, PlainTask
from holdfast.worker.context import Context

P = ParamSpec("P")
R = TypeVar("R")

Errors = type[BaseException] | Sequence[type[BaseException]]


class TaskParameters(TypedDict, total=False):
    """The options of a task; see `Holdfast.task`."""

    queue: str
    max_attempts: int
    backoff: Sequence[Duration]
    retry: RetryPolicy
    timeout: Duration | None
    executor: Literal["async", "thread", "process"]
    retry_on: Errors
    no_retry_on: Errors
    priority: int
    on_wait: OnWait | Literal["hold", "pass"]
    title: str
    description: str
    memo: str
    cancel_grace: Duration
    sticky: Sticky
    cron: str
    every: Duration
    zone: str


class TaskDecorator(Protocol):
    """Makes a function a task. A first parameter of type Context is not one of its arguments."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # of these the first that fits is meant
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R | Outcome]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R | Outcome]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R | Outcome], /) -> PlainTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R | Outcome], /) -> PlainTask[P, R]: ...
