"""The rows of a task table as a history shows jobs: to read, list, count and add up.

A row is shown as far as it can say: its state, times, counters and its newest attempt. Earlier attempts, durations and log
lines are not kept in a row. The id is `table:id`; the payload holds the business columns. Nothing is written: rows are
made by their table and moved by their services.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
from sqlalchemy import BigInteger, Enum, String, and_, cast, func, literal, or_, select, tuple_

from holdfast import history as h
from holdfast.errors import Conflict, ContentError, HoldfastError, UnknownJob
from holdfast.job.commands import SEARCH_WINDOW
from holdfast.job.ledger.search import has_window
from holdfast.job.model import Attempt, CancelAsk, Job
from holdfast.job.state import FAILURES, FINAL, WAITING, End, State
from holdfast.table.columns import micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from holdfast.table.rules import Row
    from holdfast.table.table import TaskTable

    Conditions = list[ColumnElement[bool]]

_SECOND: Final = 1_000_000
_HOUR: Final = 3_600 * _SECOND
#: Rows that one look at attempts reads.
_SLICE: Final = 500
_ENDED: Final = {State.SUCCEEDED: End.SUCCEEDED, State.FAILED: End.FAILED, State.CANCELED: End.CANCELED}
_NOT_OF_ROWS: Final = ("key", "unique", "tag", "paused_by")


class TableJobs:
    """The JobRepository over one task table."""

    def __init__(self, table: TaskTable[Any]) -> None:
        self._table, self._shape, self._gate, self._rows = table, table.shape, table.gate, table.rows
        shape = self._shape
        self._own = {name: column for name, column in shape.own.items() if column in shape.loaded}
        told = (self._rows.column(f"task_{name}") for name in ("error", "created_at", "updated_at"))
        self._extra = (*told, *self._own.values())

    @property
    def name(self) -> str:
        """The queue that the table is."""
        return self._table.name

    def owns(self, job_id: str) -> bool:
        """Whether an id is that of a row."""
        return job_id.startswith(f"{self.name}:")

    # --- reading rows ----------------------------------------------------------------------------------------------

    def _statement(self, *where: ColumnElement[bool]) -> Select[Any]:
        state = self._rows.column("task_state")
        return self._rows.chosen(state.is_not(None), *where).add_columns(*self._extra)

    def _read(self, connection: Connection, statement: Select[Any]) -> Sequence[Job]:
        width = len(self._extra)
        return [self._job(self._rows.row_of(one[:-width]), one[-width:]) for one in connection.execute(statement)]

    def _job(self, row: Row, extra: Any) -> Job:
        error, created_at, updated_at, *own = extra
        assert row.state is not None, "rows that are no task are not read"
        at = updated_at / _SECOND
        return Job(
            seq=0,
            id=f"{self.name}:{row.id}",
            task=self.name,
            queue=self.name,
            payload=_json(dict(zip(self._own, own, strict=True))),
            run_at=row.run_at / _SECOND,
            retry=self._table.retry_policy,
            created_at=created_at / _SECOND,
            state=row.state,
            updated_at=at,
            finished_at=at if row.state in FINAL else None,
            cancel=None if row.note.cancel is None else CancelAsk(*row.note.cancel),
            attempt=row.attempt,
            token=row.token,
            failures=row.failures,
            losses=row.note.losses,
            crashes=row.note.crashes,
            snoozes=row.snoozes,
            releases=row.note.releases,
            suspect=row.note.suspect,
            last=_attempt(row, error or "", at) if row.attempt else None,
        )

    # --- jobs ------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> Job:
        """One row. Raises UnknownJob."""
        [found] = await self.jobs([job_id])
        if found is None:
            raise UnknownJob(job_id)
        return found

    async def jobs(self, ids: Sequence[str]) -> Sequence[Job | None]:
        """The rows of these ids, in their order; None for unknown ones."""
        keys = [key for one in ids if (key := self._key(one)) is not None]
        if not keys:
            return [None] * len(ids)
        statement = self._statement(self._rows.has_key(keys))
        found = {job.id: job for job in await self._gate.run(lambda one: self._read(one, statement), write=False)}
        return [found.get(one) for one in ids]

    def _key(self, job_id: str) -> Any:
        return self._shape.key_from(job_id[len(self.name) + 1 :]) if self.owns(job_id) else None

    async def list(self, which: h.JobFilter, page: h.Page) -> h.JobPage:
        """A page of the rows that match, the newest first."""
        return await self.page(which, h.JOB_LIMIT.of(page.limit), page.cursor, newest_first=page.newest_first)

    async def page(self, which: h.JobFilter, limit: int, cursor: str, *, newest_first: bool) -> h.JobPage:
        """The same for any limit."""
        where = self._where(which)
        if where is None:
            return h.JobPage(items=())
        place = (self._rows.column("task_created_at"), *self._shape.keys)
        if cursor:
            after = tuple_(*self._place(cursor))
            where.append(tuple_(*place) < after if newest_first else tuple_(*place) > after)
        order = [column.desc() for column in place] if newest_first else list(place)
        statement = self._statement(*where).order_by(*order).limit(limit + 1)
        found = await self._gate.run(lambda one: self._read(one, statement), write=False)
        last = found[limit - 1] if len(found) > limit else None
        told = "" if last is None else f"{micros(last.created_at)}:{last.id[len(self.name) + 1 :]}"
        return h.JobPage(items=tuple(found[:limit]), cursor=told)

    def _place(self, cursor: str) -> tuple[Any, ...]:
        at, _, row_id = cursor.partition(":")
        key = self._shape.key_from(row_id)
        if not at.lstrip("-").isdecimal() or key is None:
            raise ContentError(f"bad page cursor {cursor!r:.80}: pass back the cursor of the page before, unchanged.")
        parts = (literal(part, column.type) for part, column in zip(key, self._shape.keys, strict=True))
        return (literal(int(at), BigInteger()), *parts)

    async def count(self, which: h.JobFilter) -> int:
        """How many rows match."""
        where = self._where(which)
        if where is None:
            return 0
        is_task = self._rows.column("task_state").is_not(None)
        statement = select(func.count()).select_from(self._rows.table).where(is_task, *where)
        return int(await self._gate.run(lambda one: one.execute(statement).scalar_one(), write=False))

    def _where(self, which: h.JobFilter) -> Conditions | None:
        """Return the conditions of a filter; None when no row can match."""
        if not {which.queue, which.task} <= {None, self.name} or any(getattr(which, one) for one in _NOT_OF_ROWS):
            return None
        column = self._rows.column
        where = [self._rows.is_state(*which.states)] if which.states else []
        if which.id is not None:
            key = self._key(which.id)
            if key is None:
                return None
            where.append(self._rows.has_key([key]))
        if which.worker is not None:
            where.append(column("task_worker") == which.worker)
        if which.instance is not None:
            where.append(column("task_instance") == which.instance)
        if which.created_after is not None:
            where.append(column("task_created_at") >= micros(which.created_after))
        if which.created_before is not None:
            where.append(column("task_created_at") < micros(which.created_before))
        if which.text is not None:
            where.append(self._has_text(which.text))
        if which.id is None and has_window(which) and which.created_after is None:
            # The window of a search, by the database's clock.
            upto = self._rows.now() if which.created_before is None else literal(micros(which.created_before))
            where.append(column("task_created_at") >= upto - literal(round(SEARCH_WINDOW * _SECOND)))
        return where

    def _has_text(self, text: str) -> ColumnElement[bool]:
        texts = [one for one in self._own.values() if isinstance(one.type, String) and not isinstance(one.type, Enum)]
        looked = (*(cast(key, String(255)) for key in self._shape.keys), self._rows.column("task_error"), *texts)
        return or_(*(one.contains(text, autoescape=True) for one in looked))

    async def list_failed(self, worker: str = "", limit: int = 0) -> Sequence[Job]:
        """Failed rows, the newest first."""
        which = h.JobFilter(states=(State.FAILED,), worker=worker or None)
        return (await self.page(which, h.FAILED_LIMIT.of(limit), "", newest_first=True)).items

    # --- attempts --------------------------------------------------------------------------------------------------

    async def list_attempts(self, job_id: str, limit: int = 0) -> Sequence[Attempt]:
        """The newest attempt of a row; earlier ones are not kept."""
        [job] = await self.jobs([job_id])
        return job.attempts if job is not None else ()

    async def find_attempts(self, which: h.AttemptFilter, page: h.Page) -> h.AttemptPage:
        """The newest attempts of rows, the latest claim first."""
        limit, cursor = h.ATTEMPT_LIMIT.of(page.limit), page.cursor
        found: list[Job] = []
        while len(found) <= limit:
            some = await self._attempted(which, cursor)
            found += [job for job in some if not which.ends or (job.last is not None and job.last.end in which.ends)]
            if len(some) < _SLICE:
                break
            cursor = self._attempt_cursor(some[-1])
        items = tuple(h.AttemptRecord(job.id, job.last, job.task, job.queue) for job in found[:limit] if job.last)
        return h.AttemptPage(items=items, cursor=self._attempt_cursor(found[limit - 1]) if len(found) > limit else "")

    def _attempt_cursor(self, job: Job) -> str:
        return f"{job.token}:{job.id[len(self.name) + 1 :]}"

    async def _attempted(self, which: h.AttemptFilter, cursor: str) -> Sequence[Job]:
        where = self._where(
            h.JobFilter(queue=which.queue, task=which.task, worker=which.worker, instance=which.instance)
        )
        if where is None:
            return ()
        # A claim's token is its time.
        token, error = self._rows.column("task_token"), self._rows.column("task_error")
        after = self._rows.now() - 86_400 * _SECOND if which.after is None else micros(which.after)
        where += [self._rows.column("task_attempt") > 0, token >= after]
        if which.before is not None:
            where.append(token < micros(which.before))
        if which.running:
            where.append(self._rows.is_state(State.RUNNING))
        if which.text is not None:
            where.append(error.contains(which.text, autoescape=True))
        place = (token, *self._shape.keys)
        if cursor:
            where.append(tuple_(*place) < tuple_(*self._place(cursor)))
        statement = self._statement(*where).order_by(*(one.desc() for one in place)).limit(_SLICE)
        return await self._gate.run(lambda one: self._read(one, statement), write=False)

    # --- figures ---------------------------------------------------------------------------------------------------

    async def worker_stats(self, worker: str = "") -> h.WorkerStats:
        """Rows by the worker of their newest attempt. Durations are not known."""
        where = () if not worker else (self._rows.column("task_worker") == worker,)
        counts = Counter(dict.fromkeys(State, 0))
        for state, count in await self._counted(*where):
            counts[state] += count
        return figures_of(worker, self.name, counts)

    async def _counted(self, *where: ColumnElement[bool]) -> Sequence[tuple[State, int]]:
        state, failed = self._rows.column("task_state"), self._rows.column("task_failures") > 0
        statement = select(state, failed, func.count()).where(state.is_not(None), *where).group_by(state, failed)
        found = await self._gate.run(lambda one: one.execute(statement).all(), write=False)
        read = self._shape.words.state
        return [(known, count) for word, has_failed, count in found if (known := read(word, int(has_failed)))]

    async def worker_time_series(self, worker: str = "", hours: int = 0) -> Sequence[h.SeriesBucket]:
        """Hours of newest attempts that ended in success or failure, by when the row was last written."""
        many, column = h.SERIES_HOURS.of(hours), self._rows.column
        now = int(await self._gate.run(lambda one: one.execute(select(self._rows.now())).scalar_one(), write=False))
        first = now // _HOUR - many + 1
        ended = and_(
            self._rows.is_state(*_SHOWN), column("task_attempt") > 0, column("task_updated_at") >= first * _HOUR
        )
        mine = () if not worker else (column("task_worker") == worker,)
        succeeded = self._rows.column("task_state") == self._shape.words.succeeded
        at = (column("task_updated_at") // _HOUR).label("at")
        statement = select(at, succeeded, func.count()).where(ended, *mine).group_by(at, succeeded)
        counts: Counter[tuple[int, bool]] = Counter()
        for place, good, count in await self._gate.run(lambda one: one.execute(statement).all(), write=False):
            counts[int(place), bool(good)] += count
        return [_bucket(first + at, counts[first + at, True], counts[first + at, False]) for at in range(many)]

    async def queue_stats(self) -> Sequence[h.QueueStats]:
        """The one queue that the table is."""
        stats = await self._table.stats()
        states = {state.value: count for state, count in stats.states.items()}
        return [h.QueueStats(name=self.name, states=states, records={}, oldest_ready_at=stats.oldest_ready_at)]

    # --- what is not written here ----------------------------------------------------------------------------------

    async def upsert(self, records: Sequence[Job]) -> None:
        """Refused."""
        self._refuse()

    async def update_status(self, updates: Sequence[h.StatusUpdate]) -> Sequence[bool]:
        """Refused."""
        self._refuse()

    async def insert_attempt(self, attempts: Sequence[h.AttemptRecord]) -> None:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise Conflict(
            f"{self.name!r} is a task table: its rows are made by the table and moved by its services alone."
        )


_SHOWN: Final = (State.SUCCEEDED, State.FAILED, State.RETRYING)


def figures_of(worker: str, queue: str, counts: Counter[State]) -> h.WorkerStats:
    """Return counts of one queue as a worker's figures."""
    succeeded, failed = counts[State.SUCCEEDED], counts[State.FAILED]
    rate = succeeded / (succeeded + failed) if succeeded + failed else None
    return h.WorkerStats(
        worker=worker,
        total=counts.total(),
        pending=sum(counts[state] for state in WAITING),
        running=counts[State.RUNNING],
        succeeded=succeeded,
        failed=failed,
        canceled=counts[State.CANCELED],
        success_rate=rate,
        avg_duration=None,
        states={state.value: counts[state] for state in State},
        queues={queue: h.QueueFigures(total=counts.total(), succeeded=succeeded, failed=failed, success_rate=rate)},
    )


def _bucket(hour: int, succeeded: int, failed: int) -> h.SeriesBucket:
    return h.SeriesBucket(at=hour * h.HOUR, total=succeeded + failed, succeeded=succeeded, failed=failed)


def _attempt(row: Row, error: str, at: float) -> Attempt:
    end = _end(row)
    return Attempt(
        number=row.attempt,
        token=row.token,
        instance=row.instance,
        worker=row.worker,
        started_at=row.token / _SECOND,
        end=end,
        ended_at=None if end is None else at,
        error=error if end in FAILURES else "",
        reason=row.note.reason,
    )


def _end(row: Row) -> End | None:
    if row.state is State.RUNNING:
        return None
    if row.state is State.SUCCEEDED:
        return End.SUCCEEDED
    told = row.note.end
    return End(told) if told in End.__members__.values() else _ENDED.get(row.state or State.QUEUED, End.SNOOZED)


def _json(columns: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(columns, enc_hook=str)
    except (HoldfastError, ValueError, TypeError, OverflowError, RecursionError):
        return msgspec.json.encode({name: f"{value!r:.200}" for name, value in columns.items()})
