"""The statements of a task table, written once with SQLAlchemy Core. Plain functions of a Connection.

Rows are locked first (FOR UPDATE, passing over those that others hold where that is right), then decided about, then
written with their token and state in the WHERE: one way for all databases. (The plain life of a row has statements of its
own where an UPDATE returns what it wrote: `claims`, `successes`.) On SQLite the transaction itself is the lock.
The words of states stand in the texts as literals, so that plans may count on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    String,
    Text,
    and_,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from holdfast.job.state import State
from holdfast.table.rules import Change, Row, read_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from holdfast.table.gate import Gate
    from holdfast.table.shape import Key, Shape

M = TypeVar("M")

#: Keys in one statement: databases bound the number of parameters.
KEYS_MAX: Final = 500
_RAW: Final[Mapping[str, Any]] = {
    "task_state": String(),
    "task_worker": String(),
    "task_instance": String(),
    "task_error": Text(),
    "task_note": Text(),
}


class Rows(Generic[M]):
    """Reads and writes rows of one shape."""

    def __init__(self, shape: Shape[M], gate: Gate) -> None:
        self.shape, self._gate, self.words = shape, gate, shape.words
        self.table = shape.table
        self._task = shape.task
        # Ours are read as they are stored: what a user's own type makes of them is not our business.
        self._read = tuple(type_coerce(shape.task[name], _RAW.get(name, BigInteger())) for name in _READ)

    # --- pieces ----------------------------------------------------------------------------------------------------

    def column(self, name: str) -> ColumnElement[Any]:
        """Return one of our columns, as it is stored; 0 where a user's own is NULL and ours never is."""
        stored: ColumnElement[Any] = type_coerce(self._task[name], _RAW.get(name, BigInteger()))
        return func.coalesce(stored, 0) if name in self.shape.may_be_null else stored

    @property
    def run_at(self) -> ColumnElement[Any]:
        """The time of a row as the index has it; NULL, where a user's own may be, is due since ever."""
        return type_coerce(self._task["task_run_at"], BigInteger())

    @property
    def has_no_time(self) -> ColumnElement[bool] | None:
        """The condition that a row's time is NULL; None where it can not be."""
        return self.run_at.is_(None) if "task_run_at" in self.shape.may_be_null else None

    def is_due(self, at: int) -> ColumnElement[bool]:
        """Return the condition that a row's time has come."""
        come, none = self.run_at <= at, self.has_no_time
        return come if none is None else or_(come, none)

    def is_over(self, at: int) -> ColumnElement[bool]:
        """Return the condition that a running row's lease has ended. One that another program set running has none."""
        until = self.column("task_lease_until")
        return or_(until <= at, until.is_(None))

    def begin_as_writer(self, connection: Connection) -> None:
        """On SQLite let nobody come between a look and a write."""
        if self._gate.is_sqlite:
            self._gate.begin_as_writer(connection)

    def now(self) -> ColumnElement[int]:
        """The time, in microseconds since the epoch."""
        return self._gate.now()

    def in_state(self, *words: str) -> ColumnElement[bool]:
        """Return the condition that a row's state is one of these words."""
        texts = [literal_column(f"'{word}'", String) for word in words]
        state = self.column("task_state")
        return state == texts[0] if len(texts) == 1 else state.in_(texts)

    def has_key(self, keys: Sequence[Key]) -> ColumnElement[bool]:
        """Return the condition that a row is one of `keys`; at most KEYS_MAX."""
        columns = self.shape.keys
        if self._gate.dialect == "postgresql":
            arrays = [
                bindparam(None, [key[at] for key in keys], ARRAY(column.type), unique=True)
                for at, column in enumerate(columns)
            ]
            if len(columns) == 1:
                return columns[0] == any_(arrays[0])
            listed = func.unnest(*arrays).table_valued(*(f"k{at}" for at in range(len(columns)))).render_derived()
            return tuple_(*columns).in_(select(*listed.c))
        if len(columns) == 1:
            return columns[0].in_([key[0] for key in keys])
        if self._gate.is_sqlite:
            return self.of_keys.in_(list(keys))
        # MariaDB uses the index for this form, and not for a list of tuples.
        return or_(*(and_(*(c == part for c, part in zip(columns, key, strict=True))) for key in keys))

    def is_after(self, key: Key) -> ColumnElement[bool]:
        """Return the condition that a row's key is greater than `key`."""
        parts = [literal(part, column.type) for part, column in zip(key, self.shape.keys, strict=True)]
        return self.shape.keys[0] > parts[0] if len(parts) == 1 else tuple_(*self.shape.keys) > tuple_(*parts)

    def is_state(self, *states: State) -> ColumnElement[bool]:
        """Return the condition that a row is in one of these states, also where two of them share a word."""
        words, split = self.words.sought(states)
        parts = [self.in_state(*words)] if words else []
        if split is not None:
            failed = self.column("task_failures") > 0
            parts.append(and_(self.in_state(self.words.scheduled), failed if split is State.RETRYING else not_(failed)))
        return or_(*parts)

    def still(self, word: str) -> ColumnElement[bool]:
        """Return the condition that a row which is looked up by its key is in a state.

        It hides the state from the planner: PostgreSQL, without statistics of a young table, would otherwise look through
        all rows of that state for each key (0.2 s for 400 keys of 1,600 running rows).
        """
        state: Any = func.coalesce(self.column("task_state"), "")
        found: ColumnElement[bool] = state == literal_column(f"'{word}'", String)
        return found

    @property
    def of_keys(self) -> ColumnElement[Any]:
        """The key as one side of an IN."""
        keys: tuple[Any, ...] = self.shape.keys
        side: ColumnElement[Any] = keys[0] if len(keys) == 1 else tuple_(*keys)
        return side

    def order(self) -> tuple[ColumnElement[Any], ...]:
        """Return the order of claims: that of the index."""
        return self._task["task_run_at"], *self.shape.keys

    # --- reading ---------------------------------------------------------------------------------------------------

    def chosen(self, *where: ColumnElement[bool]) -> Select[Any]:
        """Return the statement that reads our columns of rows."""
        return select(*self.shape.keys, *self._read, self._gate.now().label("now_")).where(*where)

    def read(self, connection: Connection, statement: Select[Any]) -> tuple[list[Row], int]:
        """Return rows of a statement made by `chosen`, and the time of it (0 when there are none)."""
        found = connection.execute(statement).all()
        rows = [self.row_of(one) for one in found]
        return rows, int(found[0][-1]) if found else 0

    def row_of(self, values: Any) -> Row:
        """Return what `chosen` reads of a row."""
        width = len(self.shape.keys)
        key = tuple(values[:width])
        state, run_at, lease_until, token, attempt, failures, snoozes, worker, instance, note, _ = values[width:]
        return Row(
            key=key,
            id=self.shape.id_of(key),
            state=self.words.state(state, failures or 0),
            stored=state or "",
            run_at=run_at or 0,
            lease_until=lease_until or 0,
            token=token or 0,
            attempt=attempt or 0,
            failures=failures or 0,
            snoozes=snoozes or 0,
            worker=worker or "",
            instance=instance or "",
            note=read_note(note),
        )

    def locked(self, connection: Connection, keys: Sequence[Key]) -> tuple[dict[Key, Row], int]:
        """Lock these rows in the order of their keys; return those that are there, and the time."""
        found: dict[Key, Row] = {}
        now = 0
        for some in chunks(sorted(keys, key=_sortable)):
            statement = self.chosen(self.has_key(some)).order_by(*self.shape.keys).with_for_update()
            rows, at = self.read(connection, statement)
            found |= {row.key: row for row in rows}
            now = max(now, at)
        return found, now

    def own_of(self, connection: Connection, key: Key, names: Sequence[str]) -> dict[str, Any]:
        """Return some of the user's own columns of a row; none when it is gone."""
        statement = select(*(self.shape.own[name] for name in names)).where(self.has_key([key]))
        found = connection.execute(statement).one_or_none()
        return {} if found is None else dict(zip(names, found, strict=True))

    def free(self, limit: int, *where: ColumnElement[bool], patient: bool = False) -> Select[Any]:
        """Return the statement that locks the first `limit` rows; what others hold is passed over, or waited for."""
        statement = self.chosen(*where).order_by(*self.order()).limit(limit)
        return statement.with_for_update(skip_locked=not patient)

    def instances(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, M]:
        """Load rows as detached instances of the model, with what their mapping loads eagerly."""
        found: dict[Key, M] = {}
        # No flush, no commit: the session only makes objects of rows.
        with Session(bind=connection, autoflush=False, expire_on_commit=False) as session:
            for some in chunks(keys):
                for instance in session.scalars(select(self.shape.model).where(self.has_key(some))).unique():
                    found[self.shape.key_of_instance(instance)] = instance
            session.expunge_all()
        return found

    # --- writing ---------------------------------------------------------------------------------------------------

    def set_all(self, connection: Connection, rows: Sequence[Row], values: dict[str, Any]) -> None:
        """Write the same values to locked rows, fenced by their tokens."""
        named = {self._task[name]: value for name, value in values.items()}
        for some in chunks(rows):
            statement = update(self.table).where(
                self.has_key([row.key for row in some]), self._has_token({row.token for row in some})
            )
            connection.execute(statement.values(named))

    def _has_token(self, tokens: set[int]) -> ColumnElement[bool]:
        token = self.column("task_token")
        if self._gate.dialect == "postgresql":
            return token == any_(bindparam(None, sorted(tokens), ARRAY(BigInteger), unique=True))
        return token.in_(sorted(tokens))

    def write(self, connection: Connection, changes: Iterable[Change]) -> None:
        """Write each change in one fenced statement: our columns and the user's together."""
        groups: dict[tuple[str, ...], list[Change]] = defaultdict(list)
        for change in changes:
            groups[tuple(change.values)].append(change)
        for names, group in groups.items():
            statement = self._fenced(names)
            connection.execute(statement, [self._parameters(change) for change in group])

    def _fenced(self, names: tuple[str, ...]) -> Any:
        values = {self._named(name): bindparam(f"v_{name}", type_=self._type(name)) for name in names}
        fence = [column == bindparam(f"k_{at}", type_=column.type) for at, column in enumerate(self.shape.keys)]
        fence.append(self.column("task_token") == bindparam("k_token", type_=BigInteger()))
        fence.append(func.coalesce(self.column("task_state"), "") == bindparam("k_state", type_=String()))
        return update(self.table).where(*fence).values(values)

    def _parameters(self, change: Change) -> dict[str, Any]:
        keys = {f"k_{at}": part for at, part in enumerate(change.row.key)}
        fence = {"k_token": change.row.token, "k_state": change.row.stored}
        return {**keys, **fence, **{f"v_{name}": value for name, value in change.values.items()}}

    def _named(self, name: str) -> Any:
        return self._task[name] if name in self._task else self.shape.own[name]

    def _type(self, name: str) -> Any:
        if name not in self._task:
            return self.shape.own[name].type
        return _RAW.get(name, BigInteger())


_READ: Final = (
    "task_state",
    "task_run_at",
    "task_lease_until",
    "task_token",
    "task_attempt",
    "task_failures",
    "task_snoozes",
    "task_worker",
    "task_instance",
    "task_note",
)


def chunks(items: Sequence[Any], size: int = KEYS_MAX) -> Iterable[Sequence[Any]]:
    """Yield `items` in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _sortable(key: Key) -> tuple[str, ...]:
    # Any order will do, as long as all transactions lock in the same one.
    return tuple(f"{part!r:.100}" for part in key)
