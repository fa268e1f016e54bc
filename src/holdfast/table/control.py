"""What people do to rows: reset, retry and cancel, by ids or by a condition; and what is stuck.

A condition is SQLAlchemy's own (`Order.total > 100`), so a type checker sees it and no text is pasted into a statement.
Rows are changed in batches, each its own transaction, so that no action holds a large table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import select

from holdfast.job.state import State
from holdfast.table.rows import KEYS_MAX, Rows, chunks
from holdfast.table.rules import Change, Row, after_retry, asked, write_note
from holdfast.table.shape import bare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from holdfast.table.gate import Gate
    from holdfast.table.shape import Key, Shape

M = TypeVar("M")

BATCH: Final = KEYS_MAX
_WAITING: Final = (State.QUEUED, State.SCHEDULED, State.RETRYING, State.PAUSED)
_RUNNING: Final = State.RUNNING
_FINISHED: Final = (State.FAILED, State.CANCELED)

#: What an action makes of a row: new values, or why it does not.
Ruling = dict[str, Any] | str


class Refused(msgspec.Struct, frozen=True):
    """A row that was left as it is, and why."""

    id: Any
    why: str


class Changed(msgspec.Struct, frozen=True):
    """What an action did, by ids. asked: running rows that were asked to stop: their workers hear of it with a beat."""

    done: tuple[Any, ...] = ()
    asked: tuple[Any, ...] = ()
    refused: tuple[Refused, ...] = ()


class Stuck(msgspec.Struct, Generic[M], frozen=True):
    """lost: running rows whose lease is over. overdue: rows that should have been claimed. Detached instances."""

    lost: tuple[M, ...]
    overdue: tuple[M, ...]


class Control(Generic[M]):
    """Actions on the rows of one table."""

    def __init__(self, shape: Shape[M], gate: Gate) -> None:
        self._shape, self._gate, self._rows = shape, gate, Rows(shape, gate)

    # --- rulings ---------------------------------------------------------------------------------------------------

    def reset(self, row: Row, now: int) -> Ruling:
        """A failed row goes back to the queue with new budgets."""
        return self._again(row, now, (State.FAILED,))

    def retry(self, row: Row, now: int) -> Ruling:
        """A failed or canceled row goes back to the queue with new budgets."""
        return self._again(row, now, _FINISHED)

    def _again(self, row: Row, now: int, states: tuple[State, ...]) -> Ruling:
        if row.state not in states:
            return f"expected it {' or '.join(states)}, found it {row.state or 'no task'}"
        return {
            "task_state": self._shape.words.queued,
            "task_run_at": now,
            "task_failures": 0,
            "task_snoozes": 0,
            "task_error": None,
            "task_note": write_note(after_retry(row.note)),
            "task_updated_at": now,
        }

    def canceller(self, who: str, why: str) -> Callable[[Row, int], Ruling]:
        """Return the ruling of a cancel: waiting rows at once, running ones are asked."""

        def cancel(row: Row, now: int) -> Ruling:
            note = write_note(asked(row.note, who, why, now))
            if row.state is _RUNNING:
                return {"task_note": note}
            if row.state in _WAITING:
                return {"task_state": self._shape.words.canceled, "task_note": note, "task_updated_at": now}
            return f"it has ended: {row.state}" if row.state else "it is no task"

        return cancel

    # --- doing -----------------------------------------------------------------------------------------------------

    def keys_of(
        self, states: tuple[State, ...], where: Sequence[ColumnElement[bool]]
    ) -> Callable[[Connection], list[Key]]:
        """Return the look-up of all rows in `states` that match `where`."""
        words = dict.fromkeys(word for state in states for word in self._shape.words.of(state))
        statement = select(*self._shape.keys).where(self._rows.in_state(*words), *where)
        return lambda connection: [tuple(one) for one in connection.execute(statement)]

    async def do(self, keys: Sequence[Key], ruling: Callable[[Row, int], Ruling]) -> Changed:
        """Rule on each row, in batches; unknown ids are refused."""
        parts = [
            await self._gate.run(lambda connection, some=some: self._batch(connection, some, ruling))  # type: ignore[misc]
            for some in chunks(list(keys), BATCH)
        ]
        return _joined(parts)

    def _batch(self, connection: Connection, keys: Sequence[Key], ruling: Callable[[Row, int], Ruling]) -> Changed:
        found, now = self._rows.locked(connection, keys)
        done: list[Any] = []
        told: list[Any] = []
        refused: list[Refused] = []
        changes: list[Change] = []
        for key in dict.fromkeys(keys):
            row = found.get(key)
            ruled = "no row has this id" if row is None else ruling(row, now)
            if row is None or isinstance(ruled, str):
                refused.append(Refused(bare(key), str(ruled)))
                continue
            (told if row.state is _RUNNING else done).append(bare(key))
            changes.append(Change(row, ruled))
        self._rows.write(connection, changes)
        return Changed(tuple(done), tuple(told), tuple(refused))

    # --- looking ---------------------------------------------------------------------------------------------------

    def stuck(self, older_than: int, limit: int) -> Callable[[Connection], Stuck[M]]:
        """Return the look-up of what should have moved `older_than` microseconds ago. It changes nothing."""
        rows, words = self._rows, self._shape.words

        def work(connection: Connection) -> Stuck[M]:
            before = int(connection.execute(select(rows.now())).scalar_one()) - older_than
            over = (rows.in_state(words.running), rows.is_over(before))
            late = (rows.in_state(*words.ready, *words.waiting), rows.is_due(before))
            return Stuck(self._some(connection, over, limit), self._some(connection, late, limit))

        return work

    def _some(self, connection: Connection, where: tuple[ColumnElement[bool], ...], limit: int) -> tuple[M, ...]:
        found, _ = self._rows.read(connection, self._rows.chosen(*where).order_by(*self._rows.order()).limit(limit))
        loaded = self._rows.instances(connection, [row.key for row in found])
        return tuple(loaded[row.key] for row in found if row.key in loaded)


def _joined(parts: Sequence[Changed]) -> Changed:
    return Changed(
        tuple(one for part in parts for one in part.done),
        tuple(one for part in parts for one in part.asked),
        tuple(one for part in parts for one in part.refused),
    )
