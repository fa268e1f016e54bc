"""What the scripts ask of a database, in the words of none.

Texts that are the same everywhere are written once, with `?` for an argument, `{job}` for a table, `{ints}` and `{texts}`
for "IN (the list)" (one list argument each), `{lock}` behind a SELECT whose rows are kept from others, and `{skip}` for
the same past rows that others keep; `{greatest}(a, b)` is the greater of two. `q` makes a statement of such a text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from holdfast.job.commands import COUNT_EXACT
from holdfast.stores.sql import lists
from holdfast.stores.sql.feed import Feeding
from holdfast.stores.sql.schema import END_COLUMNS, TABLES
from holdfast.stores.sql.script import Statement
from holdfast.stores.sql.stats import RollUp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from holdfast.job.commands import JobFilter
    from holdfast.stores.sql.hot import Hot
    from holdfast.stores.sql.lists import Line
    from holdfast.stores.sql.script import Row, Script, Step

#: What retention has to know of an ended job.
OLD: Final = "finished_at, seq, state, uniq, policy, created_at, deleted_at, task, worker, duration"
#: In how many rows processes count that may write at the same time.
SHARDS: Final = 16


class Dialect(ABC):
    """The words of one database, for tables under one prefix."""

    name = ""
    #: Whether other transactions run beside this one, so that rows and names have to be locked.
    locks = True

    #: Where a process counts, of SHARDS: many that end jobs of one queue at a time do not wait for one row.
    shard = 0

    #: Up to how many jobs a count is exact.
    count_exact = COUNT_EXACT

    #: The scripts of the hot path. A dialect that can do with fewer statements has its own.
    hot: Hot

    #: How what has ended is noted for an exporter.
    feed: Feeding = Feeding()

    #: Columns that a database fills by itself, by table: the code never writes them, and some of its statements read them.
    filled: Mapping[str, tuple[str, ...]] = MappingProxyType({"feed": ("pos",)})

    #: Columns and conditions that some indexes are made for. A database without partial indexes has columns of their own.
    #: by_…: behind a table whose rows are looked for so and locked, where the database has to be told to use the index.
    words: Mapping[str, str] = MappingProxyType(
        {
            "share": "",
            **dict.fromkeys(
                ("by_seq", "by_id", "by_uniq", "by_lane", "by_done_id", "by_list", "by_ended", "by_waiting"), ""
            ),
            "due_at": "run_at",
            "is_due": "state IN (1, 4)",
            "runs_at": "instance",
            "runs_in": "queue",
            "is_running": "state = 3",
            "hour_of_minute": "minute / 60",
        }
    )

    def __init__(self, prefix: str, schema: str = "") -> None:
        """`prefix` goes before each table's name; `schema`, if given, before that, with a dot."""
        self.prefix = prefix
        self.rollup = RollUp()
        self.tables = {**self.words, **{table: self.named(prefix + table, schema) for table in TABLES}}

    def named(self, table: str, schema: str) -> str:
        """Return the name of a table as it is written in statements."""
        return f"{schema}.{table}" if schema else table

    # --- statements

    @abstractmethod
    def q(self, text: str, *args: Any) -> Statement:
        """Return a neutral text as a statement of this database. Lists among `args` belong to {ints} and {texts}."""

    @abstractmethod
    def many(self, text: str, rows: Sequence[Row]) -> Statement:
        """Return a neutral text to be done once for each row of arguments; nothing comes back."""

    def raw(self, sql: str) -> Statement:
        """Return a finished text of this database as a statement."""
        return Statement(sql)

    @abstractmethod
    def has_tables(self) -> Script[bool]:
        """Tell whether the table "meta" is there."""

    def columns_there(self) -> Script[dict[str, frozenset[str]] | None]:
        """The columns of those of our tables that are there, ours or not; None where the database is not asked for them."""
        yield from ()
        return None

    def make_schema(self) -> Script[None]:
        """Make the place where the tables go, where it has a name and is not there."""
        yield from ()

    def contains(self, column: str) -> str:
        """Return a condition with one `?`: those bytes stand within the bytes of a column."""
        return f"instr({column}, ?) > 0"

    def contains_text(self, column: str) -> str:
        """Return a condition with one `?`: that text stands within the text of a column."""
        return f"instr({column}, ?) > 0"

    def listed(self, _which: JobFilter, _after: int | None, _limit: int, *, newest_first: bool) -> Statement | None:
        """The statement of `lists.page` in a form of this database's own; None: it has none for this filter."""
        return None

    def listed_by_end(
        self, _which: JobFilter, _after: tuple[int, int] | None, _limit: int, *, newest_first: bool, columns: str
    ) -> Statement | None:
        """The statement of `lists.ended_rows` for all groups at once; None: group by group is how this database does it."""
        return None

    def groups_live(self, _named: Sequence[tuple[str, str]]) -> Statement | None:
        """The statement of how many jobs of each group wait or run, by an index (see counting.py); None: there is none.

        Its rows: queue, stored state; number, first and last seq of a group's first jobs, of one more than a count is
        exact to; the same of its last ones behind those.
        """
        return None

    def lines(self, _which: JobFilter, _codes: Collection[int]) -> Script[list[Line]]:
        """Where the live jobs of a filter stand in the indexes of lists. codes: the states, as stored."""
        yield from ()
        return []

    def first_behind(self, first: str, behind: Sequence[str]) -> str:
        """Return the text whose first row is that of `first` with the first of these conditions at @BEHIND@ that has one."""
        parts = (first.replace("@BEHIND@", f" AND {one}") for one in behind)
        return " UNION ALL ".join(f"SELECT * FROM ({part}) AS s{place}" for place, part in enumerate(parts))

    def oldest(self, step: Step, queue: str, code: int, until: int, limit: int) -> Script[list[Row]]:
        """OLD of the first that ended, up to `until`, of a queue's jobs in one stored state.

        Their rows are kept from others; those that others keep are passed over.
        """
        return (yield from lists.oldest(step, queue, code, until, limit, OLD))

    def ended_in(self, queue: str, limit: int) -> Statement:
        """Return the statement of the seqs of some of a queue's ended jobs, hidden ones too."""
        return self.q(f"SELECT seq FROM {{done}} WHERE queue = ? LIMIT {int(limit)}", queue)

    #: END_COLUMNS of a row that has not ended, for UNION ALL with those that have.
    no_end = ", ".join(f"NULL AS {column}" for column in END_COLUMNS)

    # --- time and locks

    @abstractmethod
    def now(self) -> Script[int]:
        """The database's time, or that of a test's clock, in microseconds since the epoch."""

    @abstractmethod
    def lock(self, scope: str, names: Iterable[str]) -> Script[None]:
        """Keep others from these names ("key", "id", "unique", "queue") to the end of the transaction, in sorted order."""

    def isolation(self) -> Script[str]:
        """How this transaction is isolated, in the words of SQL; empty where each one sees the newest."""
        yield from ()
        return ""

    def tidy(self, _step: Step) -> Script[None]:
        """Put in order what other transactions left behind; done with each rescue."""
        yield from ()

    # --- writes

    @abstractmethod
    def insert_jobs(self, rows: Sequence[Row]) -> Script[list[int]]:
        """Store new live jobs (JOB_COLUMNS; their seq is not meant) and return the seqs they got, in that order."""

    @abstractmethod
    def upsert(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store whole rows; one with the same primary key is replaced."""

    @abstractmethod
    def update(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Replace the rows of "job" or "done" that are there, by seq."""

    @abstractmethod
    def insert_missing(self, table: str, rows: Sequence[Row]) -> Script[int]:
        """Store the rows whose primary key is not there yet; return how many there were."""

    @abstractmethod
    def add(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Add to counts: what stands behind the key of "tally", "report" or "counter" grows by what each row says."""

    def delete(self, table: str, column: str, values: Collection[int] | Collection[str]) -> Script[None]:
        """Remove the rows whose `column` is one of these."""
        if values:
            kind = "ints" if isinstance(next(iter(values)), int) else "texts"
            yield self.q(f"DELETE FROM {{{table}}} WHERE {column} {{{kind}}}", list(values))

    def put(self, table: str, rows: Sequence[Row]) -> Script[None]:
        """Store rows of "job" or "done" that have their seq and are not there."""
        yield from self.upsert(table, rows)

    # --- news

    def announce(self, _step: Step) -> Script[None]:
        """Tell other processes, inside the transaction, what is new (`step.ready`, `ended`, `cancel_asked`)."""
        yield from ()
