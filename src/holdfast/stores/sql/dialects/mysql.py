"""The words of MySQL 8 and MariaDB 10.6, and newer.

Neither has UPDATE … RETURNING, and MySQL no RETURNING at all: rows are locked by a SELECT, changed by their numbers, and
what they became is worked out here. Neither has partial indexes: generated columns stand for them (see the migration).
Lists are written into the text, as an array can not be an argument; so are the rows of an INSERT.

Names are locked through the rows of a table of slots: a lock that belongs to the transaction, and not to the connection as
GET_LOCK does, and that leaves nothing behind.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from random import randrange
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from holdfast.errors import StoreUnavailable
from holdfast.job.state import State
from holdfast.stores.sql.dialects.dialect import SHARDS, Dialect
from holdfast.stores.sql.dialects.mysql_hot import MysqlHot
from holdfast.stores.sql.lists import Line, steps
from holdfast.stores.sql.rows import CODES, RUNNING, micros
from holdfast.stores.sql.schema import JOB_COLUMNS, TABLES
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from holdfast.clock import Clock
    from holdfast.job.commands import JobFilter
    from holdfast.stores.sql.script import Row, Script, Step

#: The scopes of locks, in the order in which they are taken; names of another scope share the last one's slots.
_SCOPES: Final = ("key", "id", "unique", "queue", "definition", "schedule", "worker", "other")
#: Slots of a scope. The migration makes them. So many that two names seldom share one: who holds one may be long about it.
SLOTS: Final = 2_048
#: Rows of one INSERT, and about as many bytes: a server takes 16 MiB in one statement, escaped, unless it was told otherwise.
_ROWS_MAX, _BYTES_MAX = 1_000, 2 * 1024 * 1024
#: Seconds to wait for somebody else who migrates.
_SCHEMA_PATIENCE: Final = 60
#: Shards of the number that grows whenever there is news.
_PULSES: Final = 64
#: Below which number the rows stand in which callers' transactions count, and how many of them are put together at a time.
_PULSES_OWN, _OWN_PULSES_MAX = 2**31, 100
_OWN_PULSES: Final = "SELECT shard, n FROM {counter} WHERE name = 'pulse' AND shard >= ? ORDER BY shard LIMIT ? {skip}"
_NOW: Final = "SELECT CAST(ROUND(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000) AS SIGNED)"
#: Where queued and running jobs stand together for lists, so that a claim moves none: see the migration.
_IN_LINE: Final = CODES[State.QUEUED]
_PARTS: Final = re.compile(r"\?|\{(?:ints|texts)\}")


class MysqlDialect(Dialect):
    """Statements for tables under one prefix, in the database of the connection."""

    name = "mysql"
    filled = MappingProxyType({"feed": ("pos",), "job": ("place", "tried")})
    words = MappingProxyType(
        {
            "share": "LOCK IN SHARE MODE",
            # A small table would be read as a whole, and whoever locks rows on that way waits for all that others keep.
            "by_seq": " FORCE INDEX (PRIMARY)",
            "by_id": " FORCE INDEX (job_id)",
            "by_uniq": " FORCE INDEX (job_uniq)",
            "by_lane": " FORCE INDEX (job_lane)",
            "by_done_id": " FORCE INDEX (done_id)",
            "by_list": " FORCE INDEX (done_list)",
            "by_ended": " FORCE INDEX (done_ended)",
            "by_waiting": " FORCE INDEX (job_list)",
            "due_at": "due_at",
            # Not IS NOT NULL: with a comparison the least one is found by one step into the index.
            "is_due": "due_at >= 0",
            "runs_at": "runs_at",
            "runs_in": "queue",
            "is_running": "runs_at IS NOT NULL",
            "hour_of_minute": "minute DIV 60",
        }
    )

    def __init__(self, prefix: str, clock: Clock | None = None) -> None:
        """`clock` is a test's; else the database's counts."""
        super().__init__(prefix)
        self.hot = MysqlHot()
        self.shard = randrange(SHARDS)
        #: Whether the server is MariaDB; the driver finds out. Their one difference for us is how rows of values are written.
        self.mariadb = True
        self._clock = clock
        self._last = 0
        self._pulse = itertools.cycle(range(_PULSES))
        self._pieces = lru_cache(maxsize=1_024)(self._cut)

    # --- statements

    def _cut(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the finished pieces of a neutral text, and which marks stand between them."""
        kept = _PARTS.sub(lambda mark: f"\x00{mark[0].strip('{}')}\x00", text)
        words = {"lock": "FOR UPDATE", "skip": "FOR UPDATE SKIP LOCKED", "greatest": "GREATEST", "prefix": self.prefix}
        pieces = kept.format(**words, **self.tables).split("\x00")
        return tuple(pieces[::2]), tuple(pieces[1::2])

    def q(self, text: str, *args: Any) -> Statement:
        """Return a neutral text as a statement."""
        pieces, marks = self._pieces(text)
        sql, values = [pieces[0]], []
        for mark, arg, piece in zip(marks, args, pieces[1:], strict=True) if args else ():
            if mark == "?":
                sql.append("%s")
                values.append(arg)
            elif mark == "ints":
                sql.append(f"IN ({','.join(map(str, arg))})" if arg else "IN (-1)")
            else:
                sql.append(f"IN ({','.join(['%s'] * len(arg))})" if arg else "IN (SELECT 1 FROM DUAL WHERE 1 = 0)")
                values += arg
            sql.append(piece)
        return Statement("".join(sql), values)

    def many(self, text: str, rows: Sequence[Row]) -> Statement:
        """Return a neutral text to be done for each row."""
        pieces, _ = self._pieces(text)
        return Statement("%s".join(pieces), rows, many=True)

    def has_tables(self) -> Script[bool]:
        """Tell whether the table "meta" is there."""
        text = "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s"
        return bool((yield Statement(text, (self.tables["meta"],))))

    def columns_there(self) -> Script[dict[str, frozenset[str]] | None]:
        """The columns of those of our tables that are there."""
        ours = {self.tables[table]: table for table in TABLES}
        rows = yield self.q(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name {texts}",
            list(ours),
        )
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(ours[table], set()).add(column)
        return {table: frozenset(columns) for table, columns in found.items()}

    def lines(self, which: JobFilter, codes: Collection[int]) -> Script[list[Line]]:
        """Each group in line or waiting; of a worker, what it has tried, and what runs."""
        if which.worker is not None:
            found = [Line("tried = ?", (which.worker,), " FORCE INDEX (job_tried)")]
            return (
                [*found, Line("runs_at IS NOT NULL", (), " FORCE INDEX (job_runs_at)")] if RUNNING in codes else found
            )
        places = {_IN_LINE if code == RUNNING else code for code in codes}
        groups = yield from steps(self, ("place", "queue", "task"), "place >= 0")
        return [
            Line("place = ? AND queue = ? AND task = ?", row, " FORCE INDEX (job_list)")
            for row in groups
            if row[0] in places and which.queue in (None, row[1]) and which.task in (None, row[2])
        ]

    def first_behind(self, first: str, behind: Sequence[str]) -> str:
        """One range of the index. (MariaDB walks where a generated column is compared with one value alone.)"""
        return first.replace("@BEHIND@", f" AND (({') OR ('.join(behind)}))")

    # --- time and locks

    def now(self) -> Script[int]:
        """The database's time."""
        if self._clock is not None:
            self._last = max(self._last, micros(self._clock.now()))
            return self._last
        [[now]] = yield Statement(_NOW)
        return int(now)

    def lock(self, scope: str, names: Iterable[str]) -> Script[None]:
        """Lock the slots of these names; for the schema, whose statements each end a transaction, the connection itself."""
        if scope == "schema":
            # By a hash: MySQL takes 64 characters, and the name of a database may have as many.
            [[got]] = yield Statement(
                "SELECT GET_LOCK(SHA1(CONCAT(DATABASE(), %s)), %s)", (f".{self.prefix}", _SCHEMA_PATIENCE)
            )
            if got != 1:
                raise StoreUnavailable(
                    "the database: somebody else migrates it since long. Try again when they are done."
                )
            return
        place = _SCOPES.index(scope) if scope in _SCOPES else len(_SCOPES) - 1
        slots = sorted({place * SLOTS + crc32(name.encode()) % SLOTS for name in names})
        if slots:
            yield self.q("SELECT slot FROM {prefix}slot WHERE slot {ints} ORDER BY slot {lock}", slots)

    def isolation(self) -> Script[str]:
        """As the session begins its transactions: that of a single one is not told."""
        [[found]] = yield Statement(f"SELECT @@{'tx' if self.mariadb else 'transaction'}_isolation")
        return str(found).replace("-", " ")

    # --- writes

    def insert_jobs(self, rows: Sequence[Row]) -> Script[list[int]]:
        """Store new jobs. The numbers of one INSERT follow each other, whatever the server's lock mode."""
        seqs: list[int] = []
        for part in _portions(rows):
            yield self._insert("job", JOB_COLUMNS[1:], [row[1:] for row in part])
            [[first, step]] = yield Statement("SELECT LAST_INSERT_ID(), @@auto_increment_increment")
            seqs += range(first, first + len(part) * step, step)
        return seqs

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], then: str = "") -> Statement:
        one = f"({','.join(['%s'] * len(columns))})"
        text = f"INSERT INTO {self.tables[table]} ({', '.join(columns)}) VALUES {','.join([one] * len(rows))}{then}"
        return Statement(text, list(itertools.chain.from_iterable(rows)))

    def put(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store rows that are not there."""
        for part in _portions(rows):
            yield self._insert(table, TABLES[table].columns, part)

    def upsert(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store whole rows."""
        columns = TABLES[table].columns
        then = " ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = VALUES({name})" for name in columns)
        for part in _portions(rows):
            yield self._insert(table, columns, part, then)

    def update(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Replace rows that are there: their numbers are."""
        yield from self.upsert(table, rows)

    def insert_missing(self, table: str, rows: Sequence[Row]) -> Script[int]:
        """Store what is missing; a row that is there is left as it is."""
        columns, stored = TABLES[table].columns, 0
        for part in _portions(rows):
            yield self._insert(table, columns, part, f" ON DUPLICATE KEY UPDATE {columns[0]} = {columns[0]}")
            [[count]] = yield Statement("SELECT ROW_COUNT()")
            stored += count
        return stored

    def delete(self, table: str, column: str, values: Collection[int] | Collection[str]) -> Script[None]:
        """Remove rows; by the index where it can be named, see `words`."""
        if column == "seq" and table in ("job", "done", "attempt") and values:
            text = f"DELETE its FROM {{{table}}} AS its{{by_seq}} WHERE its.seq {{ints}}"
            yield self.q(text, list(values))
        else:
            yield from super().delete(table, column, values)

    def add(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Add to counts."""
        columns, key = TABLES[table].columns, TABLES[table].key
        then = " ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = {name} + VALUES({name})" for name in columns[key:])
        for part in _portions(rows):
            yield self._insert(table, columns, part, then)

    # --- news

    def announce(self, step: Step) -> Script[None]:
        """Count the news, in one of many rows: whoever polls sees their sum grow.

        A transaction of the caller's counts in a row of its own, as nobody may have to wait until it ends.
        """
        shard = randrange(_PULSES, _PULSES_OWN) if step.within else next(self._pulse)
        yield from self.add("counter", [("pulse", shard, 1)])

    def tidy(self, step: Step) -> Script[None]:
        """Put the counts of callers' transactions together with the others; those that are open are passed over."""
        rows = yield self.q(_OWN_PULSES, _PULSES, _OWN_PULSES_MAX)
        if rows:
            # One by one: with a list, a small table is read as a whole, and that waits for rows that others keep.
            yield self.many("DELETE FROM {counter} WHERE name = 'pulse' AND shard = ?", [(shard,) for shard, _ in rows])
            yield from self.add("counter", [("pulse", next(self._pulse), sum(n for _, n in rows))])

    def pulse(self) -> Script[int]:
        """The number that grows whenever there is news."""
        [[number]] = yield self.q("SELECT coalesce(sum(n), 0) FROM {counter} WHERE name = 'pulse'")
        return int(number)


def _portions(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Cut rows into portions that fit into a statement."""
    portion: list[Row] = []
    size = 0
    for row in rows:
        bytes_of_row = sum(len(value) for value in row if isinstance(value, bytes | str))
        if portion and (len(portion) >= _ROWS_MAX or size + bytes_of_row > _BYTES_MAX):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += bytes_of_row
    if portion:
        yield portion
