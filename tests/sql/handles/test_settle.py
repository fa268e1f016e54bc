"""`ctx.settle(outcome, tx=…)`, `ctx.transaction()`: effects and outcome in one transaction, also when workers are killed."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from holdfast import Context, Holdfast, done, fail, snooze
from holdfast.errors import LeaseLost, UsageError
from holdfast.job.commands import InstanceDied
from holdfast.job.state import End, State
from tests.features import feature
from tests.node.processes import ROOT, environment, eventually
from tests.sql.handles.money import LEDGER, bank, book
from tests.sql.handles.places import MysqlPlace, Place, PostgresPlace, SqlitePlace
from tests.support.servers.mariadb import shared

DATABASES: Final = ("sqlite", "postgresql", "mysql")


def url_of(place: Place) -> str:
    if isinstance(place, MysqlPlace):
        return shared().url(place.name)
    return place.url or f"sqlite:///{place.file}"


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    makers: dict[str, Callable[[], Place]] = {
        "sqlite": lambda: SqlitePlace(tmp_path, "bank"),
        "postgresql": PostgresPlace,
        "mysql": MysqlPlace,
    }
    made = makers[request.param]()
    yield made
    if isinstance(made, MysqlPlace):
        made.drop("ledger")
    made.end()


async def opened(place: Place) -> Holdfast:
    """An app on the database, with the ledger made."""
    app = bank(url_of(place), auto_migrate=True)
    await app.open()
    await place.ask(LEDGER)
    return app


async def booked(place: Place) -> list[tuple[str, int]]:
    return [(str(row[0]), int(row[1])) for row in await place.ask("SELECT job, amount FROM ledger")]


@feature("T25", "TW2")
async def test_a_payment_and_its_outcome_are_stored_together(place: Place) -> None:
    async with await opened(place) as app:
        handle = await app.enqueue("pay", {"amount": 5})
        done_ = await app.work_once()
        assert done_.done == (handle.id,)
        job = await handle.get()
        assert (job.state, job.result, job.attempt) == (State.SUCCEEDED, b"5", 1)
        assert await booked(place) == [(handle.id, 5)]


@feature("T25")
async def test_a_transaction_that_fails_leaves_no_payment_and_is_tried_again(place: Place) -> None:
    async with await opened(place) as app:

        @app.task("shaky", max_attempts=3, backoff=["0s"])
        async def shaky(*, ctx: Context) -> None:
            async with ctx.transaction(done("fine")) as tx:
                await book(tx, ctx.id, ctx.attempt)
                if ctx.attempt == 1:
                    raise ValueError("no")

        handle = await app.enqueue("shaky")
        await app.work_once()
        await app.work_once()
        job = await handle.get()
        assert (job.state, job.attempt, job.failures, job.result) == (State.SUCCEEDED, 2, 1, b'"fine"')
        assert await booked(place) == [(handle.id, 2)]


@feature("T25", "TW2")
async def test_a_worker_whose_job_went_to_another_books_nothing(place: Place) -> None:
    async with await opened(place) as app:
        seen: list[BaseException] = []

        @app.task("slow", max_attempts=5)
        async def slow(*, ctx: Context) -> None:
            store = await app.open()
            if ctx.attempt == 1:
                # We are taken for dead while we are busy: our claim is over.
                [job] = await store.jobs([ctx.id])
                assert job is not None
                assert job.last is not None
                await store.instance_died(InstanceDied(instance=job.last.instance, detail="taken for dead"))
            try:
                async with ctx.transaction() as tx:
                    await book(tx, ctx.id, ctx.attempt)
            except LeaseLost as error:
                seen.append(error)
                raise

        handle = await app.enqueue("slow")
        await eventually_done(app, handle.id)
        assert len(seen) == 1
        assert await booked(place) == [(handle.id, 2)]


async def eventually_done(app: Holdfast, job_id: str) -> None:
    for _ in range(1_000):
        await app.work_once()
        await app.jobs.run_now(job_id)
        if (await app.jobs.get(job_id)).final:
            return
    raise AssertionError("it did not end")


@feature("T25")
async def test_a_settle_that_was_not_committed_is_a_failed_attempt(place: Place) -> None:
    async with await opened(place) as app:

        @app.task("forgetful", max_attempts=1)
        async def forgetful(*, ctx: Context) -> None:
            try:
                async with ctx.transaction() as tx:
                    await ctx.settle(done(1), tx=tx)
                    raise ZeroDivisionError
            except ZeroDivisionError:
                return  # as if all were well

        handle = await app.enqueue("forgetful")
        await app.work_once()
        job = await handle.get()
        assert (job.state, "was not committed" in job.error) == (State.FAILED, True)


@feature("T25")
async def test_any_outcome_can_be_settled_and_what_happens_later_does_not_change_it(place: Place) -> None:
    async with await opened(place) as app:
        told: list[str] = []

        @app.on_error
        def on_error(queue: str, job: object, error: BaseException) -> None:
            told.append(str(error))

        @app.task("any", max_attempts=1)
        async def any_of_them(kind: str, *, ctx: Context) -> str:
            outcome = {"fail": fail("no money"), "snooze": snooze("1h"), "done": done(7)}[kind]
            async with ctx.transaction() as tx:
                await ctx.settle(outcome, tx=tx)
                with pytest.raises(UsageError, match="Settle it once"):
                    await ctx.settle(outcome, tx=tx)
            if kind == "done":
                raise ValueError("after the commit")
            return "not this"

        handles = {kind: await app.enqueue("any", {"kind": kind}) for kind in ("fail", "snooze", "done")}
        await app.work_once()
        found = {kind: await handle.get() for kind, handle in handles.items()}
        states = {kind: job.state for kind, job in found.items()}
        assert states == {"fail": State.FAILED, "snooze": State.SCHEDULED, "done": State.SUCCEEDED}
        assert found["done"].result == b"7"
        assert [job.last.end for job in found.values() if job.last] == [End.FAILED, End.SNOOZED, End.SUCCEEDED]
        assert "after the commit" in told


@feature("T25")
async def test_a_handler_settles_through_its_own_session(place: Place) -> None:
    drivers = {
        SqlitePlace: ("sqlite", "sqlite+aiosqlite"),
        PostgresPlace: ("postgresql+psycopg", "postgresql+asyncpg"),
        MysqlPlace: ("mysql+pymysql", "mysql+asyncmy"),
    }
    plain, async_ = drivers[type(place)]
    engine, async_engine = create_engine(place.alchemy(plain)), create_async_engine(place.alchemy(async_))
    async with await opened(place) as app:

        @app.task("threaded")
        def threaded(*, ctx: Context) -> None:
            with Session(engine) as session, session.begin():
                session.execute(text(f"INSERT INTO ledger (job, amount) VALUES ('{ctx.id}', 1)"))
                ctx.settle(done("thread"), tx=session)

        @app.task("looped")
        async def looped(*, ctx: Context) -> None:
            async with AsyncSession(async_engine) as session, session.begin():
                # The session has executed nothing before.
                await ctx.settle(done("loop"), tx=session)
                await session.execute(text(f"INSERT INTO ledger (job, amount) VALUES ('{ctx.id}', 2)"))

        handles = [await app.enqueue("threaded"), await app.enqueue("looped")]
        await app.work_once()
        assert [await handle.result(60) for handle in handles] == ["thread", "loop"]
        assert sorted(amount for _, amount in await booked(place)) == [1, 2]
    await async_engine.dispose()
    engine.dispose()


async def test_stores_without_transactions_refuse_it() -> None:
    app = Holdfast()

    @app.task("pay", max_attempts=1)
    async def pay(*, ctx: Context) -> None:
        with pytest.raises(UsageError, match="expected a store on a database"):
            await ctx.settle(tx=sqlite3.connect(":memory:"))
        async with ctx.transaction():
            pass

    async with app:
        handle = await app.enqueue("pay")
        await app.work_once()
        assert "ctx.transaction: expected a store on a database" in (await handle.get()).error


# --- T32: effects exactly once, under kills


def run_bank(place: Place, jobs: int, kills: int, seed: int) -> None:
    """Let three workers work, kill one of them at random every so many payments, until all is paid."""
    chance = random.Random(seed)
    url = url_of(place)

    async def count() -> int:
        [[found]] = await place.ask("SELECT count(*) FROM ledger")
        return int(found)

    def start(stack: ExitStack) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.sql.handles.money", url]
        process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=environment()))
        stack.callback(process.kill)
        return process

    with ExitStack() as stack:
        workers = [start(stack) for _ in range(3)]
        for turn in range(1, kills + 1):
            goal = jobs * turn // (kills + 1)
            eventually(lambda goal=goal: asyncio.run(count()) >= goal, f"{goal} payments")  # type: ignore[misc]
            place_of_victim = chance.randrange(3)
            workers[place_of_victim].kill()
            workers[place_of_victim].wait()
            workers[place_of_victim] = start(stack)
        eventually(lambda: asyncio.run(count()) >= jobs, "all payments")
        eventually(lambda: asyncio.run(ended(url)) >= jobs, "all jobs to end")


async def ended(url: str) -> int:
    async with bank(url) as app:
        return await app.jobs.count(states=[State.SUCCEEDED])


async def check_bank(place: Place, amounts: dict[str, int]) -> None:
    """The ledger holds each payment once, and every job has succeeded."""
    found = await booked(place)
    assert len(found) == len(amounts)
    assert dict(found) == amounts
    async with bank(url_of(place)) as app:
        assert await app.jobs.count(states=[State.SUCCEEDED]) == await app.jobs.count() == len(amounts)


async def prepared(place: Place, count: int) -> dict[str, int]:
    async with await opened(place) as app:
        pay: Any = app.tasks.get("pay")
        handles = await pay.enqueue_many([(number,) for number in range(count)])
        return {handle.id: number for number, handle in enumerate(handles)}


@feature("T25", "TW2", "TW5")
def test_a_killed_worker_leaves_each_payment_booked_exactly_once(place: Place) -> None:
    amounts = asyncio.run(prepared(place, 240))
    run_bank(place, len(amounts), kills=7, seed=32)
    asyncio.run(check_bank(place, amounts))


@pytest.mark.soak
@feature("T25", "TW2", "TW5")
def test_many_killed_workers_leave_each_of_two_thousand_payments_booked_exactly_once(place: Place) -> None:
    amounts = asyncio.run(prepared(place, 2_000))
    run_bank(place, len(amounts), kills=40, seed=33)
    asyncio.run(check_bank(place, amounts))
