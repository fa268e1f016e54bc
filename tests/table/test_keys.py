"""Ids of rows: what is given back is the key itself, and it, or its text, is taken wherever an id is asked for."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import BigInteger, Boolean, DateTime, Interval, LargeBinary, Numeric, String, Uuid
from sqlalchemy import Enum as EnumType
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, mapped_column

from holdfast.errors import BadRow, ContentError, UnknownRow, UsageError
from holdfast.history import JobFilter
from holdfast.job.state import State
from holdfast.table import Handle, TaskMixin, TaskService, TaskTable
from holdfast.table.past import TableJobs
from holdfast.table.shape import Shape
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine


class Kind(Enum):
    """No text, and in no order."""

    LETTER = 2
    PARCEL = 1


class Colour(StrEnum):
    """A text."""

    RED = "red"


class Base(DeclarativeBase):
    """Of the models here."""


def of_key(name: str, /, **keys: Any) -> Any:
    """Return a task model with columns as its key."""
    columns = {part: mapped_column(kind, primary_key=True) for part, kind in keys.items()}
    return type(name, (TaskMixin, Base), {"__tablename__": name.lower(), "__module__": __name__, **columns})


Numbered = of_key("Numbered", number=BigInteger())
Named = of_key("Named", name=String(20))
Unique = of_key("Unique", uid=Uuid())
Daily = of_key("Daily", day=DateTime(timezone=True))
Mixed = of_key("Mixed", place=String(20), number=BigInteger(), kind=EnumType(Kind))
Exact = of_key("Exact", amount=Numeric(10, 2))
Raw = of_key("Raw", raw=LargeBinary(20))
Flag = of_key("Flag", flag=Boolean(), wait=Interval())

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
#: Models with two keys of each, as a program has them.
KEYS: list[tuple[Any, list[Any]]] = [
    (Numbered, [7, 8]),
    (Named, ["7", "a,b\\c"]),
    (Unique, [UUID(int=7), UUID(int=8)]),
    (Mixed, [("a,b", 7, Kind.PARCEL), ("\\", -7, Kind.LETTER)]),
    (Exact, [Decimal("12.50"), Decimal("0.01")]),
]
#: Those that not each database can have as a key, or gives back otherwise.
TEXTS: list[tuple[Any, list[Any]]] = [
    *KEYS,
    (Named, [Colour.RED]),
    (Daily, [NOON, NOON + timedelta(microseconds=1)]),
    (Raw, [b"\x00,\xff"]),
    (Flag, [(True, timedelta(days=-1, microseconds=3)), (False, timedelta(0))]),
]


@pytest.mark.parametrize(("model", "ids"), TEXTS)
def test_a_key_is_what_its_text_says(model: Any, ids: list[Any]) -> None:
    shape = Shape(model)
    for given in ids:
        key = shape.key_of(given)
        assert shape.key_from(shape.id_of(key)) == key
        assert shape.key_of(shape.id_of(key)) == key
        assert shape.id_from(shape.id_of(key)) == given


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (Numbered, "seven"),
        (Numbered, None),
        (Numbered, (7, 8)),
        (Numbered, date(2030, 1, 1)),
        (Named, 7),
        (Unique, "7"),
        (Mixed, "a"),
        (Mixed, ("a", 7)),
        (Mixed, ("a", 7, "BOX")),
        (Flag, "yes,0"),
        (Daily, "noon"),
    ],
)
def test_what_is_no_key_is_refused_with_what_one_is_made_of(model: Any, wrong: object) -> None:
    shape = Shape(model)
    with pytest.raises(ContentError, match=f"expected an id made of {', '.join(shape.key_names)}, found"):
        shape.key_of(wrong)


@feature("G2", "G25", "G27", "G20")
async def test_the_ids_that_are_given_back_are_taken_by_each_call(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    models = list(dict.fromkeys(model for model, _ in KEYS))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all, [model.__table__ for model in models])
    for model, ids in KEYS:
        await check_ids(TaskTable(model, engine), ids)
    await engine.dispose()


async def check_ids(table: TaskTable[Any], ids: list[Any]) -> None:
    """Let rows go through all that tells ids, and give them to all that takes them."""
    names, service = table.shape.key_names, TaskService(table, refuse, on_error=lambda *_: None)
    parts = [one if isinstance(one, tuple) else (one,) for one in ids]
    made = await table.create([table.model(**dict(zip(names, key, strict=True))) for key in parts])
    assert ([one.id for one in made], [one.key for one in made]) == (ids, parts)
    found = await service.do_once()
    assert sorted(map(repr, (one.id for one in found.failed))) == sorted(map(repr, ids))
    changed = await table.reset(ids=[*(one.id for one in found.failed), ids[0]])
    assert {*changed.done} == {*ids}
    assert (await table.reset(ids=ids)).refused[0].id == ids[0]
    for claim in await table.acquire(2):
        assert (await table.get(claim.id)).task_token == claim.token  # the worker's text of it
        await table.mark_error(claim, "no")
    assert {*(await table.retry(ids=[table.shape.id_of(key) for key in parts])).done} == {*ids}
    assert {*(await table.cancel(ids=ids)).done} == {*ids}
    page = await table.list(limit=1)
    assert (await table.get(page.cursor)).task_state is State.CANCELED
    rest = await table.list(after=page.cursor)
    assert len(rest.items) == 1
    # The same rows as the history shows them: by text, in pages.
    jobs, cursor = TableJobs(table), ""
    for _ in range(2):
        shown = await jobs.page(JobFilter(), 1, cursor, newest_first=False)
        [job] = shown.items
        assert (await jobs.get(job.id)).id == job.id
        cursor = shown.cursor
    assert cursor == ""


async def refuse(row: Any, handle: Handle) -> None:
    """A runner that fails."""
    handle.error("no")


@feature("G22")
async def test_rows_of_one_moment_are_claimed_whatever_their_key_is(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all, [Mixed.__table__])
    table = TaskTable(Mixed, engine)
    await table.create([Mixed(place="a", number=1, kind=kind, task_run_at=NOON) for kind in Kind], run_at=1)
    await table.create([Mixed(place="b", number=1, kind=kind, task_run_at=1) for kind in Kind])
    assert len((await TaskService(table, lambda row, handle: None).do_once()).done) == 2
    await engine.dispose()


@feature("G4")
async def test_a_new_row_whose_key_is_of_another_type_is_refused(servers: Databases) -> None:
    engine = make_engine(servers.url("sqlite"))  # which would store any value in any column
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all, [Mixed.__table__])
    table = TaskTable(Mixed, engine)
    rows = [Mixed(place="a", number=number, kind=Kind.LETTER) for number in (1, "x")]
    with pytest.raises(BadRow, match=r"row 1 of the batch .*expected number of type int, found 'x'"):
        await table.create(rows)
    assert (await table.stats()).total == 0
    await engine.dispose()


async def test_a_list_of_ids_is_a_list(servers: Databases) -> None:
    engine = make_engine(servers.url("sqlite"))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all, [Named.__table__])
    table = TaskTable(Named, engine)
    await table.create([Named(name=name) for name in ("g", "2", "g2")])
    for call in (table.reset, table.retry, table.cancel):
        for wrong in ("g2", b"g2", 7):
            with pytest.raises(UsageError, match=r"ids: expected a list of ids, found .*\. Write ids=\["):
                await call(ids=wrong)  # type: ignore[arg-type]
    assert (await table.stats())[State.QUEUED] == 3
    with pytest.raises(UnknownRow, match="'g3'"):
        await table.get("g3")
    await engine.dispose()
