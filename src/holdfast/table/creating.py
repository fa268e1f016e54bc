"""New rows: checked, then stored all or none, in a transaction of ours or in the user's own session."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from holdfast.errors import BadRow, ConfigError, DuplicateRow
from holdfast.job.state import State
from holdfast.table.columns import micros
from holdfast.table.rows import chunks
from holdfast.table.shape import bare
from holdfast.table.storing import RACES_MAX, again, look_at
from holdfast.table.words import states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection

    from holdfast.table.rows import Rows
    from holdfast.table.shape import Key, Shape

M = TypeVar("M")

#: States that a new row may have: it is ready, or waits for its time.
_NEW: Final = frozenset({State.QUEUED, State.SCHEDULED})
#: Ours are set anew, so that a row which is made of another begins with a clean sheet.
_FRESH: Final = {
    "task_lease_until": None,
    "task_token": 0,
    "task_attempt": 0,
    "task_failures": 0,
    "task_snoozes": 0,
    "task_worker": None,
    "task_instance": None,
    "task_error": None,
    "task_note": None,
}


class Created(msgspec.Struct, frozen=True):
    """What became of one row of a batch. new: False when the id was there before (`on_duplicate="report"`).

    id: as `get` takes it. key: the same, always a tuple.
    """

    id: Any
    key: tuple[Any, ...]
    new: bool = True


class Creation(Generic[M]):
    """One batch of new rows. delay: seconds for all of them; run_at: seconds since the epoch."""

    def __init__(
        self,
        shape: Shape[M],
        rows: Rows[M],
        instances: Sequence[M],
        *,
        delay: float | None = None,
        run_at: float | None = None,
        report: bool = False,
    ) -> None:
        """Check all rows. Raises BadRow for the first that can not be stored, DuplicateRow for an id given twice."""
        self._shape, self._rows, self._instances, self._report = shape, rows, list(instances), report
        self._delay, self._run_at, self._raced = delay, run_at, False
        self._keys = [shape.check_new(place, one) for place, one in enumerate(self._instances)]
        self._states = [self._state_of(place, one) for place, one in enumerate(self._instances)]
        whole = [key for key in self._keys if None not in key]
        twice = [key for key, count in Counter(whole).items() if count > 1]
        if twice and not report:
            raise DuplicateRow(shape.name, [bare(key) for key in twice])

    @property
    def reports(self) -> bool:
        """Whether rows that exist are told instead of refused."""
        return self._report

    def _state_of(self, place: int, instance: M) -> State:
        given = getattr(instance, "task_state", None)
        try:
            states = (State.QUEUED,) if given is None else states_of(given)
        except ConfigError as error:
            raise BadRow(place, self._shape.id_of(self._keys[place]), str(error)) from None
        if states[0] not in _NEW:
            raise BadRow(
                place,
                self._shape.id_of(self._keys[place]),
                f"expected task_state INIT or PENDING (queued or scheduled) in a new row, found {given!s}.",
            )
        if states[0] is State.SCHEDULED and self._time_of(instance) is None and self._delay is None:
            raise BadRow(
                place,
                self._shape.id_of(self._keys[place]),
                "expected a time with PENDING, found none. Set task_run_at, or give delay= or run_at=.",
            )
        return states[0]

    def _time_of(self, instance: M) -> int | None:
        """Return the row's own time in microseconds, or the batch's."""
        given: Any = getattr(instance, "task_run_at", None)
        if given is not None:
            bound: int | None = self._shape.moment(given)
            return bound
        return None if self._run_at is None else micros(self._run_at)

    # --- storing ---------------------------------------------------------------------------------------------------

    def store(self, connection: Connection) -> list[Created]:
        """Store the batch in the connection's transaction. Raises DuplicateRow, and what the database refuses."""
        with Session(bind=connection, expire_on_commit=False) as session:
            answers = self._add(session)
            session.expunge_all()
        return answers

    def into(self, session: Session) -> list[Created]:
        """Add the batch to a session of the user's and flush it: it is stored when, and if, the session commits.

        What another transaction stores meanwhile is met within a savepoint, so that the user's own work stands.
        """
        session.flush()
        if session.connection().dialect.name == "sqlite":
            self._rows.begin_as_writer(session.connection())
            return self._add(session)  # who writes holds the file: nobody comes between
        for _ in range(RACES_MAX):
            try:
                with session.begin_nested():
                    return self._add(session)
            except IntegrityError as error:
                look_at(self.who_is_there(session.connection()), self, error)
        raise again()

    def _add(self, session: Session) -> list[Created]:
        known = self._known(session.connection())
        if known and not self._report:
            raise DuplicateRow(self._shape.name, [bare(key) for key in known])
        now = int(session.connection().execute(select(self._rows.now())).scalar_one())
        seen: set[Key] = set(known)
        fresh: list[tuple[int, M]] = []
        for place, (key, instance) in enumerate(zip(self._keys, self._instances, strict=True)):
            if key in seen:
                continue
            if None not in key:
                seen.add(key)
            self._set_columns(instance, self._states[place], now, place)
            fresh.append((place, instance))
        session.add_all([instance for _, instance in fresh])
        session.flush()
        new = {place for place, _ in fresh}
        keys = [
            self._shape.key_of_instance(one) if place in new else self._keys[place]
            for place, one in enumerate(self._instances)
        ]
        return [Created(bare(key), key, place in new) for place, key in enumerate(keys)]

    def _known(self, connection: Connection) -> list[Key]:
        whole = [key for key in self._keys if None not in key]
        found: set[Key] = set()
        for some in chunks(whole):
            statement = select(*self._shape.keys).where(self._rows.has_key(some))
            if self._raced and connection.dialect.name in ("mysql", "mariadb"):
                # In a transaction of the user's a plain read shows what was there when it began. Not at the first look:
                # this locks the gaps of what is not there.
                statement = statement.with_for_update(read=True)
            found |= {tuple(one) for one in connection.execute(statement)}
        return [key for key in dict.fromkeys(whole) if key in found]

    def _set_columns(self, instance: M, state: State, now: int, place: int) -> None:
        at = self._time_of(instance)
        if at is None and self._delay is not None:
            at = now + micros(self._delay)
        # Rows of a batch come in its order: ready ones differ by a microsecond each.
        run_at, is_due = (now + place, True) if at is None else (at, at <= now)
        stored = self._shape.words.stored(State.QUEUED if is_due else State.SCHEDULED)
        times = {"task_run_at": run_at, "task_created_at": now, "task_updated_at": now}
        shown = {name: self._shape.shown_moment(name, value) for name, value in times.items()}
        for name, value in {**_FRESH, "task_state": stored, **shown}.items():
            setattr(instance, name, value)

    def who_is_there(self, connection: Connection) -> DuplicateRow | None:
        """Return the error for ids that another transaction has stored meanwhile; None when the refusal is another's."""
        self._raced = True
        known = self._known(connection)
        return DuplicateRow(self._shape.name, [bare(key) for key in known]) if known else None


_TOLD: Final = "holdfast: who is told of a commit"


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Call `call` once when the session's transaction, not a savepoint in it, has been committed."""
    if _TOLD not in session.info:
        session.info[_TOLD] = []
        event.listen(session, "after_commit", _tell)
    if call not in session.info[_TOLD]:
        session.info[_TOLD].append(call)


def _tell(session: Session) -> None:
    if session.in_nested_transaction():
        return
    told, session.info[_TOLD] = session.info[_TOLD], []
    for call in told:
        call()
