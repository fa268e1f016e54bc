"""Models: what the mixin adds, how a table is adopted, and what can not be a task table."""

from collections.abc import Mapping
from datetime import date
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column, registry

from holdfast.errors import BadModel, ConfigError, MissingTable
from holdfast.job.state import State
from holdfast.table import Handle, TaskMixin, TaskService, TaskState, TaskTable
from holdfast.table.columns import NAMES
from holdfast.table.shape import Shape
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine
from tests.table.models import Base, Bill, Line, Mail, Order

# --- what is added -------------------------------------------------------------------------------------------------


@feature("G1", "G2")
def test_the_mixin_adds_its_columns_behind_the_users_and_one_index() -> None:
    names = [column.name for column in Order.__table__.columns]
    assert names[-len(NAMES) :] == list(NAMES)
    assert names[0] == "order_id"
    table = Shape(Order).table
    [index] = [one for one in table.indexes if one.name == "ix_orders_task"]
    assert [column.name for column in index.columns] == ["task_state", "task_run_at", "order_id"]


@feature("G1")
def test_columns_may_have_other_names() -> None:
    assert "status" in Line.__table__.c
    assert "last_error" in Line.__table__.c
    assert "task_state" not in Line.__table__.c
    assert Line.task_state.property.columns[0].name == "status"


@feature("G1")
def test_a_dataclass_keeps_its_own_fields_alone() -> None:
    assert repr(Bill(id="b-1", amount=3)) == "Bill(id='b-1', amount=3)"

    class Fresh(DeclarativeBase):
        pass

    @registry(metadata=Fresh.metadata).mapped_as_dataclass
    class Decorated(TaskMixin):
        __tablename__ = "decorated"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Joined(TaskMixin, MappedAsDataclass, Fresh):
        __tablename__ = "joined"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert [Shape(model).name for model in (Decorated, Joined)] == ["decorated", "joined"]
    made: Any = Decorated
    assert repr(made(id=1)).endswith("Decorated(id=1)")


@feature("G2")
async def test_a_dataclass_model_runs(engine: AsyncEngine) -> None:
    bills = TaskTable(Bill, engine)

    async def double(bill: Bill, handle: Handle) -> None:
        handle.done(amount=bill.amount * 2)

    await bills.create([Bill(id="b-1", amount=3), Bill(id="b-2")])
    assert len((await TaskService(bills, double).do_once()).done) == 2
    bill = await bills.get("b-1")
    assert (bill.amount, bill.task_state) == (6, State.SUCCEEDED)


def test_a_model_that_extends_a_task_model_shares_its_table_and_is_none_of_its_own() -> None:
    class Fresh(DeclarativeBase):
        pass

    class Abstract(TaskMixin, Fresh):
        __abstract__ = True

    class Parcel(Abstract):
        __tablename__ = "parcels"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10), default="plain")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}  # noqa: RUF012 - as SQLAlchemy wants it

    class Heavy(Parcel):
        weight: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "heavy"}  # noqa: RUF012 - as SQLAlchemy wants it

    assert len(Shape(Parcel).table.columns) == len(NAMES) + 3
    with pytest.raises(BadModel, match="expected Parcel, which owns the table"):
        Shape(Heavy)
    assert len(Shape(Parcel).table.indexes) == 1


# --- adopting a table ----------------------------------------------------------------------------------------------


