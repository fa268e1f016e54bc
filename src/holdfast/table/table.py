"""`TaskTable`: typed access to one user's table, and the source that a worker claims from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from holdfast.durations import Duration, instant, seconds
from holdfast.errors import ConfigError, ContentError, LeaseLost, MissingTable, UnknownRow, UsageError
from holdfast.job.commands import Accepted, Claim, QueueWant, Settlement, Snoozed, Succeeded, Want
from holdfast.job.ids import shown
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import State
from holdfast.table.columns import micros
from holdfast.table.control import Changed, Control, Stuck
from holdfast.table.creating import Created, Creation, after_commit
from holdfast.table.endings import failure
from holdfast.table.gate import Gate
from holdfast.table.leases import BY_HAND, Leases
from holdfast.table.shape import Shape
from holdfast.table.source import TableSource
from holdfast.table.storing import store, store_sync
from holdfast.table.update import ColumnUpdate
from holdfast.table.words import TaskState, states_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Engine

    from holdfast.clock import Clock
    from holdfast.durations import Time
    from holdfast.job.commands import Ending
    from holdfast.table.control import Ruling
    from holdfast.table.rules import Row
    from holdfast.table.shape import Key

M = TypeVar("M")

OnDuplicate = Literal["raise", "report"]
PAGE_MAX: Final = 1_000
_DUPLICATES: Final = ("raise", "report")


class TableStats(msgspec.Struct, frozen=True):
    """Rows per state, every state there, zeros included. oldest_ready_at: seconds since the epoch; None: nothing is ready."""

    states: dict[State, int]
    oldest_ready_at: float | None = None

    @property
    def words(self) -> dict[TaskState, int]:
        """The same under the seed's five words; canceled and paused have none."""
        return {word: sum(self.states[state] for state in word.states) for word in TaskState}

    @property
    def total(self) -> int:
        """All rows that are tasks."""
        return sum(self.states.values())

    def __getitem__(self, state: State | TaskState | str) -> int:
        """Return the count of a state, or of a word of the seed."""
        return sum(self.states[one] for one in states_of(state))


class RowPage(msgspec.Struct, Generic[M], frozen=True):
    """Rows by primary key, detached. cursor: what to give as `after` for the next page; None: this was the last."""

    items: tuple[M, ...]
    cursor: Any = None


