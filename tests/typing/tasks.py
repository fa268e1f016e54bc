"""What type checkers must know of tasks: arguments of `enqueue`, results, options. Checked by mypy and pyright, never run.

A line with an expected error carries ignores of both; an ignore that is not needed is an error, so that each must be one.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from holdfast import Context, Holdfast, JobHandle, RetryPolicy, done, injected, snooze
from holdfast.job.commands import JobCount
from holdfast.job.outcome import Done, Snooze
from holdfast.task import Call, Handles

app = Holdfast("memory:")


@dataclass
class Order:
    number: str
    cents: int = 0


@app.task("mail.welcome", queue="mail", max_attempts=5, timeout="30s")
async def welcome(user_id: int, lang: str = "en", *, ctx: Context = injected) -> str:
    return f"{user_id} {lang} {ctx.attempt}"


@app.task
def resize(path: str, width: float) -> tuple[int, int]:
    return (len(path), int(width))


@app.task(queue="ledger", backoff=["1s", timedelta(seconds=5), 30], executor="thread", no_retry_on=ValueError)
def charge(order: Order) -> dict[str, int]:
    return {order.number: order.cents}


@app.task("first")
async def with_context_first(ctx: Context, user_id: int) -> int:
    return ctx.attempt + user_id


@app.task("patient", retry=RetryPolicy(max_attempts=3))
async def patient(tries: int) -> str | Snooze | Done:
    return snooze("5m", update={"tries": tries}) if tries else done("ok")


async def arguments_and_results() -> None:
    job = await welcome.enqueue(42, lang="de")
    assert_type(job, JobHandle[str])
    assert_type(await job.result(timeout="5s"), str)
    assert_type(job.sync.result(timeout=5), str)
    assert_type(await (await resize.enqueue("a.png", 0.5)).result(), tuple[int, int])
    assert_type(await (await charge.enqueue(Order("o-1"))).result(), dict[str, int])
    assert_type(await (await with_context_first.enqueue(1)).result(), int)
    # What a handler decides is no result.
    assert_type(await (await patient.enqueue(1)).result(), str)
    assert_type(await app.enqueue("elsewhere", {"n": 1}, queue="mail"), JobHandle[Any])


async def views_keep_the_types() -> None:
    later = welcome.using(delay="10m", priority=3, key="user:42", unique="welcome:42", tags=["vip"], headers={"a": 1})
    assert_type(await later.enqueue(42), JobHandle[str])
    assert_type(later.using(run_at=datetime.now(UTC)).sync.enqueue(42, lang="de"), JobHandle[str])
    assert_type(await welcome.enqueue_many([(1,), {"user_id": 2}, welcome.args(3, lang="fr")]), Handles[str])
    assert_type(welcome.sync.using(queue="slow").enqueue_many([(1,)]), Handles[str])
    assert_type(welcome.args(1), Call)


async def calls_just_run_the_function() -> None:
    work: Coroutine[Any, Any, str] = welcome(42)
    assert_type(await work, str)
    assert_type(resize("a.png", 1), tuple[int, int])


def without_a_loop() -> None:
    assert_type(welcome.sync.enqueue(42), JobHandle[str])
    assert_type(app.sync(app.jobs.count(queue="mail", states=["failed"])), JobCount)


async def wrong_arguments() -> None:
    await welcome.enqueue("42")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await welcome.enqueue()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await resize.enqueue("a.png", 1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await welcome.enqueue(42, land="de")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    welcome.sync.enqueue(b"42")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await welcome.using(delay=5).enqueue(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge.enqueue("o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    welcome.args("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await with_context_first.enqueue("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong_options(when: object) -> None:
    welcome.using(delai="5m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    welcome.using(priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    welcome.using(run_at=when)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.jobs.count(quue="mail")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
