"""Handlers of every kind run, and whatever they do, their job ends and the worker goes on."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from holdfast.errors import UsageError
from holdfast.job.commands import Canceled, ErrorInfo, Failed, Snoozed
from holdfast.job.model import Job
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.worker.context import Context, current
from holdfast.worker.program import Executor
from tests.features import feature
from tests.worker.rig import Rig

ONE_TRY = RetryPolicy(max_attempts=1)


@feature("T17", "G13")
async def test_an_async_handler_gets_its_arguments_and_its_result_is_stored(rig: Rig) -> None:
    @rig.task
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    job_id = await rig.enqueue("add", {"a": 2, "b": 3})
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, b"5")
    assert job.last is not None
    assert (job.last.end, job.last.number, job.last.duration) == (End.SUCCEEDED, 1, 0.0)


async def test_a_plain_function_runs_in_a_thread_of_the_workers_own(rig: Rig) -> None:
    @rig.task
    def where() -> str:
        return threading.current_thread().name

    job_id = await rig.enqueue("where")
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.result is not None
    assert job.result.startswith(b'"holdfast-')


async def test_threads_are_made_on_demand_one_for_each_running_job(rig: Rig) -> None:
    both = threading.Barrier(2, timeout=60)
    names: set[str] = set()

    @rig.task
    def meet() -> None:
        both.wait()
        names.add(threading.current_thread().name)

    ids = [await rig.enqueue("meet") for _ in range(6)]
    async with rig.working(queues={"default": 2}):
        await rig.ended(*ids)
    assert len(names) == 2


async def test_every_execution_gets_a_fresh_context(rig: Rig) -> None:
    seen: list[Context] = []

    @rig.task
    async def look(ctx: Context) -> None:
        assert ctx.local == {}
        ctx.local["mine"] = ctx.id
        seen.append(ctx)
        assert current() is ctx
        if len(seen) == 1:
            raise ValueError("again")

    job_id = await rig.enqueue("look")
    async with rig.working(state="what the lifespan yielded"):
        await rig.ended(job_id)
    first, second = seen
    assert first is not second
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.token > first.token
    assert (first.id, first.task, first.queue, first.job.id) == (job_id, "look", "default", job_id)
    assert (first.state, first.cancelled, first.cancel_reason, first.time_left) == (
        "what the lifespan yielded",
        False,
        None,
        None,
    )


async def test_current_tells_outside_of_a_handler_what_to_do() -> None:
    with pytest.raises(UsageError, match="within a task"):
        current()


@pytest.mark.parametrize("executor", [Executor.ASYNC, Executor.THREAD])
async def test_jobs_do_not_leak_context_variables_into_each_other(rig: Rig, executor: Executor) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="untouched")
    seen: list[str] = []

    def leave(ctx: Context) -> None:
        seen.append(variable.get())
        variable.set(ctx.id)

    async def leave_async(ctx: Context) -> None:
        leave(ctx)

    rig.task(leave if executor is Executor.THREAD else leave_async, name="leave")
    ids = [await rig.enqueue("leave") for _ in range(5)]
    async with rig.working(queues={"default": 1}):
        await rig.ended(*ids)
    assert seen == ["untouched"] * 5


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Wild(BaseException):
    pass


@feature("G28", "T18")
@pytest.mark.parametrize("executor", [Executor.ASYNC, Executor.THREAD])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(1),
        StopAsyncIteration(),
        Unprintable(),
        Wild(),
        ExceptionGroup("many", [ValueError(1), TypeError(2)]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_handler_raises_fails_the_attempt_and_nothing_else(
    rig: Rig, executor: Executor, error: BaseException
) -> None:
    def bad() -> None:
        raise error

    async def bad_async() -> None:
        await asyncio.sleep(0)
        raise error

    @rig.task
    async def good() -> str:
        return "fine"

    rig.task(bad if executor is Executor.THREAD else bad_async, name="bad")
    bad_id = await rig.enqueue("bad", retry=ONE_TRY)
    async with rig.working(queues={"default": 1}) as worker:
        [failed] = await rig.ended(bad_id)
        good_id = await rig.enqueue("good")
        [succeeded] = await rig.ended(good_id)
        assert worker.busy == 0
    assert failed.state is State.FAILED
    assert failed.last is not None
    assert failed.last.end is End.FAILED
    assert succeeded.state is State.SUCCEEDED
    assert [job_id for _, job_id, _ in rig.errors] == [bad_id]


async def test_a_result_that_can_not_be_encoded_fails_the_attempt(rig: Rig) -> None:
    @rig.task
    async def odd() -> object:
        return object()

    job_id = await rig.enqueue("odd", retry=ONE_TRY)
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.state is State.FAILED
    assert "JSON" in job.error


async def test_arguments_that_do_not_fit_fail_the_attempt(rig: Rig) -> None:
    @rig.task
    async def takes_one(one: int) -> None: ...

    job_id = await rig.enqueue("takes_one", {"two": 2}, retry=ONE_TRY)
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.state is State.FAILED
    assert "two" in job.error


async def test_a_program_that_breaks_its_word_loses_no_job(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    program = rig.functions.get("fine")
    assert program is not None

    def broken(_: object) -> Any:
        raise RuntimeError("the program itself is broken")

    program.ending = broken  # type: ignore[method-assign,assignment]
    program.failed = broken  # type: ignore[method-assign,assignment]
    job_id = await rig.enqueue("fine", retry=ONE_TRY)
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.state is State.FAILED
    assert "its program raised" in job.error


@feature("G9", "G10", "G11")
async def test_outcomes_are_stored_as_the_handler_says(rig: Rig) -> None:
    @rig.task
    async def snooze() -> object:
        return Snoozed(60.0, b'{"tries":1}', "busy")

    @rig.task
    async def cancel() -> object:
        return Canceled("nobody there")

    @rig.task
    async def fail() -> object:
        return Failed(ErrorInfo("Fail", "no such account"), retryable=False)

    snoozed, canceled, failed = [await rig.enqueue(name) for name in ("snooze", "cancel", "fail")]
    async with rig.working():
        await rig.ended(canceled, failed)
        await rig.watch.times("settled", 3)
    job = await rig.job(snoozed)
    assert (job.state, job.data, job.failures) == (State.SCHEDULED, b'{"tries":1}', 0)
    assert (await rig.job(canceled)).state is State.CANCELED
    assert (await rig.job(failed)).error == "no such account"


async def test_a_snoozed_job_runs_again_when_it_is_due(rig: Rig) -> None:
    runs: list[int] = []

    @rig.task
    async def twice(ctx: Context) -> object:
        runs.append(ctx.attempt)
        return Snoozed(60.0) if len(runs) == 1 else None

    job_id = await rig.enqueue("twice")
    async with rig.working():
        await rig.watch.times("settled", 1)
        rig.advance(59.0)
        assert runs == [1]
        rig.advance(2.0)
        await rig.ended(job_id)
    assert runs == [1, 2]


async def test_middleware_is_wrapped_around_each_attempt_the_first_one_outermost(rig: Rig) -> None:
    order: list[str] = []

    def named(name: str) -> Any:
        async def middleware(ctx: Context, call_next: Any) -> object:
            order.append(f"{name} in")
            ctx.local[name] = True
            value = await call_next()
            order.append(f"{name} out")
            return [name, value]

        return middleware

    @rig.task
    async def inner(ctx: Context) -> str:
        order.append("handler")
        return ",".join(ctx.local)

    @rig.task
    def inner_thread(ctx: Context) -> str:
        return ",".join(ctx.local)

    first, second = await rig.enqueue("inner"), await rig.enqueue("inner_thread")
    async with rig.working(middleware=(named("a"), named("b")), queues={"default": 1}):
        jobs = await rig.ended(first, second)
    assert order[:5] == ["a in", "b in", "handler", "b out", "a out"]
    assert [job.result for job in jobs] == [b'["a",["b","a,b"]]'] * 2


async def test_middleware_may_change_the_outcome_and_sees_what_a_handler_raises(rig: Rig) -> None:
    async def forgiving(ctx: Context, call_next: Any) -> object:
        try:
            return await call_next()
        except ValueError as error:
            return f"forgiven: {error}"

    @rig.task
    def bad() -> None:
        raise ValueError("oh")

    job_id = await rig.enqueue("bad")
    async with rig.working(middleware=(forgiving,)):
        [job] = await rig.ended(job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, b'"forgiven: oh"')


async def test_what_on_error_and_observers_raise_is_harmless(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def bad_handler(queue: str, job: Job, error: BaseException) -> None:
        raise RuntimeError("on_error is broken")

    def broken(*_: object) -> None:
        raise RuntimeError("an observer is broken")

    rig.watch.claimed = broken  # type: ignore[method-assign,assignment]

    @rig.task
    async def bad() -> None:
        raise ValueError("no")

    ids = [await rig.enqueue("bad", retry=ONE_TRY) for _ in range(2)]
    async with rig.working(on_error=bad_handler):
        jobs = await rig.ended(*ids)
    assert [job.state for job in jobs] == [State.FAILED] * 2
    assert "on_error raised" in caplog.text
    assert "an observer raised" in caplog.text


async def test_an_async_on_error_is_awaited_before_the_worker_ends(rig: Rig) -> None:
    told: list[str] = []

    async def on_error(queue: str, job: Job, error: BaseException) -> None:
        await asyncio.sleep(0)
        told.append(job.id)

    @rig.task
    async def bad() -> None:
        raise ValueError("no")

    job_id = await rig.enqueue("bad", retry=ONE_TRY)
    async with rig.working(on_error=on_error):
        await rig.ended(job_id)
    assert told == [job_id]


async def test_a_job_of_a_process_task_runs_in_a_child(rig: Rig) -> None:
    @rig.task(executor=Executor.PROCESS)
    def whoami() -> None:
        """The child has its own."""

    job_id = await rig.enqueue("whoami")
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.state is State.SUCCEEDED, job.error
    assert job.result is not None
