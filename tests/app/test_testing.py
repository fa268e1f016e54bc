"""What users get for their tests: inline mode, drain, assert_enqueued, crash simulation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import Context, Holdfast, State, Task, current, injected, snooze
from holdfast.errors import BadArguments, JobFailed, UnknownTask, UsageError
from holdfast.job.state import End
from holdfast.testing import ManualClock, assert_enqueued, drain, simulate_crashes

# --- inline --------------------------------------------------------------------------------------------------------


async def test_inline_a_job_has_run_when_its_enqueue_returns(app: Holdfast) -> None:
    seen: list[Any] = []

    @app.task("note")
    async def note(n: int, *, ctx: Context = injected) -> int:
        ctx.log("noted")
        ctx.progress({"step": 1}, update={"n": n})
        assert current() is ctx
        seen.append((n, ctx.attempt, ctx.state))
        return n * 2

    with app.testing(inline=True) as run:
        run.state = "the pool"
        handle = await note.using(delay="1h").enqueue(21)
        assert seen == [(21, 1, "the pool")]
        assert await handle.result() == 42
        job = await handle.get()
    assert (job.state, job.result, job.data) == (State.SUCCEEDED, b"42", b'{"n":21}')
    assert job.last is not None
    assert job.last.progress == b'{"step":1}'
    assert b"noted" in job.last.log
    assert await app.jobs.count() == 0, "nothing is stored"


async def test_inline_the_enqueue_raises_what_the_handler_raises(app: Holdfast) -> None:
    @app.task("break")
    async def broken() -> None:
        raise ValueError("it broke")

    with app.testing() as run:
        with pytest.raises(ValueError, match="it broke"):
            await broken.enqueue()
        [job] = run.jobs
        assert (job.state, job.error) == (State.FAILED, "it broke")


async def test_inline_a_result_that_no_store_could_keep_fails_too(app: Holdfast) -> None:
    @app.task("odd")
    async def odd() -> Any:
        return object()

    with app.testing(), pytest.raises(JobFailed, match="expected a value that JSON can carry, found object"):
        await odd.enqueue()


async def test_inline_arguments_are_encoded_and_decoded_as_ever(app: Holdfast) -> None:
    @app.task("tuple")
    def count(pair: list[int]) -> str:
        return type(pair).__name__

    with app.testing():
        assert await (await count.enqueue((1, 2))).result() == "list"  # type: ignore[arg-type]
        with pytest.raises(BadArguments):
            await count.enqueue(["x"])  # type: ignore[list-item]


async def test_inline_jobs_that_a_job_enqueues_run_within_it(app: Holdfast) -> None:
    order: list[str] = []

    @app.task("inner")
    def inner() -> None:
        order.append("inner")

    @app.task("outer")
    async def outer() -> Any:
        order.append("outer begins")
        await inner.enqueue_many([(), ()])
        order.append("outer ends")
        return snooze("5m")

    with app.testing() as run:
        handle = await outer.enqueue()
    assert order == ["outer begins", "inner", "inner", "outer ends"]
    assert [job.task for job in run.jobs] == ["outer", "inner", "inner"]
    assert run.jobs[0].state is State.SCHEDULED
    assert handle.enqueued.job.last is not None
    assert handle.enqueued.job.last.end is End.SNOOZED


async def test_inline_the_middleware_runs_around_the_handler(app: Holdfast) -> None:
    @app.middleware
    async def double(ctx: Context, call_next: Any) -> Any:
        return (await call_next()) * 2

    @app.task("one")
    def one() -> int:
        return 1

    with app.testing():
        assert await (await one.enqueue()).result() == 2


def test_inline_works_for_code_without_a_loop() -> None:
    app = Holdfast()

    @app.task("add")
    def add(a: int, b: int) -> int:
        return a + b

    with app.testing():
        assert add.sync.enqueue(1, 2).sync.result() == 3


async def test_after_the_block_jobs_are_stored_again(app: Holdfast) -> None:
    @app.task("x")
    async def x() -> None: ...

    with app.testing():
        await x.enqueue()
    await x.enqueue()
    assert await app.jobs.count() == 1


# --- drain ---------------------------------------------------------------------------------------------------------


async def test_drain_runs_retries_snoozes_and_delays_until_nothing_is_left(app: Holdfast, clock: ManualClock) -> None:
    began = clock.now()

    @app.task("chain", backoff=["10s"], max_attempts=3)
    async def chain(left: int, *, ctx: Context = injected) -> None:
        if ctx.job.failures == 0 and left == 2:
            raise ConnectionError("once")
        if left:
            await chain.using(delay="1h", queue=f"q{left}").enqueue(left - 1)

    await chain.enqueue(2)
    made = await drain(app, clock)
    assert (len(made.done), len(made.failed), made.total) == (3, 1, 4)
    assert clock.now() == began + 10 + 2 * 3_600
    assert (await app.jobs.stats()).total(State.SUCCEEDED) == 3


async def test_drain_enters_the_lifespan_once(app: Holdfast, clock: ManualClock) -> None:
    entered = []

    @app.lifespan
    async def life() -> AsyncIterator[str]:
        entered.append(1)
        yield "pool"

    @app.task("x")
    async def x(ctx: Context) -> str:
        return str(ctx.state)

    handles = [await x.enqueue(), await x.using(delay="1h").enqueue()]
    await drain(app, clock)
    assert [await handle.result(1) for handle in handles] == ["pool", "pool"]
    assert entered == [1]


async def test_drain_without_a_clock_leaves_what_is_not_due(app: Holdfast, clock: ManualClock) -> None:
    @app.task("x")
    async def x() -> None: ...

    await x.enqueue()
    await x.using(delay=1).enqueue()
    assert (await drain(app)).total == 1
    assert await app.jobs.count(states=[State.SCHEDULED]) == 1


async def test_drain_gives_up_on_a_job_that_goes_on_for_ever(app: Holdfast, clock: ManualClock) -> None:
    @app.task("poll")
    async def poll() -> Any:
        return snooze("1s")

    await poll.enqueue()
    with pytest.raises(UsageError, match=r"drain: more than 20 attempts. Does a job enqueue or snooze itself for ever"):
        await drain(app, clock, attempts_max=20)


async def test_drain_wants_the_clock_of_the_app(app: Holdfast) -> None:
    with pytest.raises(
        UsageError, match=r"drain: expected the clock of the app, found another. Write Holdfast\(…, clock=clock\)"
    ):
        await drain(app, ManualClock())


# --- assert_enqueued -----------------------------------------------------------------------------------------------


@pytest.fixture
def send(app: Holdfast) -> Task[..., Any]:
    @app.task("mail.send", queue="mail")
    async def send(ctx: Context, user: int, lang: str = "en") -> None: ...

    return send


async def test_what_was_enqueued_is_found_by_its_arguments_defaults_included(
    app: Holdfast, send: Task[..., Any]
) -> None:
    await send.enqueue(1)
    await send.using(key="k", tags=["vip"]).enqueue(2, lang="de")
    [job] = await assert_enqueued(app, send, 1, lang="en", count=1)
    assert job.payload == b'{"user":1}'
    await assert_enqueued(app, send, count=2)
    await assert_enqueued(app, "mail.send", 2, "de", queue="mail", key="k", tag="vip")
    await assert_enqueued(app, send.args(2, lang="de"))
    await assert_enqueued(app, send, 3, count=0)


async def test_a_miss_shows_what_was_enqueued_instead(app: Holdfast, send: Task[..., Any]) -> None:
    handle = await send.using(tags=["eu"]).enqueue(1, lang="de")
    with pytest.raises(AssertionError) as caught:
        await assert_enqueued(app, send, 1, lang="fr", queue="bulk", tag="vip")
    assert str(caught.value).splitlines() == [
        "expected at least 1 job(s) of mail.send with user=1, lang='fr', queue='bulk', tag='vip', "
        "found 0 among 1 of the task:",
        f'  {handle.id} (queued, queue mail) {{"user": 1, "lang": "de"}}',
        "      queue: 'mail', expected 'bulk'",
        "      tags: ['eu'], expected 'vip' among them",
        "      lang: 'de', expected 'fr'",
    ]


async def test_too_many_is_a_miss_as_well(app: Holdfast, send: Task[..., Any]) -> None:
    await send.enqueue_many([(1,)] * 12)
    with pytest.raises(
        AssertionError, match=r"expected 1 job\(s\) of mail.send with anything, found 12 .*(?s:.*)… and 2 more"
    ):
        await assert_enqueued(app, send, count=1)


async def test_asserting_a_task_that_is_none_is_an_error(app: Holdfast, send: Task[..., Any]) -> None:
    with pytest.raises(UnknownTask):
        await assert_enqueued(app, "mail.sent")
    with pytest.raises(BadArguments):
        await assert_enqueued(app, send, "x")


async def test_inline_jobs_can_be_asserted_too(app: Holdfast, send: Task[..., Any]) -> None:
    with app.testing():
        await send.enqueue(5)
        await assert_enqueued(app, send, 5, count=1)


# --- crashes -------------------------------------------------------------------------------------------------------


class Bank:
    """Keeps charges by key, so that a repeat does nothing; or does not."""

    def __init__(self) -> None:
        self.charges: list[str] = []
        self.cleaned = 0

    async def charge(self, order: str, *, once: bool) -> None:
        await asyncio.sleep(0)
        if not (once and order in self.charges):
            self.charges.append(order)
        await asyncio.sleep(0)


@pytest.fixture
def bank() -> Bank:
    return Bank()


async def test_a_handler_that_may_be_repeated_survives_a_crash_behind_each_await(app: Holdfast, bank: Bank) -> None:
    @app.task("pay")
    async def pay(order: str, *, ctx: Context = injected) -> str:
        await bank.charge(order, once=True)
        await asyncio.sleep(0.001)
        return f"{order} by attempt {ctx.attempt} with token {ctx.token}"

    rounds = []
    async for crash in simulate_crashes(pay, "o-1"):
        assert bank.charges == ["o-1"], crash
        bank.charges.clear()
        rounds.append((crash.at, crash.result))
    assert rounds == [
        (0, "o-1 by attempt 1 with token 1"),
        *((at, "o-1 by attempt 2 with token 2") for at in (1, 2, 3)),
    ]


async def test_a_handler_that_repeats_its_effect_is_found_with_the_line(app: Holdfast, bank: Bank) -> None:
    @app.task("pay")
    async def pay(order: str) -> None:
        await bank.charge(order, once=False)
        await asyncio.sleep(0)

    found = []
    async for crash in simulate_crashes(pay, "o-1"):
        if bank.charges != ["o-1"]:
            found.append((crash.at, crash.where.rpartition(":")[0]))
        bank.charges.clear()
    assert found == [(2, __file__), (3, __file__)]


async def test_nothing_of_a_crashed_handler_runs_any_more(app: Holdfast, bank: Bank) -> None:
    @app.task("tidy")
    async def tidy() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            bank.cleaned += 1

    cleaned = []
    async for _ in simulate_crashes(tidy):
        cleaned.append(bank.cleaned)
        bank.cleaned = 0
    assert cleaned == [1, 1], "once in the clean round; once in the run after the crash, and not in the crashed one"


async def test_timeouts_task_groups_and_futures_work_in_a_driven_handler(app: Holdfast) -> None:
    @app.task("busy")
    async def busy() -> list[str]:
        said = []
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            said.append("timed out")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, f"task {n}")) for n in range(2)]
        said += [task.result() for task in tasks]
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, KeyError("future"))
        try:
            await future
        except KeyError as error:
            said.append(str(error))
        return said

    results = [crash.result async for crash in simulate_crashes(busy)]
    assert results == [["timed out", "task 0", "task 1", "'future'"]] * 4


async def test_a_handler_without_a_place_to_crash_is_told_apart(app: Holdfast) -> None:
    @app.task("swift")
    async def swift() -> None: ...

    @app.task("plain")
    def plain() -> None: ...

    with pytest.raises(UsageError, match=r"<task swift> never waited, so that there is no place to crash at"):
        async for _ in simulate_crashes(swift):
            pass
    with pytest.raises(UsageError, match="expected an async task, found <task plain>"):
        async for _ in simulate_crashes(plain):
            pass


async def test_what_the_handler_raises_comes_out_of_the_simulation(app: Holdfast) -> None:
    @app.task("bad")
    async def bad() -> None:
        await asyncio.sleep(0)
        raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke"):
        async for _ in simulate_crashes(bad):
            pass
