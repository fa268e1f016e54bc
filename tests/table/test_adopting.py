"""Rows of an adopted table, in columns that were another's: what is NULL there jams nothing."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import BigInteger, Enum, Integer, String, Text, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from holdfast.errors import BadModel
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.table import Handle, TaskMixin, TaskService, TaskTable
from holdfast.table.columns import Moment
from holdfast.table.past import TableJobs
from holdfast.table.shape import Shape
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine


class Base(DeclarativeBase):
    """Of the models here."""


class Loose(TaskMixin, Base):
    """Each column that the mixin would make NOT NULL is the user's own, and may be NULL."""

    __tablename__ = "loose"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seen: Mapped[int | None] = mapped_column()
    task_state: Mapped[str | None] = mapped_column("status", String(20))
    task_run_at: Mapped[datetime | None] = mapped_column("due", Moment())  # type: ignore[assignment]
    task_token: Mapped[int | None] = mapped_column("version", BigInteger())  # type: ignore[assignment]
    task_attempt: Mapped[int | None] = mapped_column("attempts", Integer())  # type: ignore[assignment]
    task_failures: Mapped[int | None] = mapped_column("failures", Integer())  # type: ignore[assignment]
    task_snoozes: Mapped[int | None] = mapped_column("snoozes", Integer())  # type: ignore[assignment]
    task_created_at: Mapped[datetime | None] = mapped_column("made", Moment())  # type: ignore[assignment]
    task_updated_at: Mapped[datetime | None] = mapped_column("changed", Moment())  # type: ignore[assignment]


_INSERT = (
    "INSERT INTO loose (id, status) VALUES (1, 'queued'), (2, 'scheduled'), (3, 'retrying'), (4, 'running'), (5, NULL)"
)


@feature("G1", "G2")
async def test_rows_whose_columns_are_null_are_due_and_have_counted_nothing(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text(_INSERT))
    table = TaskTable(Loose, engine, retry=RetryPolicy(max_attempts=3, base=0))

    async def run(row: Loose, handle: Handle) -> None:
        if row.seen is None:
            handle.pending(0, seen=1)
        elif row.seen == 1 and row.id == 2:
            handle.error("once", seen=2)

    stuck = await table.stuck()
    assert ({row.id for row in stuck.lost}, {row.id for row in stuck.overdue}) == ({4}, {1, 2, 3})
    assert (await table.stats()).total == 4
    assert len(await TableJobs(table).list_failed("", 10)) == 0
    service = TaskService(table, run, on_error=lambda *_: None)
    assert (await table.rescue()).lost == 1  # what another program left running has no lease
    while (await table.stats())[State.SUCCEEDED] < 4:
        assert not (await service.do_once()).empty
    rows = {row.id: row for row in (await table.list()).items}
    assert {rows[n].task_attempt for n in (1, 3, 4)} == {2}
    assert (rows[2].task_attempt, rows[2].task_failures, rows[5].task_state) == (3, 1, None)
    await engine.dispose()


@feature("GW16")
def test_columns_that_are_null_nowhere_are_read_as_they_are() -> None:
    class Fresh(DeclarativeBase):
        pass

    class Tight(TaskMixin, Fresh):
        __tablename__ = "tight"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Shape(Tight).may_be_null == frozenset()
    assert Shape(Loose).may_be_null == {
        f"task_{name}" for name in ("run_at", "token", "attempt", "failures", "snoozes", "created_at", "updated_at")
    }


def fresh() -> Any:
    class Fresh(DeclarativeBase):
        pass

    return Fresh


def test_one_column_for_two_of_ours_or_for_one_of_the_users_is_refused_by_name() -> None:
    with pytest.raises(BadModel) as caught:

        class Twice(TaskMixin, fresh()):  # type: ignore[misc]
            __tablename__ = "twice"
            __task_columns__ = {"task_state": "status", "task_error": "note", "task_note": "note"}  # noqa: RUF012
            id: Mapped[int] = mapped_column(primary_key=True)
            status: Mapped[str]

    assert caught.value.faults[:2] == (
        "task_state: expected a column of its own, found that status is 'status' too.",
        "task_note: expected a column of its own, found that task_error is 'note' too.",
    )
    assert 'task_state: Mapped[str] = mapped_column("status", String(20))' in str(caught.value)
    with pytest.raises(BadModel, match=r"task_error: expected a column of its own, found that why is 'reason' too"):

        class Named(TaskMixin, fresh()):  # type: ignore[misc]
            __tablename__ = "named"
            __task_columns__ = {"task_error": "reason"}  # noqa: RUF012
            id: Mapped[int] = mapped_column(primary_key=True)
            why: Mapped[str] = mapped_column("reason", Text())


def test_a_state_that_is_an_enum_of_the_database_is_refused() -> None:
    class Listed(TaskMixin, fresh()):  # type: ignore[misc]
        __tablename__ = "listed"
        id: Mapped[int] = mapped_column(primary_key=True)
        task_state: Mapped[State] = mapped_column(Enum(State))

    with pytest.raises(BadModel, match=r"task_state: expected a column of type String"):
        Shape(Listed)
