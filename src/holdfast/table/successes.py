"""The plain end of a row: its newest claim says done, and nothing is in its note. One statement for many rows.

The fence stands in the WHERE, per row; what the statement does not return was another's, ended before, or has a note, and
is looked at row by row by the rules of `rules.Judge`. Only for databases that return what an UPDATE wrote.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Uuid,
    bindparam,
    func,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from holdfast.job.commands import Accepted, Settled, Succeeded
from holdfast.job.state import State
from holdfast.table.rows import chunks
from holdfast.table.update import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from holdfast.job.commands import Settlement
    from holdfast.table.gate import Gate
    from holdfast.table.rows import Rows
    from holdfast.table.rules import Judge
    from holdfast.table.shape import Key, Shape

M = TypeVar("M")

#: Batches with more claims than this are looked at row by row where a statement takes one token.
_TOKENS_MAX: Final = 8
_SECOND: Final = 1_000_000
#: Types of which PostgreSQL and every driver of it know arrays.
_LISTED: Final = frozenset(
    {BigInteger, Boolean, Date, DateTime, Float, Integer, LargeBinary, Numeric, SmallInteger, String, Text, Time, Uuid}
)
_APPLIED, _SUCCEEDED = Accepted.APPLIED, State.SUCCEEDED


class Successes(Generic[M]):
    """Writes plain successes. Plain functions of a Connection."""

    def __init__(self, shape: Shape[M], gate: Gate, rows: Rows[M], judge: Judge) -> None:
        self._shape, self._gate, self._rows, self._judge = shape, gate, rows, judge
        self._listing = cache(self._listed)
        self._of_one_token = cache(self._with_token)

    def write(
        self, connection: Connection, keys: Sequence[Key | None], settlements: Sequence[Settlement[M]]
    ) -> dict[int, Settled]:
        """Write those of the batch that are plain; return the answers by their place in it."""
        if not connection.dialect.update_returning:
            return {}
        found: dict[int, Settled] = {}
        for names, places in self._plain(keys, settlements).items():
            write = self._write_lists if self._gate.dialect == "postgresql" else self._write_tokens
            found |= write(connection, names, {keys[place]: place for place in places}, settlements)  # type: ignore[misc]
        return found

    def _plain(
        self, keys: Sequence[Key | None], settlements: Sequence[Settlement[M]]
    ) -> dict[tuple[str, ...], list[int]]:
        """Return the places of plain successes by the names of the columns that they write; the first of each key."""
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        seen: set[Key] = set()
        for place, (key, settlement) in enumerate(zip(keys, settlements, strict=True)):
            if key is None or key in seen:
                continue
            seen.add(key)
            if type(settlement.ending) is Succeeded:
                groups[tuple(columns_of(settlement.ending.update))].append(place)
        return {names: places for names, places in groups.items() if self._can_write(names)}

    def _can_write(self, names: tuple[str, ...]) -> bool:
        if not names:
            return True
        own = self._shape.own
        return self._gate.dialect == "postgresql" and all(type(own[name].type) in _LISTED for name in names)

    # --- PostgreSQL: a list for each column ------------------------------------------------------------------------

    def _write_lists(
        self,
        connection: Connection,
        names: tuple[str, ...],
        places: dict[Key, int],
        settlements: Sequence[Settlement[M]],
    ) -> dict[int, Settled]:
        given: dict[str, Any] = {f"k{at}": list(part) for at, part in enumerate(zip(*places, strict=True))}
        given["n_token"] = [settlements[place].claim.token for place in places.values()]
        updates = [columns_of(settlements[place].ending.update) for place in places.values()] if names else []  # type: ignore[union-attr]
        for at, name in enumerate(names):
            given[f"v{at}"] = [update[name] for update in updates]
        return self._answers(connection, self._listing(names), {**given, **self._gate.moment()}, places, settlements)

    def _listed(self, names: tuple[str, ...]) -> Any:
        shape = self._shape
        types = {f"k{at}": key.type for at, key in enumerate(shape.keys)}
        types |= {"n_token": BigInteger(), **{f"v{at}": shape.own[name].type for at, name in enumerate(names)}}
        lists = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
        given = func.unnest(*lists).table_valued(*types).render_derived("given")
        values = {shape.own[name]: given.c[f"v{at}"] for at, name in enumerate(names)}
        mine = [key == given.c[f"k{at}"] for at, key in enumerate(shape.keys)]
        return self._statement(values, *mine, self._rows.column("task_token") == given.c.n_token)

    # --- SQLite: a statement for each token ------------------------------------------------------------------------

    def _write_tokens(
        self,
        connection: Connection,
        names: tuple[str, ...],
        places: dict[Key, int],
        settlements: Sequence[Settlement[M]],
    ) -> dict[int, Settled]:
        tokens: dict[int, list[Key]] = defaultdict(list)
        for key, place in places.items():
            tokens[settlements[place].claim.token].append(key)
        found: dict[int, Settled] = {}
        for token, keys in tokens.items() if len(tokens) <= _TOKENS_MAX else ():
            for some in chunks(keys):
                listed = [key[0] for key in some] if len(self._shape.keys) == 1 else list(some)
                given = {"keys": listed, "n_token": token, **self._gate.moment()}
                found |= self._answers(connection, self._of_one_token(), given, places, settlements)
        return found

    def _with_token(self) -> Any:
        mine = self._rows.of_keys.in_(bindparam("keys", expanding=True))
        return self._statement({}, mine, self._rows.column("task_token") == bindparam("n_token", type_=BigInteger()))

    # --- both ------------------------------------------------------------------------------------------------------

    def _statement(self, values: dict[Any, Any], *mine: Any) -> Any:
        task, rows = self._shape.task, self._rows
        ours = {task[name]: value for name, value in self._judge.success(self._gate.now_bound()).items()}
        fence = (rows.still(self._shape.words.running), rows.column("task_note").is_(None))
        statement = update(rows.table).where(*mine, *fence).values({**ours, **values})
        return statement.returning(*self._shape.keys, rows.column("task_run_at"))

    def _answers(
        self,
        connection: Connection,
        statement: Any,
        given: dict[str, Any],
        places: dict[Key, int],
        settlements: Sequence[Settlement[M]],
    ) -> dict[int, Settled]:
        found: dict[int, Settled] = {}
        for *key, run_at in connection.execute(statement, given):
            claim = settlements[place := places[tuple(key)]].claim
            found[place] = Settled(claim.id, claim.token, _APPLIED, _SUCCEEDED, run_at / _SECOND)
        return found
