"""One lease for all services of a table.

Each row carries the end of its own lease, so services that differ take nothing from each other; but a row then waits for
the longest of them when its process dies, which nobody has asked for. So a service that differs is refused: within a
process by a list, which hangs on the model and so is one for all who use it; over processes by the rows that others hold.
What the rows say is never guessed: a row that is held for longer from its claim or last beat on than our lease was not
claimed with it, nor was one that is held for less. (A claim's token is its time; both write the time into the row.) A
service that holds nothing can not be seen; it is met by the look that each service takes before its first claim, and from
time to time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import and_, or_, select

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from holdfast.table.rows import Rows

#: The instance of rows that are claimed by hand: whoever does so chooses any lease.
BY_HAND: Final = "by hand"
_SLACK: Final = 1_000  # microseconds
_SECOND: Final = 1_000_000
_SHOWN_MAX: Final = 10
_WELCOME_MAX: Final = 100


class OtherLease(ConfigError):
    """Another service of the table has another lease."""


class Leases:
    """The leases of one table's services. place: the database that the table is in."""

    def __init__(self, name: str, rows: Rows[Any], place: str) -> None:
        self._name, self._rows = name, rows
        model: Any = rows.shape.model
        self._here: WeakKeyDictionary[object, float] = model.__task_leases__.setdefault(place, WeakKeyDictionary())
        self._welcome: set[str] = set()

    def join(self, service: object, lease: float) -> None:
        """Note that a service of this process works with a lease. Raises ConfigError when another has a different one."""
        others = {one for known, one in list(self._here.items()) if known is not service and one != lease}
        if others:
            found = " and ".join(f"{one:g} s" for one in sorted(others))
            raise OtherLease(
                f"{self._expected(lease, f'{found} in another service of this process')} Give all of them the same lease."
            )
        self._here[service] = lease

    def leave(self, service: object) -> None:
        """The service has ended."""
        self._here.pop(service, None)

    def _expected(self, lease: float, found: str) -> str:
        return f"task table {self._name!r}: expected one lease for all services, found {lease:g} s here and {found}."

    def others(self, connection: Connection, lease: float, instance: str = "") -> list[float]:
        """Return leases, in seconds, with which living processes hold rows, where they differ from `lease` for sure."""
        rows, ours = self._rows, round(lease * _SECOND)
        until, claimed, seen = (rows.column(f"task_{name}") for name in ("lease_until", "token", "updated_at"))
        shorter = and_(until - claimed < ours - _SLACK, until - seen < ours - _SLACK)
        # Not by the time that it is now: a row that was claimed after this look began would seem to be held for longer.
        longer = until - seen > ours + _SLACK
        theirs = rows.column("task_instance").not_in([BY_HAND, instance])
        which = (rows.in_state(rows.words.running), until > rows.now(), theirs, or_(shorter, longer))
        found = connection.execute(select(until - seen).where(*which).distinct().limit(_SHOWN_MAX)).scalars()
        return sorted(one / _SECOND for one in found)

    def check(self, connection: Connection, lease: float) -> None:
        """Raise ConfigError when another process holds rows with another lease."""
        if others := self.others(connection, lease):
            raise self.refusal(lease, others)

    def check_first(self, connection: Connection, lease: float, instance: str) -> None:
        """The same before the first claim of an instance: what held nothing when it started may do so now."""
        if instance != BY_HAND and instance not in self._welcome:
            self.check(connection, lease)

    def welcome(self, instance: str) -> None:
        """An instance holds rows: from now on it is those who come later that are refused."""
        if len(self._welcome) >= _WELCOME_MAX:
            self._welcome.clear()
        self._welcome.add(instance)

    def refusal(self, lease: float, others: list[float]) -> OtherLease:
        """Return the error about other leases."""
        found = " and ".join(f"{one:g} s" for one in others)
        return OtherLease(
            f"{self._expected(lease, f'{found} in another process, which holds rows now')} Give all of them the same "
            f"lease. If that process is gone, its rows are free in {max(others):g} s at most."
        )
