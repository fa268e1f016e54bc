"""SQLite's words. A transaction that writes is alone in the whole file, so nothing has to be locked."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.stores.sql.dialects.dialect import Dialect
from holdfast.stores.sql.dialects.sqlite_hot import SqliteHot
from holdfast.stores.sql.lists import Line, steps
from holdfast.stores.sql.rows import QUEUED, RUNNING, micros
from holdfast.stores.sql.schema import TABLES
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from holdfast.clock import Clock
    from holdfast.job.commands import JobFilter
    from holdfast.stores.sql.script import Row, Script

#: A list is one argument, so that the text is the same for lists of any length, and is prepared once.
_LIST: Final = "IN (SELECT value FROM json_each(?))"
_encode: Final = msgspec.json.Encoder().encode


def _as_json(values: list[Any]) -> str:
    try:
        return _encode(values).decode()
    except UnicodeEncodeError:
        return json.dumps(values)  # a lone surrogate is in no id that is stored, but somebody may ask for it


class SqliteDialect(Dialect):
    """SQLite 3.35 and newer."""

    name = "sqlite"
    locks = False

    def __init__(self, prefix: str, clock: Clock) -> None:
        """A file is used by processes of one machine: its clock is the machine's, or a test's."""
        super().__init__(prefix)
        self.hot = SqliteHot()
        self._clock = clock
        self._last = 0
        self._render = lru_cache(maxsize=1_024)(self._render_text)
        self._upserts = {name: self._insert_text(name, "INSERT OR REPLACE") for name in TABLES}
        self._inserts = {name: self._insert_text(name, "INSERT") for name in TABLES}
        self._misses = {name: self._insert_text(name, "INSERT OR IGNORE") for name in TABLES}
        self._updates = {name: self._update_text(name) for name in ("job", "done")}
        self._adds = {name: self._add_text(name) for name in ("tally", "report", "counter")}

    def _render_text(self, text: str) -> str:
        return text.format(ints=_LIST, texts=_LIST, lock="", skip="", greatest="max", **self.tables)

    def _insert_text(self, table: str, verb: str) -> str:
        columns = TABLES[table].columns
        return f"{verb} INTO {self.tables[table]} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"

    def _update_text(self, table: str) -> str:
        places = ", ".join(f"{column} = ?{number}" for number, column in enumerate(TABLES[table].columns, 1))
        return f"UPDATE {self.tables[table]} SET {places} WHERE seq = ?1"

    def _add_text(self, table: str) -> str:
        columns, key = TABLES[table].columns, TABLES[table].key
        changes = ", ".join(f"{name} = {name} + excluded.{name}" for name in columns[key:])
        return f"{self._inserts[table]} ON CONFLICT ({', '.join(columns[:key])}) DO UPDATE SET {changes}"

    # --- statements

    def q(self, text: str, *args: Any) -> Statement:
        """Return a neutral text as a statement."""
        for arg in args:
            if type(arg) is list:
                args = tuple([_as_json(one) if type(one) is list else one for one in args])
                break
        return Statement(self._render(text), args)

    def many(self, text: str, rows: Sequence[Row]) -> Statement:
        """Return a neutral text to be done for each row."""
        return Statement(self._render(text), rows, many=True)

    def has_tables(self) -> Script[bool]:
        """Tell whether there are tables of ours."""
        return bool((yield self.q("SELECT 1 FROM sqlite_master WHERE name = ?", self.prefix + "meta")))

    def columns_there(self) -> Script[dict[str, frozenset[str]] | None]:
        """The columns of those of our tables that are there."""
        names = {place: table for table, place in self.tables.items() if table in TABLES}
        rows = yield self.q(
            "SELECT made.name, its.name FROM sqlite_master AS made JOIN pragma_table_info(made.name) AS its"
            " WHERE made.name {texts}",
            list(names),
        )
        found: dict[str, set[str]] = {}
        for place, column in rows:
            found.setdefault(names[place], set()).add(column)
        return {table: frozenset(columns) for table, columns in found.items()}

    def lines(self, which: JobFilter, codes: Collection[int]) -> Script[list[Line]]:
        """Each group that waits for its time or a person, what runs, and what is ready.

        What is ready is walked in the order of the page: an index of it would cost each job a tenth of its life here.
        """
        columns, given = ("queue", "task", "worker", "state"), (which.queue, which.task, which.worker)
        rows = yield from steps(self, columns, "state NOT IN (2, 3)")
        found = [
            Line("queue = ? AND task = ? AND worker = ? AND state = ? AND state NOT IN (2, 3)", row)
            for row in rows
            if row[3] in codes and all(value in (None, name) for name, value in zip(row, given, strict=False))
        ]
        # Plus nothing: so the order is none that the table has, and what runs is found by its own small index.
        if RUNNING in codes:
            found.append(Line("state = 3", (), order="seq + 0"))
        if QUEUED in codes:
            found.append(Line("+state = 2", ()))
        return found

    # --- time and locks

    def now(self) -> Script[int]:
        """The machine's time; it never steps back in this process."""
        yield from ()
        self._last = max(self._last, micros(self._clock.now()))
        return self._last

    def lock(self, scope: str, names: Iterable[str]) -> Script[None]:
        """Nobody else writes meanwhile."""
        yield from ()

    # --- writes

    def next_seq(self) -> Script[int]:
        """The number of the next new job: nobody else gives one before this transaction ends."""
        rows = yield self.q("SELECT seq + 1 FROM sqlite_sequence WHERE name = ?", self.prefix + "job")
        return int(rows[0][0]) if rows else 1

    def insert_jobs(self, rows: Sequence[Row]) -> Script[list[int]]:
        """Number the jobs on from the highest number ever given, and store them."""
        if not rows:
            return []
        first = yield from self.next_seq()
        numbers = list(range(first, first + len(rows)))
        yield Statement(
            self._inserts["job"], [(seq, *row[1:]) for seq, row in zip(numbers, rows, strict=True)], many=True
        )
        return numbers

    def put(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store rows that are not there."""
        if rows:
            yield Statement(self._inserts[table], rows, many=True)

    def upsert(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store whole rows."""
        if rows:
            yield Statement(self._upserts[table], rows, many=True)

    def update(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Replace rows by seq."""
        if rows:
            yield Statement(self._updates[table], rows, many=True)

    def insert_missing(self, table: str, rows: Sequence[Row]) -> Script[int]:
        """Store what is missing."""
        before = yield Statement("SELECT total_changes()")
        if rows:
            yield Statement(self._misses[table], rows, many=True)
        after = yield Statement("SELECT total_changes()")
        return int(after[0][0] - before[0][0])

    def add(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Add to counts."""
        if rows:
            yield Statement(self._adds[table], rows, many=True)