@feature("G2")
async def test_a_table_that_exists_is_adopted_and_its_old_rows_are_no_tasks(servers: Databases, driver: str) -> None:
    metadata = MetaData()
    Table("parcels", metadata, Column("id", Integer, primary_key=True), Column("place", String(20)))

    class Fresh(DeclarativeBase):
        pass

    class Parcel(TaskMixin, Fresh):
        __tablename__ = "parcels"
        __task_columns__: ClassVar[Mapping[str, str]] = {"task_state": "status"}
        id: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[str | None] = mapped_column(String(20))

    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    parcels = TaskTable(Parcel, engine)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.exec_driver_sql("INSERT INTO parcels (id, place) VALUES (1, 'old')")
    with pytest.raises(MissingTable, match="ADD COLUMN status") as caught:
        await parcels.check()
    async with engine.begin() as connection:
        for statement in caught.value.ddl.split(";"):
            if statement.strip():
                await connection.exec_driver_sql(statement)
    await parcels.check()
    await parcels.create(Parcel(id=2, place="new"))
    assert (await TaskService(parcels, lambda row, handle: handle.done(place="seen")).do_once()).done == (2,)
    assert (await parcels.get(1)).place == "old"
    assert (await parcels.stats()).total == 1
    await parcels.close()
    await engine.dispose()


def test_a_reflected_table_is_adopted_by_the_names_of_its_columns() -> None:
    class Fresh(DeclarativeBase):
        pass

    table = Table(
        "parcels",
        Fresh.metadata,
        Column("id", Integer, primary_key=True),
        Column("status", String(20)),
        *(
            Column(
                name,
                String(4_000) if name in ("task_worker", "task_instance", "task_error", "task_note") else BigInteger,
            )
            for name in NAMES
            if name != "task_state"
        ),
    )

    class Parcel(TaskMixin, Fresh):
        __table__ = table
        __task_columns__: ClassVar[Mapping[str, str]] = {"task_state": "status"}

    assert Shape(Parcel).task["task_state"].name == "status"
    with pytest.raises(BadModel, match="task_state: expected a column 'task_state' in table 'others', found none"):

        class Other(TaskMixin, Fresh):
            __table__ = Table("others", Fresh.metadata, Column("id", Integer, primary_key=True))


def test_a_column_of_the_users_own_takes_the_place_of_ours() -> None:
    class Fresh(DeclarativeBase):
        pass

    class Parcel(TaskMixin, Fresh):
        __tablename__ = "parcels"
        id: Mapped[int] = mapped_column(primary_key=True)
        task_error: Mapped[str | None] = mapped_column("error_message", String(500))

    assert Shape(Parcel).error_kept == 500
    assert "error_message" in Parcel.__table__.c


@feature("G2")
async def test_a_table_in_a_schema_and_a_composite_key_work(servers: Databases) -> None:
    class Fresh(DeclarativeBase):
        pass

    class Parcel(TaskMixin, Fresh):
        __tablename__ = "parcels"
        __table_args__ = {"schema": "shop"}  # noqa: RUF012 - as SQLAlchemy wants it
        depot: Mapped[str] = mapped_column(String(10), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    engine = make_engine(servers.url("postgresql"))
    assert isinstance(engine, AsyncEngine)
    parcels = TaskTable(Parcel, engine)
    assert parcels.name == "shop.parcels"
    with pytest.raises(MissingTable, match=r"CREATE TABLE shop\.parcels"):
        await parcels.create(Parcel(depot="a", number=1))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE SCHEMA shop")
        await connection.run_sync(Fresh.metadata.create_all)
    await parcels.create([Parcel(depot="a,b", number=n) for n in range(3)])
    done = await TaskService(parcels, lambda row, handle: None).do_once()
    assert sorted(done.done) == [("a,b", 0), ("a,b", 1), ("a,b", 2)]
    assert (await parcels.get(("a,b", 1))).task_state is State.SUCCEEDED
    await parcels.close()
    await engine.dispose()


@feature("G2")
async def test_a_key_may_be_of_any_type(servers: Databases, driver: str) -> None:
    class Fresh(DeclarativeBase):
        pass

    class Kind(Enum):
        LETTER = "letter"
        PARCEL = "parcel"

    class Item(TaskMixin, Fresh):
        __tablename__ = "items"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)

    class Delivery(TaskMixin, Fresh):
        __tablename__ = "deliveries"
        day: Mapped[date] = mapped_column(primary_key=True)
        kind: Mapped[Kind] = mapped_column(primary_key=True)
        note: Mapped[str | None] = mapped_column(String(20))

    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Fresh.metadata.create_all)
    items, deliveries = TaskTable(Item, engine), TaskTable(Delivery, engine)
    made = await items.create([Item() for _ in range(3)])
    assert {type(one.key[0]) for one in made} == {UUID}
    assert set((await TaskService(items, lambda row, handle: None).do_once()).done) == {one.id for one in made}
    days = [date(2030, 1, n) for n in (1, 2)]
    await deliveries.create([Delivery(day=day, kind=kind) for day in days for kind in Kind])

    async def deliver(delivery: Delivery, handle: Handle) -> None:
        if delivery.kind is Kind.LETTER:
            handle.done(note="in the box")
        else:
            handle.error("nobody at home")

    found = await TaskService(deliveries, deliver, on_error=lambda *_: None).do_once()
    assert (len(found.done), len(found.failed)) == (2, 2)
    assert (await deliveries.get((days[0], Kind.LETTER))).note == "in the box"
    assert len((await deliveries.reset(ids=[(day, Kind.PARCEL) for day in days])).done) == 2
    await engine.dispose()


