"""What a task table knows of its model: key, columns, words. All that can be wrong with a model is found here, at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from sqlalchemy import Enum, ForeignKey, String, Table, inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from holdfast.durations import instant
from holdfast.errors import BadColumns, BadModel, BadRow, ContentError, UsageError
from holdfast.job.ids import check_name, shown
from holdfast.table.columns import COLUMNS, ERROR_KEPT, NAMES, Column, Moment, StateWord, micros
from holdfast.table.keys import KeyPart, joined, parts_of
from holdfast.table.mixin import TaskMixin, index_name
from holdfast.table.words import OURS, SEED, Words

if TYPE_CHECKING:
    from sqlalchemy import Column as TableColumn
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper

M = TypeVar("M")

Key = tuple[Any, ...]
_FRAMEWORK: Final = frozenset(NAMES)


class Shape(Generic[M]):
    """A checked model. keys: its primary key; task: our columns by attribute; own: the user's by attribute."""

    def __init__(self, model: type[M], name: str | None = None) -> None:
        """name: of the queue that the table is for workers and people; the table's full name unless given.

        Raises BadModel that lists every fault.
        """
        self.model = model
        self.mapper: Mapper[M] = _mapper_of(model)
        self.table = cast("Table", self.mapper.local_table)
        self.words: Words = SEED if getattr(model, "__task_words__", "") == "seed" else OURS
        self.task: Mapping[str, Any] = {
            name: self.mapper.columns[name] for name in NAMES if name in self.mapper.columns
        }
        if faults := _faults(model, self.table, self.task):
            raise BadModel(model.__name__, faults)
        # A plain text: SQLAlchemy's own kind of text can not be sent as JSON.
        self.name = check_name(name if name is not None else f"{self.table.fullname}", "task table")
        self.keys = tuple(self.mapper.primary_key)
        self.key_names = tuple(self.mapper.get_property_by_column(column).key for column in self.keys)
        self._parts = tuple(KeyPart(name, one) for name, one in zip(self.key_names, self.keys, strict=True))
        #: Ours that the user's own columns let be NULL: each then stands for 0, so the row is due and nothing was counted.
        self.may_be_null = frozenset(
            column.name for column in COLUMNS if column.default is not None and self.task[column.name].nullable
        )
        self.own = {
            attribute.key: attribute.columns[0]
            for attribute in self.mapper.column_attrs
            if attribute.key not in _FRAMEWORK
            and attribute.key not in self.key_names
            and attribute.columns[0].table is self.table
        }
        self._of_instance = self.mapper.primary_key_from_instance
        self.error_kept = min(ERROR_KEPT, self._length("task_error") or ERROR_KEPT)
        self.worker_kept = self._length("task_worker")

    def _length(self, name: str) -> int | None:
        """How many characters a column holds; None: any number."""
        return cast("String", self.task[name].type).length

    # --- loading ---------------------------------------------------------------------------------------------------

    @cached_property
    def is_plain(self) -> bool:
        """Whether the table's own columns make an instance: nothing is joined to it, and no other class shares the table."""
        joined = any(one.lazy in ("joined", "subquery", False) for one in self.mapper.relationships)
        computed = any(one.columns[0] not in set(self.table.columns) for one in self.mapper.column_attrs)
        return not joined and not computed and len(list(self.mapper.self_and_descendants)) == 1

    @cached_property
    def loaded(self) -> tuple[Any, ...]:
        """The columns that loading an instance reads."""
        return tuple(one.columns[0] for one in self.mapper.column_attrs if not one.deferred)

    @property
    def changes_by_itself(self) -> bool:
        """Whether an UPDATE changes columns that it does not name, as far as the model tells."""
        columns = self.table.columns
        return any(one.onupdate is not None or one.server_onupdate is not None or one.computed for one in columns)

    def order_of(self, instance: Any) -> tuple[Any, ...]:
        """Return what sorts instances as claims are handed out; one without a time is due since ever."""
        at, key = instance.task_run_at, self.key_of_instance(instance)
        return at is not None, at, *(part.order(one) for part, one in zip(self._parts, key, strict=True))

    # --- keys ------------------------------------------------------------------------------------------------------

    def key_of(self, given: object) -> Key:
        """Return the key that a caller gave: one value, a tuple of them, or the text of either. Raises ContentError."""
        key = given if isinstance(given, tuple) else (given,)
        if len(self.keys) > 1 and isinstance(given, str):
            key = tuple(parts_of(given))
        if len(key) != len(self.keys):
            raise self._no_key(given, "Give one value." if len(self.keys) == 1 else "Give a tuple.")
        try:
            return tuple(part.checked(one) for part, one in zip(self._parts, key, strict=True))
        except ValueError as error:
            raise self._no_key(given, f"It is not: {error}.") from None

    def _no_key(self, given: object, why: str) -> ContentError:
        names = ", ".join(self.key_names)
        return ContentError(f"task table {self.name!r}: expected an id made of {names}, found {given!r:.120}. {why}")

    def keys_of(self, ids: object) -> list[Key]:
        """Return the keys of ids that a caller listed. Raises UsageError for what is no list, ContentError for an id."""
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise UsageError(f"ids: expected a list of ids, found {shown(ids)}. Write ids=[{ids!r:.40}].")
        return [self.key_of(one) for one in ids]

    def key_of_instance(self, instance: M) -> Key:
        """Return the key under which an instance was loaded, whatever was set on it since."""
        known = instance_state(instance).key
        return known[1] if known is not None else tuple(self._of_instance(instance))

    def id_of(self, key: Key) -> str:
        """Return a key as text, for logs, metrics and the worker."""
        return joined([part.text(one) for part, one in zip(self._parts, key, strict=True)])

    def id_from(self, row_id: str) -> Any:
        """Return what a program is given for the id of `id_of`: the key itself, bare when it is one value."""
        key = self.key_from(row_id)
        return row_id if key is None else bare(key)

    def key_from(self, row_id: str) -> Key | None:
        """Return the key of an id as `id_of` tells it; None for a text that is none."""
        parts = [row_id] if len(self.keys) == 1 else parts_of(row_id)
        if len(parts) != len(self.keys):
            return None
        try:
            return tuple(part.value(text) for part, text in zip(self._parts, parts, strict=True))
        except (ValueError, TypeError, ArithmeticError, KeyError):
            return None

    # --- updates ---------------------------------------------------------------------------------------------------

    def check_update(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """Return columns that a runner reports, by attribute. Raises BadColumns for all others, by name."""
        if not isinstance(update, Mapping):
            raise BadColumns((), f"update: expected a dict of columns of {self.model.__name__}, found {shown(update)}.")
        if all(name in self.own for name in update):
            return dict(update)
        wrong = [name for name in update if name not in self.own]
        raise BadColumns(wrong, f"update of {self.model.__name__}: " + " ".join(self._refusal(name) for name in wrong))

    def _refusal(self, name: object) -> str:
        if name in _FRAMEWORK:
            return f"{name} is kept by the framework; report done, pending or an error instead."
        if name in self.key_names:
            return f"{name} is the primary key, which an update does not change."
        near = difflib.get_close_matches(str(name), self.own, 1)
        return f"{name!r} is no column" + (f"; did you mean {near[0]}?" if near else f" (there are: {self._known()}).")

    def _known(self) -> str:
        return ", ".join(self.own) or "none beside the key"

    def unreported(self, instance: M, reported: Mapping[str, Any]) -> list[str]:
        """Return the attributes that were changed on a detached instance and are not in the report."""
        state = instance_state(instance)
        if not state.modified:
            return []
        attributes = state.attrs
        return [
            name
            for name in (*self.key_names, *self.own, *NAMES)
            if name not in reported and name in attributes and attributes[name].history.has_changes()
        ]

    def moment(self, value: Any) -> int:
        """Return a time of a row (a datetime with a zone, or microseconds) as microseconds. Raises BadTime."""
        return (
            value if isinstance(value, int) and not isinstance(value, bool) else micros(instant(value, "task_run_at"))
        )

    def shown_moment(self, name: str, value: int) -> Any:
        """Return microseconds as the attribute `name` of an instance shows them."""
        kind = self.task[name].type
        return kind.process_result_value(value, None) if isinstance(kind, Moment) else value

    def shown_state(self, word: str) -> Any:
        """Return a word as the attribute `task_state` of an instance shows it."""
        kind = self.task["task_state"].type
        return kind.process_result_value(word, None) if isinstance(kind, StateWord) else word

    # --- rows and statements ---------------------------------------------------------------------------------------

    def check_new(self, place: int, instance: object) -> Key:
        """Return the key of a new row, parts of it None when the database makes them. Raises BadRow or ContentError."""
        if not isinstance(instance, self.model):
            raise ContentError(
                f"row {place} of the batch: expected an instance of {self.model.__name__}, found {shown(instance)}."
            )
        key = tuple(getattr(instance, name) for name in self.key_names)
        empty = [name for name, part in zip(self.key_names, key, strict=True) if part in ("", b"")]
        missing = [
            name
            for name, part, column in zip(self.key_names, key, self.keys, strict=True)
            if part is None and not _is_made(self.table, column)
        ]
        if empty or missing:
            raise BadRow(place, self.id_of(key), f"expected an id in {', '.join(empty or missing)}, found none.")
        for part, one in zip(self._parts, key, strict=True):
            try:
                _ = one is None or part.checked(one)
            except ValueError as error:
                raise BadRow(place, self.id_of(key), f"{error}.") from None
        return key

    def ddl(self, dialect: Dialect) -> str:
        """Return the statements that make the table and its indexes, for a dialect."""
        made = [str(CreateTable(self.table).compile(dialect=dialect)).strip()]
        indexes = sorted(self.table.indexes, key=lambda index: str(index.name))
        made += [str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes]
        return _joined(made)

    def ddl_to_adopt(self, dialect: Dialect, missing: Sequence[str] | None = None) -> str:
        """Return the statements that add columns to a table that exists: `missing`, or all of ours; and our index."""
        ours = [column for column in self.table.columns if column in set(self.task.values())]
        columns = ours if missing is None else [self.table.columns[name] for name in missing]
        table = dialect.identifier_preparer.format_table(self.table)
        added = [str(CreateColumn(column).compile(dialect=dialect)).strip() for column in columns]
        made = [f"ALTER TABLE {table} ADD COLUMN {text}" for text in added]
        if any(column is self.task["task_state"] for column in columns):
            name = index_name(self.table)
            found = [index for index in self.table.indexes if index.name == name]
            made += [str(CreateIndex(index).compile(dialect=dialect)).strip() for index in found]
        return _joined(made)


def bare(key: Key) -> Any:
    """Return a key as programs give and get it: one value as it is, several as a tuple."""
    return key[0] if len(key) == 1 else key


def _joined(statements: Sequence[str]) -> str:
    return "".join(f"{statement};\n" for statement in statements)


def _mapper_of(model: Any) -> Mapper[Any]:
    name = getattr(model, "__name__", repr(model)[:80])
    if not isinstance(model, type):
        raise BadModel(name, [f"expected a model class, found {shown(model)}."])
    if not issubclass(model, TaskMixin):
        raise BadModel(name, [f"expected `class {name}(TaskMixin, …)`, found no TaskMixin. Add it before the base."])
    try:
        mapper: Mapper[Any] = inspect(model)
    except NoInspectionAvailable:
        raise BadModel(
            name, ["expected a mapped class, found one without a table. Derive it from your declarative base."]
        ) from None
    return mapper


def _faults(model: type, table: Any, task: Mapping[str, TableColumn[Any]]) -> list[str]:
    owner: Mapper[Any] | None = inspect(model).inherits
    if owner is not None:
        return [f"expected {owner.class_.__name__}, which owns the table: a claim takes rows of all its kinds."]
    if not isinstance(table, Table):
        return [f"expected a table, found {type(table).__name__}: rows of a join or a view can not be claimed."]
    faults = [f"{name}: expected a mapped column, found none." for name in NAMES if name not in task]
    found = [_type_fault(column, task[column.name]) for column in COLUMNS if column.name in task]
    return faults + [fault for fault in found if fault]


def _type_fault(column: Column, found: TableColumn[Any]) -> str:
    length = getattr(found.type, "length", None)
    fits = isinstance(found.type, column.accepts) and not isinstance(found.type, Enum)
    if not fits or (length is not None and length < column.shortest):
        wanted = column.make(False, "")
        least = f" of {column.shortest} characters or more" if column.shortest else ""
        return (
            f"{column.name}: expected a column of type {wanted!r}{least}, found {found.name!r} of type {found.type!r}. "
            "Leave it to the mixin, or change its type."
        )
    return ""


def _is_made(table: Table, column: Any) -> bool:
    """Whether a part of the key comes from the database, a default, or the row that it refers to."""
    return (
        column is table.autoincrement_column
        or column.default is not None
        or column.server_default is not None
        or column.identity is not None
        or any(isinstance(key, ForeignKey) for key in column.foreign_keys)
    )
