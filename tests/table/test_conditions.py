"""Conditions on the state of rows: each word for a state finds all rows that are in it, whichever word is stored."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import String, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from holdfast.errors import ConfigError, ContentError
from holdfast.job.state import State
from holdfast.table import TaskMixin, TaskState, TaskTable
from holdfast.table.words import OURS, SEED
from tests.features import feature
from tests.table.databases import Databases
from tests.table.engines import make_engine


class Base(DeclarativeBase):
    """Of the models here."""


class Ours(TaskMixin, Base):
    """With our words."""

    __tablename__ = "ours"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Seed(TaskMixin, Base):
    """With the seed's words, and another name for what tells PENDING rows apart."""

    __tablename__ = "seeds"
    __task_words__ = "seed"
    __task_columns__ = {"task_failures": "failed_times"}  # noqa: RUF012 - as the mixin wants it
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Own(TaskMixin, Base):
    """With a column of the user's own for the state, of another type."""

    __tablename__ = "owns"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    task_state: Mapped[str | None] = mapped_column("status", String(20))


MODELS: list[Any] = [Ours, Seed, Own]
#: A row of each state; two are queued, one of them a suspect; the last is no task.
ROWS = [*State, "suspect", None]
NAMES = [str(row or "none") for row in ROWS]
#: A condition, and the names of the rows that it finds.
ASKED: list[tuple[Callable[[Any], Any], set[str]]] = [
    *((lambda state, one=one: state == one, {str(one)}) for one in State if one is not State.QUEUED),
    (lambda state: state == State.QUEUED, {"queued", "suspect"}),
    (lambda state: state == "queued", {"queued", "suspect"}),
    (lambda state: state == TaskState.INIT, {"queued", "suspect"}),
    (lambda state: state == TaskState.PENDING, {"scheduled", "retrying"}),
    (lambda state: state == "PENDING", {"scheduled", "retrying"}),
    (lambda state: state == TaskState.DOING, {"running"}),
    (lambda state: state == TaskState.DONE, {"succeeded"}),
    (lambda state: state == TaskState.ERROR, {"failed"}),
    (lambda state: state != TaskState.PENDING, {*NAMES} - {"scheduled", "retrying", "none"}),
    (lambda state: state != State.RETRYING, {*NAMES} - {"retrying", "none"}),
    (lambda state: state != State.QUEUED, {*NAMES} - {"queued", "suspect", "none"}),
    (lambda state: state.in_([TaskState.PENDING, State.FAILED]), {"scheduled", "retrying", "failed"}),
    (lambda state: state.in_((State.RETRYING, "paused", TaskState.INIT)), {"retrying", "paused", "queued", "suspect"}),
    (lambda state: state.not_in({State.SCHEDULED, "canceled"}), {*NAMES} - {"scheduled", "canceled", "none"}),
    (lambda state: state.in_([]), set()),
    (lambda state: state.is_(None), {"none"}),
    (lambda state: state == None, {"none"}),  # noqa: E711 - a condition
    (lambda state: state.is_not(None), {*NAMES} - {"none"}),
]


@feature("G17", "GW15")
async def test_a_condition_finds_all_rows_of_a_state_by_any_word_for_it(servers: Databases, driver: str) -> None:
    engine = make_engine(servers.url(driver))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        for model in MODELS:
            await connection.execute(model.__table__.insert(), [stored(model, *one) for one in enumerate(ROWS)])
    for model in MODELS:
        table, other, core = TaskTable(model, engine), aliased(model), model.__table__
        async with engine.connect() as connection:
            for place, (ask, found) in enumerate(ASKED):
                for column, key in (
                    (model.task_state, model.id),
                    (other.task_state, other.id),
                    (core.c[table.shape.task["task_state"].name], core.c.id),
                ):
                    ids = (await connection.execute(select(key).where(ask(column)))).scalars()
                    assert {NAMES[one] for one in ids} == found, f"{model.__name__}, condition {place}"
        page = await table.list(model.task_state == TaskState.PENDING)
        assert {NAMES[row.id] for row in page.items} == {"scheduled", "retrying"}
        assert page.items == tuple(row for row in page.items if row.task_state == TaskState.PENDING)
        changed = await table.cancel(model.task_state == State.RETRYING)
        assert [NAMES[one] for one in changed.done] == ["retrying"]
    await engine.dispose()


def stored(model: Any, place: int, state: Any) -> dict[str, Any]:
    """Return a row as its columns hold it."""
    words = SEED if model is Seed else OURS
    word = words.suspect if state == "suspect" else None if state is None else words.stored(state)
    name = "status" if model is Own else "task_state"
    failures = "failed_times" if model is Seed else "task_failures"
    return {"id": place, name: word, failures: int(state is State.RETRYING)}


def test_a_condition_that_would_find_the_wrong_rows_is_refused() -> None:
    alone = select(Seed.task_state).subquery()
    with pytest.raises(ContentError, match=r"'failed_times' is not among the columns.*TaskState.PENDING"):
        alone.c.task_state == State.RETRYING  # noqa: B015 - raises
    assert "PENDING" in str((alone.c.task_state == TaskState.PENDING).compile(compile_kwargs={"literal_binds": True}))
    with pytest.raises(ConfigError, match="found 'open'"):
        Ours.task_state == "open"  # noqa: B015 - raises
    with pytest.raises(ContentError, match="found None among them"):
        Ours.task_state.in_([State.FAILED, None])


@feature("G17")
async def test_a_text_is_looked_for_as_it_is_where_it_is_no_state(servers: Databases) -> None:
    engine = make_engine(servers.url("sqlite"))
    assert isinstance(engine, AsyncEngine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text("INSERT INTO ours (id, task_state) VALUES (1, 'suspect'), (2, 'queued')"))
        for condition, found in ((Ours.task_state.like("q%"), [2]), (Ours.task_state == "suspect", [1])):
            assert (await connection.execute(select(Ours.id).where(condition))).scalars().all() == found
    await engine.dispose()


@feature("G17")
def test_the_words_of_the_seed_equal_the_states_under_them_both_ways() -> None:
    for word in TaskState:
        for state in State:
            same = state in word.states
            assert (word == state, state == word, word != state, state != word) == (same, same, not same, not same)
        assert word == word.value == str(word)
        assert word in (word.states[0], None)
        assert {word.value: 1}[word] == 1  # type: ignore[index]
    assert TaskState.DONE != TaskState.ERROR
    assert TaskState.DONE != 1
