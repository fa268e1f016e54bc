"""The worker of an app: executors, lifespan, middleware, error handler, passes, options."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import Context, Holdfast, State
from holdfast.errors import ConfigError, JobFailed, UsageError
from tests.app import shop
from tests.features import feature


@pytest.fixture
async def shop_app() -> AsyncIterator[Holdfast]:
    shop.errors.clear()
    async with shop.app:
        yield shop.app


@feature("T7", "T28")
async def test_handlers_run_in_the_loop_in_threads_and_in_processes(shop_app: Holdfast) -> None:
    tasks = (shop.where_async, shop.where_thread, shop.where_process)
    async with shop_app.worker(queues={"default": 4}):
        handles = [await task.enqueue(n) for n, task in enumerate(tasks)]
        results = [await handle.result(timeout=60) for handle in handles]
        assert await (await shop.where_process_async.enqueue(9)).result(timeout=60) == 9
    in_loop, in_thread, _ = results
    assert [result["n"] for result in results] == [0, 1, 2]
    assert in_loop["thread"] == "MainThread"
    assert in_thread["thread"] != "MainThread"
    assert [result["pid"] == os.getpid() for result in results] == [True, True, False]
    # The lifespan was entered once in each worker process, and handlers find what it yielded.
    assert [result["state"]["pid"] == result["pid"] for result in results] == [True] * 3
    attempt = (await handles[2].get()).last
    assert attempt is not None
    assert attempt.progress == b'{"half":true}'


@feature("A12", "T21")
@pytest.mark.parametrize("mode", ["async", "thread", "process"])
@pytest.mark.parametrize("how", ["worker", "work_once"])
async def test_on_error_sees_every_failed_attempt_in_every_mode(shop_app: Holdfast, mode: str, how: str) -> None:
    task = {"async": shop.fail_async, "thread": shop.fail_thread, "process": shop.fail_process}[mode]
    handle = await task.enqueue()
    if how == "worker":
        async with shop_app.worker():
            with pytest.raises(JobFailed):
                await handle.result(timeout=60)
    else:
        while not (await handle.get()).final:
            await shop_app.work_once()
    assert [(queue, name) for queue, name, _ in shop.errors] == [("default", task.alias)] * 2
    job = await handle.get()
    assert (job.attempt, job.failures, job.state) == (2, 2, State.FAILED)
    assert job.error.strip("'") == mode


async def test_a_plain_handler_enqueues_through_sync_and_waits(shop_app: Holdfast) -> None:
    async with shop_app.worker():
        assert await (await shop.enqueue_in_thread.enqueue(7)).result(timeout=60) == "7"


async def test_a_handler_in_a_process_can_not_enqueue_into_the_memory_of_another(shop_app: Holdfast) -> None:
    async with shop_app.worker():
        handle = await shop.enqueue_in_process.enqueue()
        with pytest.raises(
            JobFailed, match=r"whose store is memory: and lives in the worker's process alone. Use journal:"
        ):
            await handle.result(timeout=60)


# --- hooks ---------------------------------------------------------------------------------------------------------


async def test_the_lifespan_surrounds_the_worker_and_may_take_the_app(app: Holdfast) -> None:
    order: list[Any] = []

    @app.lifespan
    async def life(held: Holdfast) -> AsyncIterator[str]:
        order.append(held is app)
        yield "pool"
        order.append("closed")

    @app.task("use")
    async def use(*, ctx: Context) -> None:
        order.append(ctx.state)

    for _ in range(2):
        await use.enqueue()  # type: ignore[call-arg]  # `ctx` has no default here
    async with app.worker() as worker:
        await asyncio.gather(*[(await app.open()).finished([job.id], 10) for job in (await app.jobs.list()).items])
        assert worker.state == "pool"
    assert order == [True, "pool", "pool", "closed"]
    with pytest.raises(ConfigError, match=r"lifespan: expected one, found a second. Join them in one function"):
        app.lifespan(life)


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_middleware_surrounds_each_attempt_the_first_one_outermost(app: Holdfast, kind: str) -> None:
    order: list[str] = []

    @app.middleware
    async def outer(ctx: Context, call_next: Any) -> Any:
        order.append(f"outer {ctx.task}")
        try:
            return await call_next()
        finally:
            order.append("outer ends")

    @app.middleware
    async def inner(ctx: Context, call_next: Any) -> Any:
        order.append("inner")
        ctx.local["mark"] = 1
        return f"wrapped {await call_next()}"

    def work(*, ctx: Context) -> str:
        order.append(f"handler {ctx.local['mark']}")
        return "result"

    async def work_async(*, ctx: Context) -> str:
        return work(ctx=ctx)

    task: Any = app.task("x")(work_async if kind == "async" else work)
    handle = await task.enqueue()
    await app.work_once()
    assert await handle.result(1) == "wrapped result"
    assert order == ["outer x", "inner", "handler 1", "outer ends"]


def test_a_middleware_that_can_not_wait_is_refused(app: Holdfast) -> None:
    def plain(ctx: Context, call_next: Any) -> Any:
        return call_next()

    with pytest.raises(ConfigError, match=r"middleware: expected an async function \(ctx, call_next\), found .*plain"):
        app.middleware(plain)


def test_a_second_error_handler_is_refused(app: Holdfast) -> None:
    app.on_error(print)
    with pytest.raises(ConfigError, match=r"on_error: expected one function, found a second. Call both from one"):
        app.on_error(print)


# --- passes and options --------------------------------------------------------------------------------------------


@feature("G27", "T30")
async def test_one_pass_runs_what_is_ready_in_every_queue_and_says_what_became_of_it(app: Holdfast) -> None:
    @app.task("work", max_attempts=1)
    async def work(n: int) -> int:
        return 1 // n

    good = await work.using(queue="one").enqueue(1)
    bad = await work.using(queue="two").enqueue(0)
    await work.using(delay="1h").enqueue(1)
    made = await app.work_once()
    assert made.done == (good.id,)
    assert [(failure.id, failure.final) for failure in made.failed] == [(bad.id, True)]
    assert (await app.work_once()).empty


@feature("G14")
async def test_a_pass_takes_no_more_than_its_limit(app: Holdfast) -> None:
    @app.task("work")
    async def work() -> None: ...

    await work.enqueue_many([()] * 5)
    assert [(await app.work_once(limit=2)).total for _ in range(4)] == [2, 2, 1, 0]
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="work_once: expected a limit of 1 or more jobs"):
            await app.work_once(limit=wrong)  # type: ignore[arg-type]


async def test_a_worker_without_queues_serves_those_of_its_tasks(app: Holdfast) -> None:
    app.task("a", queue="mail")(lambda: None)
    app.task("b", queue="ledger")(lambda: None)
    async with app.worker() as worker:
        assert set(worker.describe().queues) == {"mail", "ledger"}
        assert worker.describe().tasks == ("a", "b")
        assert [one.alias for one in await app.definitions.list()] == ["a", "b"], "the worker makes its tasks known"


@pytest.mark.parametrize(
    ("queues", "options", "error", "words"),
    [
        ({"mail": 0}, {}, ConfigError, "queues['mail']: expected \"serial\" or a whole number from 1"),
        ({"mail": "parallel"}, {}, ConfigError, 'expected "serial" or a whole number'),
        ({"a b": 1}, {}, ConfigError, "queues: expected 1 to 100 letters"),
        ({}, {}, ConfigError, "queues: expected at least one"),
        (None, {"lease": -1}, ConfigError, "lease: expected"),
        (None, {"leese": 30}, UsageError, "worker: unknown option 'leese'. Expected some of queues, slots"),
    ],
)
async def test_wrong_worker_options_are_told(
    app: Holdfast, queues: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        async with app.worker(queues=queues, **options):
            pass
    assert words in str(caught.value)


@feature("T12", "A8")
async def test_a_serial_queue_never_overlaps_and_a_concurrent_one_fills_its_limit(app: Holdfast) -> None:
    running = {"ledger": 0, "mail": 0}
    most = {"ledger": 0, "mail": 0}

    async def work(queue: str) -> None:
        running[queue] += 1
        most[queue] = max(most[queue], running[queue])
        for _ in range(5):
            await asyncio.sleep(0)
        running[queue] -= 1

    task = app.task("work")(work)
    for queue in most:
        await task.using(queue=queue).enqueue_many([(queue,)] * 30)
    async with app.worker(queues={"ledger": "serial", "mail": 4}):
        ids = [job.id for job in (await app.jobs.list(limit=100)).items]
        assert len(await (await app.open()).finished(ids, 60)) == 60
    assert most == {"ledger": 1, "mail": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": ["mail"]}, r"queues: expected a dict, as in {\"mail\": 10}, found \['mail'\]"),
        ({"queues": "mail"}, "queues: expected a dict"),
        ({"weights": ["mail"]}, "weights: expected a dict"),
        ({"lease": "30s"}, "lease: expected a number of seconds, found '30s'"),
        ({"zombies": "few"}, "zombies: expected a share as a number, found 'few'"),
        ({"buffer": "big"}, "buffer: expected 0 to 2000, found 'big'"),
        ({"max_jobs_per_child": 0}, "max_jobs_per_child: expected a whole number from 1, found 0"),
        ({"max_rss": -1}, "max_rss: expected a whole number from 1, found -1"),
    ],
)
async def test_an_option_of_the_worker_of_a_wrong_kind_is_told_by_name(
    app: Holdfast, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        async with app.worker(**options):
            pass


def test_a_lifespan_that_yields_nothing_is_refused_where_it_stands(app: Holdfast) -> None:
    async def life() -> None: ...

    with pytest.raises(ConfigError, match="lifespan: expected an async def with one yield"):
        app.lifespan(life)