# --- migrations ----------------------------------------------------------------------------------------------------


async def test_alembic_sees_the_columns_and_the_index_and_nothing_else_to_do(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        missing = await connection.run_sync(
            lambda one: compare_metadata(MigrationContext.configure(one), Base.metadata)
        )
        assert {"orders", "lines", "mails", "bills"} <= {step[1].name for step in missing if step[0] == "add_table"}
        assert "ix_orders_task" in {step[1].name for step in missing if step[0] == "add_index"}
        await connection.run_sync(Base.metadata.create_all)
        context = {"compare_type": True, "compare_server_default": True}
        left = await connection.run_sync(
            lambda one: compare_metadata(MigrationContext.configure(one, opts=context), Base.metadata)
        )
    assert left == []
    await engine.dispose()


# --- words ---------------------------------------------------------------------------------------------------------


@feature("G17")
async def test_the_seeds_words_stand_in_the_column_when_the_model_says_so(engine: AsyncEngine) -> None:
    mails = TaskTable(Mail, engine)
    made = await mails.create([Mail(address="a@example.org"), Mail(address="b@example.org")])
    [late] = await mails.create(Mail(address="c@example.org"), delay="1h")
    seen: list[str] = []

    async def send(mail: Mail, handle: Handle) -> None:
        async with engine.connect() as connection:
            row = await connection.exec_driver_sql(f"SELECT task_state FROM mails WHERE id = {mail.id}")
            seen.append(row.scalar_one())
        if mail.id == made[1].key[0]:
            handle.error("no such box")
        handle.done(sent=1) if mail.id == made[0].key[0] else None

    await TaskService(mails, send, on_error=lambda *_: None).do_once()
    async with engine.connect() as connection:
        rows: Any = await connection.exec_driver_sql("SELECT id, task_state FROM mails")
        stored = {row[0]: row[1] for row in rows}
    assert seen == ["DOING", "DOING"]
    assert stored == {made[0].key[0]: "DONE", made[1].key[0]: "ERROR", late.key[0]: "PENDING"}
    assert (await mails.get(made[0].key[0])).task_state is TaskState.DONE
    stats = await mails.stats()
    assert (stats[State.SCHEDULED], stats[State.RETRYING], stats[TaskState.PENDING]) == (1, 0, 1)
    assert [mail.id for mail in (await mails.list(state="PENDING")).items] == [late.key[0]]
    assert [mail.id for mail in (await mails.list(Mail.task_state == State.FAILED)).items] == [made[1].key[0]]


@feature("G17")
def test_each_word_of_the_seed_maps_to_ours_and_back() -> None:
    for word in TaskState:
        assert {TaskState.of(state) for state in word.states} == {word}
    assert TaskState.of(State.CANCELED) is None
    assert set(TaskState) == {TaskState(name) for name in ("INIT", "DOING", "DONE", "ERROR", "PENDING")}


# --- what can not be a task table ----------------------------------------------------------------------------------


@feature("G3")
def test_a_model_without_the_mixin_or_without_a_table_is_refused() -> None:
    class Fresh(DeclarativeBase):
        pass

    class Plain(Fresh):
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Unmapped(TaskMixin):
        pass

    models: list[tuple[Any, str]] = [
        (Plain, "no TaskMixin"),
        (Unmapped, "without a table"),
        ("Order", "expected a model class"),
    ]
    for model, found in models:
        with pytest.raises(BadModel, match=found):
            Shape(model)


def test_the_mixin_behind_the_base_is_refused_with_the_right_order() -> None:
    class Fresh(DeclarativeBase):
        pass

    with pytest.raises(BadModel, match=r"class Late\(TaskMixin, …\)"):

        class Late(Fresh, TaskMixin):
            __tablename__ = "late"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_model_without_a_primary_key_is_refused() -> None:
    class Fresh(DeclarativeBase):
        pass

    with pytest.raises(BadModel, match=r"Keyless can not be a task table:[\s\S]*expected a primary key, found none"):

        class Keyless(TaskMixin, Fresh):
            __tablename__ = "keyless"
            name: Mapped[str] = mapped_column(String(10))


def test_mapped_columns_of_the_wrong_type_are_all_named() -> None:
    class Fresh(DeclarativeBase):
        pass

    class Wrong(TaskMixin, Fresh):
        __tablename__ = "wrong"
        id: Mapped[int] = mapped_column(primary_key=True)
        task_state: Mapped[int] = mapped_column(Integer)  # type: ignore[assignment]
        task_run_at: Mapped[str] = mapped_column(String(10))  # type: ignore[assignment]
        task_token: Mapped[int] = mapped_column(Integer)

    with pytest.raises(BadModel) as caught:
        Shape(Wrong)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["task_state", "task_run_at", "task_token"]


def test_unknown_names_of_columns_and_words_are_refused_together() -> None:
    class Fresh(DeclarativeBase):
        pass

    with pytest.raises(BadModel) as caught:

        class Wrong(TaskMixin, Fresh):
            __tablename__ = "wrong"
            __task_columns__: ClassVar[Mapping[str, str]] = {"state": "status"}
            __task_words__ = "mine"
            id: Mapped[int] = mapped_column(primary_key=True)

    assert len(caught.value.faults) == 2


def test_what_is_no_engine_or_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected an Engine"):
        TaskTable(Order, "sqlite:///shop.db")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a database in a file"):
        TaskTable(Order, create_engine("sqlite://"))
    with pytest.raises(ConfigError, match="RetryPolicy"):
        TaskTable(Order, create_engine("sqlite:///shop.db"), retry=3)  # type: ignore[arg-type]


@feature("G3")
async def test_a_missing_table_is_told_with_the_ddl_that_makes_it(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    orders = TaskTable(Order, engine)
    service = TaskService(orders, lambda order, handle: None)
    for call in (orders.check, orders.stats, service.do_once, service.run):
        with pytest.raises(MissingTable, match="CREATE TABLE orders") as caught:
            await call()
        assert "ix_orders_task" in caught.value.ddl
    await orders.close()
    await engine.dispose()


def test_a_row_that_others_have_stored_is_read_by_the_users_session(servers: Databases) -> None:
    engine = make_engine(servers.url("sqlite sync"), sync=True)
    assert not isinstance(engine, AsyncEngine)
    Base.metadata.create_all(engine)
    orders = TaskTable(Order, engine)
    orders.create_sync(Order(order_id="a"))
    with Session(engine) as session:
        [order] = session.scalars(select(Order).where(Order.task_state == State.QUEUED))
        assert (order.order_id, order.task_state, order.task_run_at.tzinfo is not None) == ("a", State.QUEUED, True)
    engine.dispose()
