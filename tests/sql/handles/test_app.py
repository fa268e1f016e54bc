"""`using(tx=…)` in an app: through tasks, by name, in batches, without a loop; the trap of a session that did nothing."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from holdfast import Holdfast
from holdfast.errors import BadArguments, TooLarge, UsageError
from tests.features import feature
from tests.sql.handles.clients import AsyncPsycopg, Client, PyMysql, Sqlite3
from tests.sql.handles.places import MysqlPlace, Place, PostgresPlace, SqlitePlace
from tests.support.servers.mariadb import shared


def shop(url: str, **options: Any) -> Holdfast:
    app = Holdfast(url, **options)

    @app.task("mail.welcome", queue="mail")
    async def welcome(user_id: int) -> int:
        return user_id

    return app


@pytest.fixture
async def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path, "shop")


@feature("T10", "T25")
async def test_an_async_session_that_has_executed_nothing_yet_takes_the_job_into_its_transaction() -> None:
    place = PostgresPlace()
    app = shop(place.url, auto_migrate=True)
    welcome: Any = app.tasks.get("mail.welcome")
    engine = create_async_engine(place.alchemy("postgresql+asyncpg"))
    async with app:
        async with AsyncSession(engine) as session:
            lost = await welcome.using(tx=session).enqueue(1)
            await session.rollback()
            kept = await welcome.using(tx=session).enqueue(2)
            await session.commit()
        assert [job.id for job in (await app.jobs.list()).items] == [kept.id]
        assert lost.id != kept.id
        done = await app.work_once()
        assert done.done == (kept.id,)
        assert await kept.result(60) == 2
    await engine.dispose()


@feature("T10", "T25")
async def test_a_commit_wakes_the_workers(place: SqlitePlace) -> None:
    app = shop(f"sqlite:///{place.file}")
    welcome: Any = app.tasks.get("mail.welcome")
    engine = create_engine(place.alchemy("sqlite"))
    async with app, app.worker({"mail": 2}):
        with Session(engine) as session, session.begin():
            handle = await welcome.using(tx=session, priority=3, tags=["x"]).enqueue(7)
        assert await asyncio.wait_for(handle.result(), 60.0) == 7
        assert (await handle.get()).priority == 3
    engine.dispose()


@feature("T3", "T6", "T10")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
async def test_a_task_is_made_known_by_its_first_enqueue_in_a_transaction(kind: str, tmp_path: Path) -> None:
    place: Place = (
        SqlitePlace(tmp_path, "q") if kind == "sqlite" else PostgresPlace() if kind == "postgresql" else MysqlPlace()
    )
    kinds: dict[str, type[Client]] = {"sqlite": Sqlite3, "postgresql": AsyncPsycopg, "mysql": PyMysql}
    client = kinds[kind](place)
    url = f"sqlite:///{place.file}" if kind == "sqlite" else place.url or shared().url(place.name)
    app = shop(url, auto_migrate=True)
    welcome: Any = app.tasks.get("mail.welcome")
    async with app:
        assert await app.definitions.list() == []
        await place.make_orders()
        await client.open()
        await client.do("INSERT INTO orders (name) VALUES ('tea')")
        for ends in (client.rollback, client.commit):
            await welcome.using(tx=client.tx).enqueue(1)
            await ends()
        [made] = await app.definitions.list()
        assert (made.alias, made.queue, b"user_id" in made.parameters) == ("mail.welcome", "mail", True)
        await app.definitions.edit("mail.welcome", title="ours")
        await welcome.using(tx=client.tx).enqueue_many([(1,), (2,)])
        await client.commit()
        assert (await app.jobs.count(), (await app.definitions.get("mail.welcome")).title) == (3, "ours")
        await client.end()
    place.end()


@feature("T10")
async def test_batches_and_tasks_by_name_go_through_the_session(place: SqlitePlace) -> None:
    app = shop(f"sqlite:///{place.file}")
    welcome: Any = app.tasks.get("mail.welcome")
    async with app:
        connection = sqlite3.connect(place.file)
        handles = await welcome.using(tx=connection).enqueue_many([(number,) for number in range(50)])
        by_name = await app.enqueue("mail.welcome", {"user_id": 9}, tx=connection)
        with pytest.raises(BadArguments):
            await welcome.using(tx=connection).enqueue("nine")
        with pytest.raises(TooLarge):
            await welcome.using(tx=connection).enqueue_many([(1,)] * 10_001)
        assert await app.jobs.count() == 0
        connection.commit()
        connection.close()
        assert await app.jobs.count() == 51
        assert {(await handle.get()).queue for handle in (*handles, by_name)} == {"mail"}


@feature("T10")
def test_code_without_a_loop_enqueues_in_its_own_thread_and_transaction(place: SqlitePlace) -> None:
    app = shop(f"sqlite:///{place.file}")
    welcome: Any = app.tasks.get("mail.welcome")
    app.sync(app.jobs.count())
    # sqlite3 refuses a connection in any other thread than the one that made it.
    connection = sqlite3.connect(place.file)
    lost = welcome.sync.using(tx=connection).enqueue(1)
    connection.rollback()
    kept = welcome.sync.using(tx=connection).enqueue_many([(2,), (3,)])
    connection.commit()
    connection.close()
    found = {job.id for job in app.sync(app.jobs.list()).items}
    assert found == {handle.id for handle in kept}
    assert lost.id not in found
    app.sync.close()


@feature("T10")
async def test_stores_without_transactions_and_async_handles_in_sync_code_are_refused(place: SqlitePlace) -> None:
    app = shop("memory:")
    welcome: Any = app.tasks.get("mail.welcome")
    connection = sqlite3.connect(":memory:")
    with pytest.raises(UsageError, match="expected a store on a database"):
        await welcome.using(tx=connection).enqueue(1)
    connection.close()
    await app.close()
    app = shop(f"sqlite:///{place.file}")
    welcome = app.tasks.get("mail.welcome")
    engine = create_async_engine(place.alchemy("sqlite+aiosqlite"))
    session = AsyncSession(engine)
    with pytest.raises(UsageError, match="not async"):
        await asyncio.to_thread(lambda: welcome.sync.using(tx=session).enqueue(1))
    await session.close()
    await engine.dispose()
    await asyncio.to_thread(app.sync.close)
