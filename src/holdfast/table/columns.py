"""The columns that the mixin adds, each with its type, and the types themselves.

Times are stored as whole microseconds since the epoch (BIGINT), which every database keeps, compares and indexes alike;
Python sees them as aware datetimes. No column but `task_state` may be NULL without meaning, and every column has a default
in the database, so that rows may be inserted by other programs and the columns be added to a table that has rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from holdfast.durations import instant
from holdfast.job.state import State
from holdfast.table.conditions import StateComparator
from holdfast.table.words import OURS, SEED, TaskState, Words, states_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The longest error that a row keeps, in bytes; a column of the user's own may be shorter.
ERROR_KEPT: Final = 8_192


def micros(seconds: float) -> int:
    """Return seconds since the epoch as the whole microseconds that are stored.

    >>> micros(1.5)
    1500000
    """
    return round(seconds * 1_000_000)


class Moment(TypeDecorator[datetime]):
    """A time as BIGINT: microseconds since the epoch. In Python an aware datetime in UTC."""

    # Alembic writes a type into a migration as its module and its repr, and imports nothing for it. A migration needs the
    # column, not what Python makes of it: it gets `sa.BigInteger()`, and runs where Holdfast is not installed.
    __module__ = "sqlalchemy.types"
    impl = BigInteger
    cache_ok = True

    def __repr__(self) -> str:
        """What a migration holds."""
        return repr(self.impl)

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is not where it says it is."""
        return _moment, ()

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        """Take a datetime with a zone, or microseconds. Raises BadTime for a datetime without a zone."""
        if value is None or isinstance(value, int):
            return value
        return micros(instant(value, "task time"))

    def process_result_value(self, value: Any, dialect: Dialect | None) -> datetime | None:
        """Give a datetime in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def _moment() -> Moment:
    return Moment()


class StateWord(TypeDecorator[Any]):
    """A state as text; in Python a State, or with the seed's words a TaskState where it has one.

    A condition may name a state by any word for it: see `holdfast.table.conditions`.
    """

    __module__ = "sqlalchemy.types"  # as for Moment
    impl = String(16)
    cache_ok = True

    def __init__(self, seed: bool = False, failures: str = "task_failures", own: TypeEngine[Any] | None = None) -> None:
        """seed: the column holds the seed's words. failures: the column that counts them. own: the user's type for it.

        A column of the user's own type keeps it, and gives what is stored, as text.
        """
        super().__init__()
        self.seed, self.failures, self.own = seed, failures, own
        if own is not None:
            self.impl = own  # type: ignore[assignment]

    def __repr__(self) -> str:
        """What a migration holds."""
        return repr(self.impl)

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is not where it says it is."""
        return _state_word, (self.seed, self.failures, self.own)

    @property
    def comparator_factory(self) -> Any:  # type: ignore[override]
        """What makes conditions."""
        return StateComparator

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """A word is one of ours; any other text (of a LIKE, say) is text."""
        return self if isinstance(value, State | TaskState) or value in self.words.all else String()

    @property
    def words(self) -> Words:
        """What stands in the column."""
        return SEED if self.seed else OURS

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Take a State, a TaskState or their texts."""
        if value is None or str(value) in self.words.all:
            return None if value is None else str(value)
        return self.words.stored(states_of(value)[0])

    def process_result_value(self, value: Any, dialect: Dialect | None) -> State | TaskState | str | None:
        """Give what the row is in."""
        if value is None:
            return None
        if self.own is not None:
            return str(value)
        if not self.seed:
            return self.words.state(value, 0)
        word: TaskState | str = TaskState.__members__.get(value, value)
        return word


def _state_word(seed: bool, failures: str, own: TypeEngine[Any] | None) -> StateWord:
    return StateWord(seed, failures, own)


class Column:
    """One column of the mixin: its name and type, and which types of a user's own column may stand for it."""

    def __init__(
        self,
        name: str,
        make: Callable[[bool, str], TypeEngine[Any]],
        accepts: tuple[type[TypeEngine[Any]], ...],
        *,
        default: str | None = None,
        shortest: int = 0,
    ) -> None:
        self.name, self.make, self.accepts, self.default, self.shortest = name, make, accepts, default, shortest


_TIMES: Final = (BigInteger, Moment)
_NUMBERS: Final = (Integer,)
_TEXTS: Final = (String,)

COLUMNS: Final = (
    Column("task_state", StateWord, (String, StateWord), shortest=9),
    Column("task_run_at", lambda *_: Moment(), _TIMES, default="0"),
    Column("task_lease_until", lambda *_: Moment(), _TIMES),
    Column("task_token", lambda *_: BigInteger(), (BigInteger,), default="0"),
    Column("task_attempt", lambda *_: Integer(), _NUMBERS, default="0"),
    Column("task_failures", lambda *_: Integer(), _NUMBERS, default="0"),
    Column("task_snoozes", lambda *_: Integer(), _NUMBERS, default="0"),
    Column("task_worker", lambda *_: String(100), _TEXTS, shortest=20),
    Column("task_instance", lambda *_: String(64), _TEXTS, shortest=32),
    Column("task_error", lambda *_: Text(), _TEXTS),
    Column("task_note", lambda *_: Text(), _TEXTS, shortest=4_000),
    Column("task_created_at", lambda *_: Moment(), _TIMES, default="0"),
    Column("task_updated_at", lambda *_: Moment(), _TIMES, default="0"),
)
NAMES: Final = tuple(column.name for column in COLUMNS)
