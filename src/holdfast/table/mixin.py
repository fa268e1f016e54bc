"""`TaskMixin`: makes a SQLAlchemy model a task table.

class Order(TaskMixin, Base):
    __tablename__ = "orders"
    order_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    receipt: Mapped[str | None]

The columns of `holdfast.table.columns` and one index are added to the user's own table. They are set before the model is
mapped and carry no annotation, so a model that is a dataclass too does not take them for its fields.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Enum, Index, String, event, text
from sqlalchemy.orm import mapped_column

from holdfast.errors import BadModel
from holdfast.table.columns import COLUMNS, NAMES, StateWord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Mapped, Mapper

    from holdfast.job.state import State
    from holdfast.table.words import TaskState

#: Behind the columns of the user, whatever their number.
_ORDER: Final = 100_000
_INDEX_MAX: Final = 60


class TaskMixin:
    """Adds state, time, lease, token, counters and last error to a model. Write it before the declarative base.

    __task_columns__: other names of columns, by attribute: {"task_state": "status"}. A column of your own takes the place
    of ours when the class declares it under our attribute's name. __task_words__ = "seed": the column holds the seed's
    words (INIT, DOING, DONE, ERROR, PENDING) instead of ours.
    """

    __task_columns__: ClassVar[Mapping[str, str]] = {}
    __task_words__: ClassVar[str] = ""
    #: The leases of this process's services, by database and service: see `holdfast.table.leases`.
    __task_leases__: ClassVar[dict[str, WeakKeyDictionary[object, float]]]

    if TYPE_CHECKING:
        task_state: Mapped[State | TaskState | str | None]
        task_run_at: Mapped[datetime]
        task_lease_until: Mapped[datetime | None]
        task_token: Mapped[int]
        task_attempt: Mapped[int]
        task_failures: Mapped[int]
        task_snoozes: Mapped[int]
        task_worker: Mapped[str | None]
        task_instance: Mapped[str | None]
        task_error: Mapped[str | None]
        task_note: Mapped[str | None]
        task_created_at: Mapped[datetime]
        task_updated_at: Mapped[datetime]

    def __init_subclass__(cls, **options: Any) -> None:
        """Add the columns, then let the declarative base map the class."""
        if not cls.__dict__.get("__abstract__", False):
            _add_columns(cls)
            cls.__task_leases__ = {}
        super().__init_subclass__(**options)


def _add_columns(cls: type[TaskMixin]) -> None:
    names, faults = cls.__task_columns__, []
    if unknown := sorted(set(names) - set(NAMES)):
        faults.append(f"__task_columns__: expected some of {', '.join(NAMES)}, found {', '.join(unknown)}.")
    if cls.__task_words__ not in ("", "seed"):
        faults.append(f"__task_words__: expected 'seed' or nothing, found {cls.__task_words__!r:.60}.")
    if faults:
        raise BadModel(cls.__name__, faults)
    table = cls.__dict__.get("__table__")
    taken = _declared(cls) if table is None else {}
    for column in COLUMNS:
        name = names.get(column.name, column.name)
        # What the class, or the model that it extends, declares itself is kept.
        if hasattr(cls, column.name):
            continue
        if name in taken:
            faults.append(f"{column.name}: expected a column of its own, found that {taken[name]} is {name!r} too.")
            continue
        taken[name] = column.name
        if table is None:
            made = mapped_column(
                name,
                column.make(cls.__task_words__ == "seed", names.get("task_failures", "task_failures")),
                nullable=column.default is None,
                server_default=None if column.default is None else text(column.default),
                sort_order=_ORDER,
            )
            setattr(cls, column.name, made)
        elif name in table.c:
            setattr(cls, column.name, table.c[name])
        else:
            faults.append(f"{column.name}: expected a column {name!r} in table {table.name!r}, found none.")
    if faults:
        raise BadModel(cls.__name__, [*faults, _ADVICE])


_ADVICE: Final = (
    "Name a column of each in __task_columns__; one of yours that shall be ours is declared under our attribute's name, "
    'task_state: Mapped[str] = mapped_column("status", String(20)).'
)


def _declared(cls: type) -> dict[str, str]:
    """Return the names of the columns that a class and its mixins declare, as far as it tells, each with its attribute."""
    found: dict[str, str] = {}
    for owner in cls.__mro__:
        values = vars(owner)
        for name in {**inspect.get_annotations(owner), **values}:
            column = getattr(values.get(name), "column", values.get(name))
            if isinstance(column, Column):
                found.setdefault(column.name or name, name)
            elif name not in values and "Mapped" in str(inspect.get_annotations(owner)[name]):
                found.setdefault(name, name)
    return {name: attribute for name, attribute in found.items() if attribute not in NAMES or hasattr(cls, attribute)}


@event.listens_for(TaskMixin, "instrument_class", propagate=True)
def _need_key(mapper: Mapper[Any], cls: type[Any]) -> None:
    """Refuse a model without a primary key, before SQLAlchemy does in words of its own."""
    table: Any = mapper.local_table
    asked = getattr(cls, "__mapper_args__", None)
    named = asked.get("primary_key") if isinstance(asked, dict) else None
    if mapper.inherits is None and table is not None and not table.primary_key.columns and not named:
        raise BadModel(
            cls.__name__,
            ["expected a primary key, found none. Mark what names a row: mapped_column(primary_key=True)."],
        )


@event.listens_for(TaskMixin, "after_mapper_constructed", propagate=True)
def _add_index(mapper: Mapper[Any], cls: type[Any]) -> None:
    """Add the one index that claims, rescues and statistics read; let a state of the user's own type be asked for too."""
    if mapper.inherits is not None:
        return
    if "task_state" not in mapper.columns:
        raise BadModel(
            cls.__name__,
            [f"expected `class {cls.__name__}(TaskMixin, …)`: the base maps the class before it is reached."],
        )
    table: Any = mapper.local_table
    _let_ask(mapper, cls)
    state, run_at = mapper.columns["task_state"], mapper.columns["task_run_at"]
    name = index_name(table)
    if all(index.name != name for index in table.indexes):
        Index(name, state, run_at, *mapper.primary_key)


def _let_ask(mapper: Mapper[Any], cls: type[Any]) -> None:
    """Make conditions on a column of the user's own, which holds texts, know the words for states."""
    kind = mapper.columns["task_state"].type
    failures = mapper.columns.get("task_failures")
    if isinstance(kind, String) and not isinstance(kind, Enum) and failures is not None:
        mapper.columns["task_state"].type = StateWord(cls.__task_words__ == "seed", failures.name, kind)


def index_name(table: Any) -> str:
    """Return the name of our index on a table."""
    return f"ix_{table.name}_task"[:_INDEX_MAX]
