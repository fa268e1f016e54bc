"""New rows: all or none, checked before anything is stored, in a transaction of ours or of the user's."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from holdfast.errors import BadRow, BadTime, ConfigError, ContentError, DuplicateRow, UnknownRow, UsageError
from holdfast.job.state import State
from holdfast.table import TaskState, TaskTable
from tests.features import feature
from tests.table.databases import DRIVERS, SYNC, Databases
from tests.table.engines import make_engine
from tests.table.models import Base, Customer, Line, Mail, Order, create_all


@pytest_asyncio.fixture
async def orders(engine: AsyncEngine) -> AsyncIterator[TaskTable[Order]]:
    table = TaskTable(Order, engine)
    yield table
    await table.close()


async def count(orders: TaskTable[Order]) -> int:
    return (await orders.stats()).total


# --- what is stored ------------------------------------------------------------------------------------------------


@feature("G4")
async def test_the_database_may_make_the_key(engine: AsyncEngine) -> None:
    mails = TaskTable(Mail, engine)
    batch = [Mail(address=f"{n}@example.org") for n in range(3)]
    made = await mails.create(batch)
    assert [one.key[0] for one in made] == [mail.id for mail in batch]
    assert len({one.id for one in made}) == 3
    assert (await mails.get(made[2].key[0])).address == "2@example.org"


@feature("G4", "G19")
async def test_a_row_may_wait_by_delay_by_time_or_by_its_own_time(orders: TaskTable[Order]) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await orders.create(Order(order_id="a"), delay="2h")
    await orders.create(Order(order_id="b"), run_at=later)
    await orders.create(Order(order_id="c", task_state=TaskState.PENDING, task_run_at=later))
    await orders.create(Order(order_id="d", task_state=TaskState.INIT))
    await orders.create(Order(order_id="e", task_run_at=datetime.now(UTC) - timedelta(hours=1)))
    states = {row.order_id: row.task_state for row in (await orders.list()).items}
    assert states == {**dict.fromkeys("abc", State.SCHEDULED), **dict.fromkeys("de", State.QUEUED)}
    assert (await orders.get("b")).task_run_at == (await orders.get("c")).task_run_at == later


@feature("G4")
async def test_a_batch_keeps_its_order_whatever_its_ids(orders: TaskTable[Order]) -> None:
    ids = ["z", "m", "a", "q"]
    await orders.create([Order(order_id=one) for one in ids])
    claims = await orders.acquire(4)
    assert [claim.id for claim in claims] == ids


@feature("G4")
async def test_a_copy_of_an_old_row_begins_with_a_clean_sheet(orders: TaskTable[Order]) -> None:
    await orders.create(Order(order_id="a", task_attempt=7, task_error="old", task_token=99, task_failures=3))
    order = await orders.get("a")
    assert (order.task_attempt, order.task_error, order.task_token, order.task_failures) == (0, None, 0, 0)


# --- what is refused -----------------------------------------------------------------------------------------------


@feature("G4")
async def test_an_empty_id_is_refused_and_the_row_named(orders: TaskTable[Order]) -> None:
    for empty in (None, ""):
        with pytest.raises(BadRow, match=r"row 1 of the batch .*expected an id in order_id") as caught:
            await orders.create([Order(order_id="a"), Order(order_id=empty)])
        assert caught.value.row == 1
    assert await count(orders) == 0


@feature("G4")
@pytest.mark.parametrize("state", [TaskState.DOING, TaskState.DONE, TaskState.ERROR, State.RUNNING, "retrying", "open"])
async def test_a_state_that_no_new_row_has_is_refused_and_the_row_named(orders: TaskTable[Order], state: str) -> None:
    with pytest.raises(BadRow, match=r"row 1 of the batch \(id b\)"):
        await orders.create([Order(order_id="a"), Order(order_id="b", task_state=state)])
    assert await count(orders) == 0


async def test_pending_without_a_time_is_refused(orders: TaskTable[Order]) -> None:
    with pytest.raises(BadRow, match="expected a time with PENDING"):
        await orders.create(Order(order_id="a", task_state=TaskState.PENDING))


async def test_bad_times_are_refused(orders: TaskTable[Order]) -> None:
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 - that is what is refused
    with pytest.raises(BadTime, match="0 or more"):
        await orders.create(Order(order_id="a"), delay=-1)
    with pytest.raises(BadTime, match="time zone"):
        await orders.create(Order(order_id="a"), run_at=naive)
    with pytest.raises(BadTime, match="time zone"):
        await orders.create(Order(order_id="a", task_run_at=naive))
    with pytest.raises(ContentError, match="delay or run_at"):
        await orders.create(Order(order_id="a"), delay=1, run_at=2_000_000_000)
    assert await count(orders) == 0


async def test_rows_of_another_kind_and_options_that_are_none_are_refused(orders: TaskTable[Order]) -> None:
    with pytest.raises(ContentError, match="expected an instance of Order"):
        await orders.create([Mail()])  # type: ignore[list-item]
    with pytest.raises(ContentError, match="expected instances of Order"):
        await orders.create(7)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="on_duplicate"):
        await orders.create([], on_duplicate="ignore")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Session"):
        await orders.create([Order(order_id="a")], session=object())  # type: ignore[arg-type]


@feature("G4")
async def test_an_id_that_a_batch_gives_twice_is_refused(orders: TaskTable[Order]) -> None:
    with pytest.raises(DuplicateRow, match="'a'"):
        await orders.create([Order(order_id="a"), Order(order_id="b"), Order(order_id="a")])
    assert await count(orders) == 0


@feature("G4")
async def test_a_composite_key_is_refused_only_as_a_whole(engine: AsyncEngine) -> None:
    lines = TaskTable(Line, engine)
    await lines.create([Line(order_id="a", number=1), Line(order_id="a", number=2), Line(order_id="b", number=1)])
    with pytest.raises(DuplicateRow) as caught:
        await lines.create([Line(order_id="b", number=2), Line(order_id="a", number=2)])
    assert caught.value.ids == (("a", 2),)
    with pytest.raises(ContentError, match="Give a tuple"):
        await lines.get("a")
    assert (await lines.stats()).total == 3


@feature("GW2")
async def test_what_the_database_itself_refuses_is_raised_and_nothing_is_stored(orders: TaskTable[Order]) -> None:
    await orders.create(Order(order_id="a", code="x"))
    with pytest.raises(IntegrityError):
        await orders.create([Order(order_id="b"), Order(order_id="c", code="x")])
    assert await count(orders) == 1


# --- duplicates reported -------------------------------------------------------------------------------------------


@feature("GW2", "G4")
async def test_duplicates_may_be_reported_and_the_rows_that_exist_are_kept(orders: TaskTable[Order]) -> None:
    await orders.create(Order(order_id="a", tries=5))
    made = await orders.create([Order(order_id=one) for one in ("b", "a", "b")], on_duplicate="report")
    assert [(one.id, one.new) for one in made] == [("b", True), ("a", False), ("b", False)]
    assert (await orders.get("a")).tries == 5
    assert await count(orders) == 2


@feature("G4")
async def test_many_who_create_the_same_rows_at_once_store_each_once(orders: TaskTable[Order]) -> None:
    async def create() -> list[bool]:
        made = await orders.create([Order(order_id=f"n-{n}") for n in range(20)], on_duplicate="report")
        return [one.new for one in made]

    answers = await asyncio.gather(*(create() for _ in range(5)))
    assert [sum(new) for new in zip(*answers, strict=True)] == [1] * 20


@feature("G4")
async def test_of_many_who_create_the_same_row_one_succeeds_and_the_others_hear_of_it(orders: TaskTable[Order]) -> None:
    answers = await asyncio.gather(*(orders.create(Order(order_id="a")) for _ in range(6)), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [DuplicateRow] * 5


@feature("G4", "GW2")
@pytest.mark.parametrize("driver", SYNC)
async def test_many_threads_that_create_the_same_rows_at_once_store_each_once(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver), sync=True)
    assert not isinstance(engine, AsyncEngine)
    Base.metadata.create_all(engine)
    orders = TaskTable(Order, engine)

    def create() -> list[bool]:
        made = orders.create_sync([Order(order_id=f"n-{n}") for n in range(20)], on_duplicate="report")
        return [one.new for one in made]

    answers = await asyncio.gather(*(asyncio.to_thread(create) for _ in range(5)))
    assert [sum(new) for new in zip(*answers, strict=True)] == [1] * 20
    engine.dispose()


# On SQLite a batch that is being stored holds the file: nobody can be quicker.
@feature("G4", "GW2")
@pytest.mark.parametrize("driver", ["psycopg sync", "pymysql sync", "postgresql", "mariadb"])
@pytest.mark.parametrize("way", ["alone", "in a session"])
async def test_a_row_that_another_stores_between_the_look_and_the_write_is_reported_or_refused(
    servers: Databases, driver: str, way: str
) -> None:
    url = servers.url(driver)
    sync = driver in SYNC
    engine = make_engine(url, sync=sync)
    await create_all(engine)
    rival = "psycopg sync" if "postgresql" in url.drivername else "pymysql sync"
    other = make_engine(url.set(drivername=DRIVERS[rival][1]), sync=True)
    assert isinstance(other, Engine)
    ids = ["a"]

    @event.listens_for(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, "before_cursor_execute")
    def be_quicker(_one: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO orders") and ids:
            TaskTable(Order, other).create_sync(Order(order_id=ids.pop(), tries=7))

    orders = TaskTable(Order, engine)

    async def create(*names: str, **options: Any) -> list[tuple[str, bool]]:
        rows = [Order(order_id=name) for name in names]
        if way == "alone":
            made = orders.create_sync(rows, **options) if sync else await orders.create(rows, **options)
        elif isinstance(engine, AsyncEngine):
            async with AsyncSession(engine) as session, session.begin():
                session.add(Customer(name="ann"))
                made = await orders.create(rows, session=session, **options)
        else:
            with Session(engine) as plain, plain.begin():
                plain.add(Customer(name="ann"))
                made = orders.create_sync(rows, session=plain, **options)
        return [(one.id, one.new) for one in made]

    assert await create("x", "a", on_duplicate="report") == [("x", True), ("a", False)]
    ids.append("b")
    with pytest.raises(DuplicateRow, match="'b'"):
        await create("y", "b")
    assert not ids
    assert (await orders.get("a")).tries == 7
    assert [row.order_id for row in (await orders.list()).items] == ["a", "b", "x"]
    other.dispose()
    if isinstance(engine, AsyncEngine):
        await engine.dispose()
    else:
        engine.dispose()


@feature("G4", "GW2", "GW8")
@pytest.mark.parametrize("driver", ["sqlite", "sqlite sync"])
async def test_who_looks_in_a_session_on_sqlite_holds_the_file_until_it_is_written(
    servers: Databases, driver: str
) -> None:
    engine = servers.engine(driver)
    file = str(engine.url.database)
    tried: list[str] = []

    @event.listens_for(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, "before_cursor_execute")
    def write_too(_one: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT orders.order_id") and not tried:
            with closing(sqlite3.connect(file, timeout=0.0, isolation_level=None)) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                    tried.append("could write")
                except sqlite3.OperationalError as error:
                    tried.append(str(error))

    orders = TaskTable(Order, engine)
    if isinstance(engine, AsyncEngine):
        async with AsyncSession(engine) as session, session.begin():
            await orders.create(Order(order_id="a"), session=session)
        await engine.dispose()
        event.remove(engine.sync_engine, "before_cursor_execute", write_too)
    else:
        with Session(engine) as plain, plain.begin():
            orders.create_sync(Order(order_id="a"), session=plain)
        engine.dispose()
        event.remove(engine, "before_cursor_execute", write_too)
    assert tried == ["database is locked"]


# --- in the user's transaction -------------------------------------------------------------------------------------


@feature("G4")
async def test_rows_are_stored_with_what_else_the_users_session_holds(
    orders: TaskTable[Order], engine: AsyncEngine
) -> None:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        customer = Customer(name="ann")
        session.add(customer)
        await session.flush()
        await orders.create(Order(order_id="a", customer_id=customer.id), session=session)
        await session.rollback()
    assert await count(orders) == 0
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(Customer(id=7, name="ann"))
        await orders.create(Order(order_id="a", customer_id=7), session=session)
        version = orders._waking.version
        await session.commit()
    assert orders._waking.version > version
    order = await orders.get("a")
    assert order.customer is not None
    assert order.customer.name == "ann"


async def test_a_duplicate_in_the_users_session_leaves_its_transaction_alive(
    orders: TaskTable[Order], engine: AsyncEngine
) -> None:
    await orders.create(Order(order_id="a"))
    async with AsyncSession(engine) as session:
        session.add(Customer(id=1, name="ann"))
        with pytest.raises(DuplicateRow):
            await orders.create([Order(order_id="b"), Order(order_id="a")], session=session)
        await session.commit()
    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(Customer.name))).all() == ["ann"]
    assert await count(orders) == 1


@pytest.mark.parametrize("driver", SYNC)
async def test_rows_that_come_from_a_generator_are_all_stored_in_a_session_without_a_loop(
    servers: Databases, driver: str
) -> None:
    engine = make_engine(servers.url(driver), sync=True)
    assert not isinstance(engine, AsyncEngine)
    Base.metadata.create_all(engine)
    orders = TaskTable(Order, engine)
    with Session(engine) as session:
        made = await orders.create((Order(order_id=name) for name in "abc"), session=session)
        session.commit()
    assert [one.id for one in made] == ["a", "b", "c"]
    assert await count(orders) == 3
    engine.dispose()


@pytest.mark.parametrize("driver", SYNC)
def test_code_without_a_loop_creates_and_reads_rows(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver), sync=True)
    assert not isinstance(engine, AsyncEngine)
    Base.metadata.create_all(engine)
    orders = TaskTable(Order, engine)
    orders.create_sync([Order(order_id="a"), Order(order_id="b")])
    with pytest.raises(DuplicateRow):
        orders.create_sync([Order(order_id="c"), Order(order_id="a")])
    with Session(engine) as session:
        orders.create_sync(Order(order_id="d"), session=session)
        session.rollback()
    with Session(engine) as session, session.begin():
        orders.create_sync(Order(order_id="e"), session=session)
    assert orders.get_sync("e").task_state is State.QUEUED
    for missing in ("c", "d"):
        with pytest.raises(UnknownRow):
            orders.get_sync(missing)
    engine.dispose()


async def test_the_calls_for_code_without_a_loop_name_the_async_form(orders: TaskTable[Order]) -> None:
    with pytest.raises(UsageError, match=r"await table.create"):
        orders.create_sync(Order(order_id="a"))
    with pytest.raises(UsageError, match=r"await table.get"):
        orders.get_sync("a")
