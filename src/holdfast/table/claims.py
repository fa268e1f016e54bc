"""Handing out rows: what is due becomes ready, the oldest ready rows are claimed, each is loaded as the user's instance.

Where the database returns what an UPDATE wrote, one statement finds, claims and loads; else rows are locked and loaded by
the first, and claimed by a second one. The statements are made once: what changes from call to call is bound.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sqlalchemy import BigInteger, String, bindparam, case, exists, func, literal, literal_column, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from holdfast.job.commands import Claim, Claims
from holdfast.job.state import State
from holdfast.table.columns import micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from holdfast.job.commands import Want
    from holdfast.table.gate import Gate
    from holdfast.table.leases import Leases
    from holdfast.table.rows import Rows
    from holdfast.table.shape import Key, Shape

M = TypeVar("M")

#: How many due rows one claim or rescue makes ready.
PROMOTE_BATCH: Final = 1_000
_SECOND: Final = 1_000_000


class Claiming(Generic[M]):
    """Claims rows of one table. Plain functions of a Connection."""

    def __init__(self, shape: Shape[M], gate: Gate, rows: Rows[M], leases: Leases) -> None:
        self._leases = leases
        self._shape, self._gate, self._rows, self._words = shape, gate, rows, shape.words
        self._take_statement, self._lock_statement = cache(self._taking), cache(self._locking)
        self._probe_statement = cache(self._probing)

    def claim(
        self, connection: Connection, want: Want, limit: int, cursor: int, *, patient: bool = False
    ) -> tuple[Claims[M], float]:
        """Return claims of up to `limit` rows, and the time. patient: wait for due rows that others are just promoting."""
        now, next_due, suspects = self._probe(connection)
        if next_due is not None and next_due <= now:
            self.promote(connection, now, PROMOTE_BATCH, patient=patient)
            now, next_due, suspects = self._probe(connection)
        self._leases.check_first(connection, want.lease, want.instance)
        claims: list[Claim[M]] = []
        if limit > 0 and suspects and not self._runs_suspect(connection, want.instance):
            claims += self._take(connection, want, 1, self._words.suspect, now)
        if limit > len(claims):
            claims += self._take(connection, want, limit - len(claims), self._words.queued, now)
        due = None if next_due is None else next_due / _SECOND
        return Claims(tuple(claims), cursor, due), now / _SECOND

    def _probe(self, connection: Connection) -> tuple[int, int | None, bool]:
        """Return the time, when the first waiting row is due, and whether there are suspects: one look into the index."""
        found = connection.execute(self._probe_statement(), self._gate.moment()).one()
        dues = [due for due in found[2:] if due is not None]
        return int(found[0]), min(dues, default=None), bool(found[1])

    def _probing(self) -> Any:
        rows, words = self._rows, self._words
        firsts = [select(func.min(rows.run_at)).where(rows.in_state(word)).scalar_subquery() for word in words.waiting]
        if (none := rows.has_no_time) is not None:
            firsts.append(
                select(literal(0, BigInteger)).where(rows.in_state(*words.waiting), none).limit(1).scalar_subquery()
            )
        suspects = exists().where(rows.in_state(words.suspect))
        return select(self._gate.now_bound(), suspects.select().scalar_subquery(), *firsts)

    def promote(self, connection: Connection, now: int, limit: int, *, patient: bool = False) -> int:
        """Make up to `limit` rows ready whose time has come; those that others hold are passed over unless `patient`."""
        rows, words = self._rows, self._words
        promoted = 0
        for word in words.waiting:
            is_due = (rows.in_state(word), rows.is_due(now))
            found, _ = rows.read(connection, rows.free(limit - promoted, *is_due, patient=patient))
            for suspect in (False, True):
                some = [row for row in found if row.note.suspect is suspect]
                values = {"task_state": words.stored(State.QUEUED, suspect=suspect), "task_updated_at": now}
                rows.set_all(connection, some, values)
            promoted += len(found)
            if promoted >= limit:
                break
        return promoted

    def _runs_suspect(self, connection: Connection, instance: str) -> bool:
        found, _ = self._rows.read(connection, self.running_of(instance))
        return any(row.note.suspect for row in found)

    def running_of(self, instance: str) -> Any:
        """Return the statement that reads the running rows of an instance."""
        rows = self._rows
        mine = rows.column("task_instance") == instance
        return rows.chosen(rows.in_state(self._words.running), mine).order_by(*rows.order())

    # --- taking ----------------------------------------------------------------------------------------------------

    def _take(self, connection: Connection, want: Want, limit: int, word: str, now: int) -> list[Claim[M]]:
        until = now + micros(want.lease)
        values = {
            "n_now": now,
            "n_limit": limit,
            "n_until": until,
            "n_worker": want.worker[: self._shape.worker_kept],
            "n_instance": want.instance,
        }
        if connection.dialect.update_returning:
            found = self._load(connection, self._take_statement(word), values)
        else:
            found = self._locked(connection, word, values)
        found.sort(key=self._shape.order_of)
        return [self._claim_of(one, until, word) for one in found]

    def _claim_of(self, instance: Any, until: int, word: str) -> Claim[M]:
        shape = self._shape
        row_id, is_suspect = shape.id_of(shape.key_of_instance(instance)), word == self._words.suspect
        token, attempt = instance.task_token, instance.task_attempt
        return Claim(instance, row_id, shape.name, shape.name, token, attempt, until / _SECOND, row_id, is_suspect)

    def _load(self, connection: Connection, statement: Any, values: dict[str, Any]) -> list[M]:
        """Run what returns rows; give them as detached instances, with what their mapping loads eagerly."""
        shape = self._shape
        if not shape.is_plain:
            keys = [tuple(one[: len(shape.keys)]) for one in connection.execute(statement, values)]
            return list(self._rows.instances(connection, keys).values())
        # No flush, no commit: the session only makes objects of rows.
        with Session(bind=connection, autoflush=False, expire_on_commit=False) as session:
            found = list(session.scalars(select(shape.model).from_statement(statement), values))
            session.expunge_all()
        return found

    def _returned(self) -> Sequence[Any]:
        shape = self._shape
        return shape.loaded if shape.is_plain else shape.keys

    def _ready(self, word: str, *columns: Any) -> Any:
        rows, limit = self._rows, bindparam("n_limit", type_=BigInteger())
        # What others hold is passed over: claimers never wait for each other. On SQLite the transaction is the lock.
        ready = select(*columns).where(rows.in_state(word)).order_by(*rows.order()).limit(limit)
        return ready.with_for_update(skip_locked=True)

    def _taking(self, word: str) -> Any:
        """Return the statement that claims the first ready rows and returns them."""
        table, keys = self._rows.table, self._shape.keys
        statement = update(table).values(self._claimed())
        if self._gate.is_sqlite:
            statement = statement.where(self._rows.of_keys.in_(self._ready(word, *keys)))
        else:
            # Materialized: a plain subquery could be run again for a second look, and take more rows than asked.
            named = [key.label(f"k{at}") for at, key in enumerate(keys)]
            ready = self._ready(word, *named).cte("ready").prefix_with("MATERIALIZED")
            statement = statement.where(*(key == part for key, part in zip(keys, ready.c, strict=True)))
        return statement.returning(*self._returned())

    def _claimed(self) -> dict[str, Any]:
        task, rows = self._shape.task, self._rows
        now, token = bindparam("n_now", type_=BigInteger()), rows.column("task_token")
        return {
            task["task_state"].name: literal_column(f"'{self._words.running}'", String),
            # Greater than the last, and than that of a row of the same id that was deleted.
            task["task_token"].name: case((token + 1 > now, token + 1), else_=now),
            task["task_attempt"].name: rows.column("task_attempt") + 1,
            task["task_lease_until"].name: bindparam("n_until", type_=BigInteger()),
            task["task_worker"].name: bindparam("n_worker", type_=String()),
            task["task_instance"].name: bindparam("n_instance", type_=String()),
            task["task_updated_at"].name: now,
        }

    # --- taking where an UPDATE returns nothing --------------------------------------------------------------------

    def _locking(self, word: str) -> Any:
        return self._ready(word, *self._returned())

    def _locked(self, connection: Connection, word: str, values: dict[str, Any]) -> list[M]:
        shape, rows = self._shape, self._rows
        if not shape.is_plain or shape.changes_by_itself:
            statement = self._ready(word, *shape.keys)
            keys = [tuple(one) for one in connection.execute(statement, {"n_limit": values["n_limit"]})]
            self._write_claim(connection, keys, word, values)
            return list(rows.instances(connection, keys).values())
        found = self._load(connection, self._lock_statement(word), {"n_limit": values["n_limit"]})
        self._write_claim(connection, [shape.key_of_instance(one) for one in found], word, values)
        written = {
            "task_state": shape.shown_state(self._words.running),
            "task_lease_until": shape.shown_moment("task_lease_until", values["n_until"]),
            "task_worker": values["n_worker"],
            "task_instance": values["n_instance"],
            "task_updated_at": shape.shown_moment("task_updated_at", values["n_now"]),
        }
        for instance in found:
            one: Any = instance
            counted = {
                "task_token": max((one.task_token or 0) + 1, values["n_now"]),
                "task_attempt": (one.task_attempt or 0) + 1,
            }
            for name, value in {**written, **counted}.items():
                set_committed_value(instance, name, value)
        return found

    def _write_claim(self, connection: Connection, keys: Sequence[Key], word: str, values: dict[str, Any]) -> None:
        if keys:
            which = (self._rows.has_key(keys), self._rows.still(word))
            given = {name: value for name, value in values.items() if name != "n_limit"}
            connection.execute(update(self._rows.table).where(*which).values(self._claimed()), given)
