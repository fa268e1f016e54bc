"""PostgreSQL's words, from version 14 on.

Lists go as arrays, so that a text is the same for lists of any length, and is prepared once. Names are locked by advisory
locks of the transaction: nothing has to be stored, nothing is left behind, and a transaction pooler does not mind.

Statistics are often stale in a queue: a table that was empty when it was analysed holds a million rows a minute later. Two
habits keep the plans right all the same. Rows that a subselect has picked are found again by their place (ctid), which needs
no estimate. And a statement that finds rows by their seq says `state + 0 = 3`: with `state = 3` the planner may take the
index of running jobs, and walk all of it for each row (measured: 10,000 instead of 100,000 settles a second).
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import add
from random import getrandbits, randrange
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from holdfast.errors import ConfigError
from holdfast.stores.sql.dialects import postgresql_lists
from holdfast.stores.sql.dialects.dialect import SHARDS, Dialect
from holdfast.stores.sql.dialects.postgresql_feed import PostgresFeed
from holdfast.stores.sql.dialects.postgresql_hot import PostgresHot
from holdfast.stores.sql.dialects.postgresql_texts import NOW, kind
from holdfast.stores.sql.herd import News
from holdfast.stores.sql.lists import Line
from holdfast.stores.sql.rows import micros
from holdfast.stores.sql.schema import END_COLUMNS, JOB_COLUMNS, TABLES
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from holdfast.clock import Clock
    from holdfast.job.commands import JobFilter
    from holdfast.stores.sql.script import Row, Script, Step

#: The first number of our advisory locks ("Hold"); the scope is added to it.
LOCK_CLASS: Final = 0x486F6C64
#: How many locks a scope has. Names share them by their hash, so that a batch of any size fits into the server's memory.
LOCKS: Final = 1_024
#: A NOTIFY carries less than 8,000 bytes.
NEWS_MAX: Final = 7_000

_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_BYTES: Final = frozenset({"payload", "policy", "rest", "result", "tail", "body", "beat", "waits", "runs"})
_TEXTS: Final = frozenset(
    {
        "id", "queue", "task", "lane_key", "uniq", "sticky", "instance", "worker", "version", "name", "alias", "service",
        "value",
    }
)  # fmt: skip
_SMALL: Final = frozenset(
    {
        "ready",
        "prio",
        "lane",
        "suspect",
        "cancel_asked",
        "paused",
        "stopped",
        "live",
        "owns",
        "shard",
        "outcome",
        "gone",
    }
)


#: Columns that are made of others of their row, by table: their names and how.
_MADE: Final[Mapping[str, Mapping[str, str]]] = {"done": {"kind": kind("queue", "task", "worker", "state")}}


def kind_of(table: str, column: str) -> str:
    """Return the type of a column."""
    if column in _BYTES:
        return "bytea"
    if column in _TEXTS or (table, column) in (("operation", "state"), ("job", "owner")):
        return "text"
    if column in _SMALL or column == "state":
        return "smallint"
    if table == "stat_sum" and column in ("span", "number"):
        return "integer" if column == "span" else "bigint"
    if column in ("attempt", "number"):
        return "integer"
    return "double precision" if column in ("duration", "took") else "bigint"


def _places(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"${place}::{kind_of(table, name)}[]" for place, name in enumerate(columns, 1))


class PostgresDialect(Dialect):
    """Statements for the tables of one prefix in one schema."""

    name = "postgresql"
    hot: PostgresHot
    feed = PostgresFeed()
    filled = MappingProxyType({"done": ("xid", "kind"), "feed": ("xid",)})
    no_end = ", ".join(f"NULL::{kind_of('done', column)} AS {column}" for column in END_COLUMNS)

    def __init__(self, prefix: str, schema: str = "", clock: Clock | None = None) -> None:
        """Without `schema` the tables are found on the search path. `clock` is a test's; else the database's counts."""
        for what, name in (("prefix", prefix), ("schema", schema)):
            if name and not _IDENTIFIER.fullmatch(name):
                raise ConfigError(
                    f"{what}: expected up to 40 small letters, digits and _, not a digit first; found {name!r}."
                )
        super().__init__(prefix, schema)
        self.schema = schema
        self.channel = f"{schema or 'holdfast'}.{prefix}"
        self.shard = randrange(SHARDS)
        self.hot = PostgresHot(self)
        self.ahead = 0.0  # seconds by which the database's clock is ahead of this machine's
        self._clock = clock
        self._last = 0
        self._render = lru_cache(maxsize=2_048)(self._render_text)
        self._inserts = {table: self._insert_text(table) for table in TABLES}

    # --- statements

    def _render_text(self, text: str) -> str:
        named = text.format(
            ints="= ANY(?::bigint[])",
            texts="= ANY(?::text[])",
            lock="FOR UPDATE",
            skip="FOR UPDATE SKIP LOCKED",
            greatest="greatest",
            prefix=self.prefix,
            **self.tables,
        )
        first, *others = named.split("?")
        return first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))

    def q(self, text: str, *args: Any) -> Statement:
        """Return a neutral text as a statement."""
        return Statement(self._render(text), args)

    def many(self, text: str, rows: Sequence[Row]) -> Statement:
        """Return a neutral text to be done for each row."""
        return Statement(self._render(text), rows, many=True)

    def has_tables(self) -> Script[bool]:
        """Tell whether the table "meta" is there."""
        rows = yield Statement("SELECT to_regclass($1) IS NOT NULL", (self.tables["meta"],))
        return bool(rows[0][0])

    def columns_there(self) -> Script[dict[str, frozenset[str]] | None]:
        """The columns of those of our tables that are there."""
        rows = yield Statement(
            "SELECT given.name, attname FROM unnest($1::text[], $2::text[]) AS given(name, place)"
            " JOIN pg_attribute ON attrelid = to_regclass(given.place) WHERE attnum > 0 AND NOT attisdropped",
            (list(TABLES), [self.tables[table] for table in TABLES]),
        )
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        return {table: frozenset(columns) for table, columns in found.items()}

    def make_schema(self) -> Script[None]:
        """Make the schema, if it was named and is not there."""
        if self.schema and not (yield Statement("SELECT 1 FROM pg_namespace WHERE nspname = $1", (self.schema,))):
            yield Statement(f"CREATE SCHEMA {self.schema}")

    def isolation(self) -> Script[str]:
        """As the server tells of the transaction."""
        [[found]] = yield Statement("SELECT current_setting('transaction_isolation')")
        return str(found).upper()

    def contains(self, column: str) -> str:
        """Return a condition with one `?`: those bytes stand within the bytes of a column."""
        return f"position(?::bytea in {column}) > 0"

    def contains_text(self, column: str) -> str:
        """Return a condition with one `?`: that text stands within the text of a column."""
        return f"strpos({column}, ?) > 0"

    def listed(self, which: JobFilter, after: int | None, limit: int, *, newest_first: bool) -> Statement | None:
        """The statement of a page by state, queue, task or worker."""
        return postgresql_lists.page(self, which, after, limit, newest_first=newest_first)

    def lines(self, _which: JobFilter, _codes: Collection[int]) -> Script[list[Line]]:
        """All of them, in the order of the table: asked for of lists that `listed` does not know, those with hidden jobs."""
        yield from ()
        return [Line("1 = 1", ())]

    def groups_live(self, named: Sequence[tuple[str, str]]) -> Statement:
        """Return the statement that counts what waits and runs, group by group."""
        return postgresql_lists.groups_live(self, named)

    def listed_by_end(
        self, which: JobFilter, after: tuple[int, int] | None, limit: int, *, newest_first: bool, columns: str
    ) -> Statement | None:
        """The statement of a page of ended jobs."""
        return postgresql_lists.page_by_end(self, which, after, limit, newest_first=newest_first, columns=columns)

    def oldest(self, _step: Step, queue: str, code: int, until: int, limit: int) -> Script[list[Row]]:
        """The first that ended of each group, and of these the first."""
        return (yield postgresql_lists.oldest(self, queue, code, until, limit))

    def ended_in(self, queue: str, limit: int) -> Statement:
        """Some of each group, and of these some."""
        return postgresql_lists.ended_in(self, queue, limit)

    # --- time and locks

    def steered(self) -> int | None:
        """The time of a test's clock, which never steps back in this process; None when the database's counts."""
        if self._clock is None:
            return None
        self._last = max(self._last, micros(self._clock.now()))
        return self._last

    def guessed_now(self) -> int:
        """The database's time as this process knows it: good enough to tell in which minute something happened."""
        steered = self.steered()
        return micros(time() + self.ahead) if steered is None else steered

    def now(self) -> Script[int]:
        """The database's time."""
        steered = self.steered()
        if steered is not None:
            return steered
        rows = yield Statement(f"SELECT {NOW}")
        return int(rows[0][0])

    def lock(self, scope: str, names: Iterable[str]) -> Script[None]:
        """Keep others from these names to the end of the transaction."""
        numbers = sorted({crc32(f"{self.channel}\0{name}".encode()) % LOCKS for name in names})
        if numbers:
            yield Statement(
                "SELECT pg_advisory_xact_lock($1::int, number) FROM unnest($2::int[]) AS number",
                (LOCK_CLASS + crc32(scope.encode()) % 256, numbers),
            )

    # --- writes

    def _insert_text(self, table: str) -> str:
        columns, made = TABLES[table].columns, _MADE.get(table, {})
        names = ", ".join(columns)
        return (
            f"INSERT INTO {self.tables[table]} ({', '.join([names, *made])}) SELECT {', '.join([names, *made.values()])}"
            f" FROM unnest({_places(table, columns)}) AS given({names})"
        )

    def insert_jobs(self, rows: Sequence[Row]) -> Script[list[int]]:
        """Number the jobs and store them."""
        if not rows:
            return []
        columns = JOB_COLUMNS[1:]
        names = ", ".join(columns)
        text = (
            f"INSERT INTO {self.tables['job']} ({names}) SELECT {names} FROM unnest({_places('job', columns)})"
            f" WITH ORDINALITY AS given({names}, place) ORDER BY place RETURNING seq"
        )
        seqs = yield Statement(text, list(zip(*rows, strict=True))[1:])
        return [seq for (seq,) in seqs]

    def upsert(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store whole rows."""
        columns, key = TABLES[table].columns, TABLES[table].key
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns[key:])
        target = ", ".join(columns[:key])
        yield from self._insert(table, _last_of_each(rows, key), f"ON CONFLICT ({target}) DO UPDATE SET {changes}")

    def put(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store rows that are not there."""
        yield from self._insert(table, rows, "")

    def insert_missing(self, table: str, rows: Sequence[Row]) -> Script[int]:
        """Store what is missing."""
        return len((yield from self._insert(table, rows, "ON CONFLICT DO NOTHING RETURNING 1")))

    def add(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Add to counts."""
        columns, key = TABLES[table].columns, TABLES[table].key
        sums: dict[Row, Row] = {}
        for row in rows:
            known = sums.get(row[:key])
            sums[row[:key]] = row[key:] if known is None else tuple(map(add, known, row[key:]))
        changes = ", ".join(f"{name} = {self.tables[table]}.{name} + excluded.{name}" for name in columns[key:])
        then = f"ON CONFLICT ({', '.join(columns[:key])}) DO UPDATE SET {changes}"
        # In the order of their keys, so that two that count the same things do not wait for each other.
        yield from self._insert(table, [(*name, *counts) for name, counts in sorted(sums.items())], then)

    def _insert(self, table: str, rows: Sequence[Row], then: str) -> Script[list[Row]]:
        if not rows:
            return []
        return (yield Statement(f"{self._inserts[table]} {then}", list(zip(*rows, strict=True))))

    def update(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Replace rows by seq."""
        if not rows:
            return
        columns = TABLES[table].columns
        names, made = ", ".join(columns), _MADE.get(table, {})
        changes = ", ".join(f"{name} = given.{name}" for name in [*columns[1:], *made])
        given = f"(SELECT {', '.join([names, *(f'{text} AS {name}' for name, text in made.items())])}"
        text = (
            f"UPDATE {self.tables[table]} AS old SET {changes}"
            f" FROM {given} FROM unnest({_places(table, columns)}) AS told({names})) AS given WHERE old.seq = given.seq"
        )
        yield Statement(text, list(zip(*_last_of_each(rows, 1), strict=True)))

    # --- news

    def announce(self, step: Step) -> Script[None]:
        """Notify, inside the transaction: those who listen hear of it when, and only if, it commits."""
        yield Statement("SELECT pg_notify($1, $2)", (self.channel, news_of(step)))

    def announce_after(self, step: Step, sender: str) -> Script[None]:
        """Notify of what was committed. The notification is a transaction alone, and goes without waiting for the disk.

        sender: digits that tell a process that these are its own news, which it knows.
        """
        text = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)"
        yield Statement(text, (self.channel, sender + news_of(step)))


def news_of(step: Step) -> str:
    """Return what happened as the text of a notification: e(nded), c(ancel asked), s(chedules), d and the marks of done work,
    and behind r how many jobs came (0: some), the mark of this notification, and the queues.

    Queues are left out when they do not fit: any may be meant then, and nobody counts on the number.
    """
    signs = ("e" if step.ended else "") + ("c" if step.cancel_asked else "") + ("s" if step.schedules else "")
    if step.done:
        signs += f"d{','.join(step.done)};"
    if not step.ready:
        return signs
    queues = "\n".join(sorted(step.ready))
    if len(queues.encode()) > NEWS_MAX:
        return f"{signs}r0,,"
    return f"{signs}r{step.jobs},{getrandbits(40):x},{queues}"


def news_from(text: str) -> tuple[str, tuple[str, ...], News | None]:
    """Return what a notification says: its signs (e, c, s as in `news_of`), the marks that are done, new work.

    >>> news_from("ecd1f,2a;r3,ff,mail")
    ('ec', ('1f', '2a'), News(queues=frozenset({'mail'}), jobs=3, mark='ff'))
    >>> news_from("s")
    ('s', (), None)
    """
    signs, is_new, new = text.partition("r")
    signs, _, done = signs.partition("d")
    marks = tuple(mark for mark in done.removesuffix(";").split(",") if mark)
    news = None
    if is_new:
        jobs, _, rest = new.partition(",")
        mark, _, queues = rest.partition(",")
        names = frozenset(queues.split("\n")) if queues else frozenset[str]()
        news = News(names, int(jobs) if jobs.isdigit() else 0, mark)
    return signs, marks, news


def _last_of_each(rows: Sequence[Row], key: int) -> Sequence[Row]:
    """One statement may touch a row once: the last of those with the same key."""
    if len(rows) < 2:
        return rows
    return list({row[:key]: row for row in rows}.values())
