"""Scripts: transactions without I/O.

A script is a generator that yields statements and is sent their rows. It reads no clock and draws no chance of its own, so
that the same one runs in our driver's transaction, or in the caller's, sync or async. What it did besides (what became
ready, what ended) it notes in its `Step`, and that counts only when the transaction was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from holdfast.job.draw import Draw
    from holdfast.stores.sql.dialects.dialect import Dialect

T = TypeVar("T")

Row = tuple[Any, ...]


class Statement(NamedTuple):
    """One statement in the words of its database. many: `args` is a list of rows of arguments, and no rows come back.

    copy: rows for COPY … FROM STDIN, in pieces of its binary format, which are made while the database stores those before.
    What they raise ends the statement and is raised in the script's place. Drivers of PostgreSQL's own store know it alone.
    """

    sql: str
    args: Sequence[Any] = ()
    many: bool = False
    copy: Iterator[bytes] | None = None


Script = Generator[Statement, list[Row], T]


class Step:
    """One run of a script: what it is given, and what it did."""

    __slots__ = (
        "_now", "cancel_asked", "counted", "damaged", "db", "done", "draw", "ended", "jobs", "ready", "schedules", "within",
    )  # fmt: skip

    def __init__(self, db: Dialect, draw: Draw, *, within: bool = False) -> None:
        self.db, self.draw = db, draw
        self.within = within  # whether the transaction is somebody else's: it may stay open, and may see an old moment
        self._now: int | None = None
        self.ready: set[str] = set()  # queues that got ready jobs
        self.jobs = 0  # how many jobs these are, where that is known
        self.done: tuple[str, ...] = ()  # marks of notifications whose work was seen to be done: see herd.py
        self.ended = False  # whether a job ended
        self.cancel_asked = False  # whether a running job was asked to stop
        self.schedules = False  # whether a schedule or a task was changed by somebody
        self.damaged: dict[int, str] = {}  # claimed jobs whose rows can not be read, and why where that is known
        self.counted: list[tuple[int, Sequence[Any]]] = []  # what was added to the roll-up: minute, what ended

    def now(self) -> Script[int]:
        """The store's time, in microseconds since the epoch; one for the whole step."""
        if self._now is None:
            self._now = yield from self.db.now()
        return self._now

    def take_back(self) -> None:
        """The transaction came to nothing: what it added to the roll-up is not so."""
        for minute, ended in self.counted:
            self.db.rollup.take_back(minute, ended)
        self.counted = []

    @property
    def news(self) -> bool:
        """Whether there is something to tell those who wait."""
        return bool(self.ready) or self.ended or self.cancel_asked or self.schedules


class Driver(Protocol):
    """Runs scripts on one database: connections, transactions, and what its errors mean."""

    @property
    def db(self) -> Dialect:
        """The words of this database."""
        ...

    def now(self) -> float:
        """The database's time as far as this process knows it, in seconds since the epoch."""
        ...

    async def open(self) -> None:
        """Be ready for scripts. Raises StoreUnavailable when the database does not answer, ConfigError when it is none."""
        ...

    async def close(self) -> None:
        """Let all connections go. Calling it twice is fine."""
        ...

    async def run(self, script: Callable[[], Script[T]], *, write: bool = True, repeats: bool = False) -> T:
        """Run a script in one transaction, and once more from its beginning where the database says that it may be.

        `repeats`: doing it twice is the same as once, so that an unknown outcome is resolved by doing it again.

        What the script raises rolls the transaction back and is raised here. Raises StoreUnavailable when nothing was
        stored, OutcomeUnknown when the connection was lost after the end of the transaction had been sent.
        """
        ...


def run_sync(script: Script[T], execute: Callable[[Statement], list[Row]]) -> T:
    """Run a script with `execute`, which returns the rows of a statement."""
    try:
        statement = next(script)
        while True:
            try:
                rows = execute(statement)
            except Exception as error:  # noqa: BLE001 - the script may know what to do about it
                statement = script.throw(error)
            else:
                statement = script.send(rows)
    except StopIteration as end:
        answer: T = end.value
        return answer
    finally:
        script.close()