class TaskTable(TableSource[M]):
    """One task table: `TaskTable(Order, engine)`.

    model: a mapped class with TaskMixin. engine: a sync or an async one, on SQLite, PostgreSQL, MySQL or MariaDB; it stays
    yours. retry: the policy of rows whose runner raises; without one such a row is failed at once, and only a row that
    loses its worker runs again, up to 5 times in all. name: of the queue that workers, metrics and people see. clock: for
    tests. Raises BadModel and ConfigError; nothing is opened.
    """

    def __init__(
        self,
        model: type[M],
        engine: Engine | AsyncEngine,
        *,
        retry: RetryPolicy | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise ConfigError(
                f"retry: expected a RetryPolicy, found {shown(retry)}. Write RetryPolicy(max_attempts=3)."
            )
        shape = Shape(model, name)
        gate = Gate(engine, clock)
        super().__init__(shape, gate, retry or RetryPolicy())
        self.model = model
        self.retries_errors = retry is not None
        self._control = Control(shape, gate)
        self._is_checked = False
        gate.missing = lambda: self._missing("another one, or none")

    def __repr__(self) -> str:
        """Say which table of which model."""
        return f"<TaskTable {self.name!r} of {self.model.__name__} on {self._gate.dialect}>"

    @property
    def name(self) -> str:
        """The name of the queue that this table is."""
        return self.shape.name

    @property
    def engine(self) -> Engine | AsyncEngine:
        """The engine that it was given, for statements of your own."""
        return self._gate.given

    @property
    def is_async(self) -> bool:
        """Whether its engine is an async one."""
        return self._gate.is_async

    async def let_go(self) -> None:
        """Close this table and the engine that it was given: for programs that only look."""
        await self.close()
        engine = self._gate.given
        if isinstance(engine, AsyncEngine):
            await engine.dispose()
        else:
            engine.dispose()

    # --- new rows --------------------------------------------------------------------------------------------------

    async def create(
        self,
        rows: M | Iterable[M],
        *,
        delay: Duration | None = None,
        run_at: Time | None = None,
        on_duplicate: OnDuplicate = "raise",
        session: AsyncSession | Session | None = None,
    ) -> list[Created]:
        """Store new rows, all or none; they are ready at once unless `delay`, `run_at` or their own task_run_at says later.

        session: your own, so that the rows are stored with what else it holds, when it commits. on_duplicate="report":
        rows whose id is taken are left out and told. Raises BadRow, DuplicateRow (both name the rows), BadTime, MissingTable,
        and what the database says about your own constraints.
        """
        if session is not None and not isinstance(session, AsyncSession):
            return self.create_sync(rows, delay=delay, run_at=run_at, on_duplicate=on_duplicate, session=session)
        creation = self._creation(rows, delay, run_at, on_duplicate)
        if session is None:
            made = await store(self._gate, creation)
            self._waking.wake()
            return made
        made = await session.run_sync(creation.into)
        after_commit(session.sync_session, self._waking.wake)
        return made

    def create_sync(
        self,
        rows: M | Iterable[M],
        *,
        delay: Duration | None = None,
        run_at: Time | None = None,
        on_duplicate: OnDuplicate = "raise",
        session: Session | None = None,
    ) -> list[Created]:
        """The same for code without a loop: with a sync engine, or within a sync session."""
        creation = self._creation(rows, delay, run_at, on_duplicate)
        if session is not None:
            if not isinstance(session, Session):
                raise UsageError(f"session: expected a Session of SQLAlchemy, found {shown(session)}.")
            made = creation.into(session)
            after_commit(session, self._waking.wake)
            return made
        self._need_sync("create_sync")
        made = store_sync(self._gate, creation)
        self._waking.wake()
        return made

    def _creation(
        self, rows: M | Iterable[M], delay: Duration | None, run_at: Time | None, on_duplicate: str
    ) -> Creation[M]:
        if on_duplicate not in _DUPLICATES:
            raise ConfigError(f'on_duplicate: expected "raise" or "report", found {shown(on_duplicate)}.')
        if delay is not None and run_at is not None:
            raise ContentError("expected delay or run_at, found both. Leave one out.")
        given: Any = [rows] if isinstance(rows, self.model) else rows
        if not isinstance(given, Iterable):
            raise ContentError(f"expected instances of {self.model.__name__}, found {shown(given)}.")
        many: Sequence[Any] = list(given)
        return Creation(
            self.shape,
            self._rows,
            many,
            delay=None if delay is None else seconds(delay, "delay"),
            run_at=None if run_at is None else instant(run_at, "run_at"),
            report=on_duplicate == "report",
        )

    # --- reading ---------------------------------------------------------------------------------------------------

    async def get(self, row_id: Any) -> M:
        """Return a row in any state, detached; for a composite key give a tuple. Raises UnknownRow."""
        key = self.shape.key_of(row_id)
        found = await self._gate.run(lambda connection: self._rows.instances(connection, [key]), write=False)
        return self._only(found, row_id)

    def get_sync(self, row_id: Any) -> M:
        """The same for code without a loop, with a sync engine."""
        self._need_sync("get_sync")
        key = self.shape.key_of(row_id)
        return self._only(self._gate.run_sync(lambda one: self._rows.instances(one, [key]), write=False), row_id)

    def _only(self, found: dict[Key, M], row_id: Any) -> M:
        if not found:
            raise UnknownRow(self.name, row_id)
        return next(iter(found.values()))

    async def list(
        self,
        *where: ColumnElement[bool],
        state: State | TaskState | str | None = None,
        limit: int = 50,
        after: Any = None,
    ) -> RowPage[M]:
        """Return a page of rows by primary key: those in `state` that match your conditions on the model's columns."""
        _check_limit(limit)
        conditions = [*where]
        if state is not None:
            conditions.append(self._rows.is_state(*states_of(state)))
        if after is not None:
            conditions.append(self._rows.is_after(self.shape.key_of(after)))
        statement = select(*self.shape.keys).where(*conditions).order_by(*self.shape.keys).limit(limit)

        def work(connection: Connection) -> tuple[list[Key], dict[Key, M]]:
            keys = [tuple(one) for one in connection.execute(statement)]
            return keys, self._rows.instances(connection, keys)

        keys, found = await self._gate.run(work, write=False)
        cursor = None if len(keys) < limit else keys[-1] if len(keys[-1]) > 1 else keys[-1][0]
        return RowPage(tuple(found[key] for key in keys if key in found), cursor)

    async def stats(self) -> TableStats:
        """Count the rows per state, by one statement. Rows that are no task (NULL) are not counted."""
        return await self._gate.run(self._stats, write=False)

    def _stats(self, connection: Connection) -> TableStats:
        words, rows = self.shape.words, self._rows
        state, failed = rows.column("task_state"), rows.column("task_failures") > 0
        # Only the seed's PENDING needs a look at the failures; without it the index alone answers.
        split = [failed] if words.scheduled == words.retrying else []
        statement = select(state, func.count(), func.min(rows.column("task_run_at")), *split).group_by(state, *split)
        counts = dict.fromkeys(State, 0)
        ready: list[int] = []
        for word, count, first, *has_failed in connection.execute(statement.where(state.is_not(None))):
            found = words.state(word, int(bool(has_failed and has_failed[0])))
            assert found is not None, "rows that are no task are left out"
            counts[found] += count
            if word in words.ready:
                ready.append(first)
        return TableStats(counts, min(ready) / 1_000_000 if ready else None)

    async def stuck(self, older_than: Duration = 0.0, *, limit: int = 100) -> Stuck[M]:
        """List running rows whose lease ended, and waiting ones that were due, at least `older_than` ago. Changes nothing."""
        _check_limit(limit)
        since = micros(seconds(older_than, "older_than"))
        return await self._gate.run(self._control.stuck(since, limit), write=False)

    # --- people ----------------------------------------------------------------------------------------------------

    async def reset(self, *where: ColumnElement[bool], ids: Iterable[Any] | None = None) -> Changed:
        """Give failed rows back to the queue with new budgets: ERROR → INIT. By ids, or all that match the conditions."""
        return await self._change(self._control.reset, (State.FAILED,), where, ids)

    async def retry(self, *where: ColumnElement[bool], ids: Iterable[Any] | None = None) -> Changed:
        """Give failed and canceled rows back to the queue with new budgets."""
        return await self._change(self._control.retry, (State.FAILED, State.CANCELED), where, ids)

    async def cancel(
        self, *where: ColumnElement[bool], ids: Iterable[Any] | None = None, who: str = "", why: str = ""
    ) -> Changed:
        """Cancel waiting rows at once; running ones are asked to stop, and what they finish all the same stands."""
        states = (State.QUEUED, State.SCHEDULED, State.RETRYING, State.PAUSED, State.RUNNING)
        return await self._change(self._control.canceller(who, why), states, where, ids)

    async def _change(
        self,
        ruling: Callable[[Row, int], Ruling],
        states: tuple[State, ...],
        where: tuple[ColumnElement[bool], ...],
        ids: Iterable[Any] | None,
    ) -> Changed:
        if (ids is None) == (not where):
            raise UsageError(
                "expected ids=[…] or conditions on the model, found "
                + ("none. For all rows write sqlalchemy.true()." if ids is None else "both. Leave one out.")
            )
        if ids is None:
            keys = await self._gate.run(self._control.keys_of(states, where), write=False)
        else:
            keys = self.shape.keys_of(ids)
        changed = await self._control.do(keys, ruling)
        if changed.done:
            self._waking.wake()
        if changed.asked:
            for call in tuple(self._on_cancel):
                call()
        return changed

    # --- by hand ---------------------------------------------------------------------------------------------------

    async def acquire(self, limit: int = 1, *, lease: Duration = 30.0, worker: str = "by hand") -> tuple[Claim[M], ...]:
        """Claim up to `limit` ready rows without a service, 500 at most.

        Nobody beats for them: report within `lease`. A lease that is over refuses nothing by itself; but from then on another
        worker may take the row, and with that your report is refused.
        """
        _check_limit(limit)
        want = Want(
            queues=(QueueWant(self.name, limit),),
            limit=limit,
            lease=seconds(lease, "lease", positive=True),
            instance=BY_HAND,
            worker=worker,
        )
        return (await self.claim(want)).items

    async def mark_done(self, claim: Claim[M], /, **columns: Any) -> None:
        """End a claim as done, with columns in the same write. Raises LeaseLost for a claim that is over.

        The same report again is fine, for the answer to the first may have been lost; one that says other things is refused.
        """
        await self._mark(claim, Succeeded(update=self._columns(columns)))

    async def mark_pending(self, claim: Claim[M], delay: Duration, /, **columns: Any) -> None:
        """Put a claimed row off by `delay`. Raises LeaseLost."""
        await self._mark(claim, Snoozed(seconds(delay, "delay"), self._columns(columns)))

    async def mark_error(self, claim: Claim[M], error: BaseException | str, /, **columns: Any) -> None:
        """End a claim as failed; it is retried if the table has a policy. Raises LeaseLost."""
        await self._mark(claim, failure(error, retryable=self.retries_errors, update=self._columns(columns)))

    def _columns(self, columns: dict[str, Any]) -> ColumnUpdate | None:
        return ColumnUpdate(self.shape.check_update(columns)) if columns else None

    async def _mark(self, claim: Claim[M], ending: Ending) -> None:
        if not isinstance(claim, Claim):
            raise UsageError(f"expected a Claim from acquire(), found {shown(claim)}: a bare id can not be fenced.")
        [answer] = await self.settle([Settlement(claim, ending)])
        if answer.accepted is Accepted.STALE:
            raise LeaseLost(claim.id, claim.token)

    # --- the table itself ------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Look whether the database has the table with all columns of the model. Raises MissingTable with the DDL."""
        await self._gate.run(self._check, write=False)

    async def checked(self) -> None:
        """Check once; a table that was there is not looked at again."""
        if not self._is_checked:
            await self.check()
            self._is_checked = True

    def _check(self, connection: Connection) -> None:
        table = self.shape.table
        try:
            there = {column["name"] for column in inspect(connection).get_columns(table.name, schema=table.schema)}
        except NoSuchTableError:
            there = set()
        missing = [column.name for column in table.columns if column.name not in there]
        if missing and there:
            ddl = self.shape.ddl_to_adopt(self._gate.sync_engine.dialect, missing)
            raise MissingTable(self.name, f"it without {', '.join(missing)}", ddl)
        if missing:
            raise self._missing("no such table")

    def _missing(self, what: str) -> MissingTable:
        return MissingTable(self.name, what, self.ddl())

    def ddl(self) -> str:
        """Return the statements that make the table and its indexes, in the dialect of the engine."""
        return self.shape.ddl(self._gate.sync_engine.dialect)

    # --- services --------------------------------------------------------------------------------------------------

    @property
    def leases(self) -> Leases:
        """The leases of the services of this table."""
        return self._leases

    async def check_lease(self, lease: float) -> None:
        """Raise ConfigError when another process holds rows with another lease, in seconds."""
        await self._gate.run(lambda connection: self._leases.check(connection, lease), write=False)

    async def other_leases(self, lease: float, instance: str = "") -> Sequence[float]:
        """Return leases, in seconds, with which other processes hold rows now, where they differ from `lease`."""
        return await self._gate.run(lambda one: self._leases.others(one, lease, instance), write=False)

    def _need_sync(self, what: str) -> None:
        if self.is_async:
            raise UsageError(f"{what} needs a sync engine, found an async one. Use `await table.{what[:-5]}(…)`.")


def _check_limit(limit: object) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= PAGE_MAX:
        raise ContentError(f"limit: expected a whole number of rows from 1 to {PAGE_MAX:,}, found {shown(limit)}.")
