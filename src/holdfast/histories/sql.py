"""History from the tables of a SQL store: what is asked for is read from there, with no second copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from holdfast import history as h
from holdfast.errors import Conflict, UnknownJob, UnknownWorker
from holdfast.histories.attempts import page_by_blocks
from holdfast.histories.figures import SeriesTally, WorkerTally
from holdfast.histories.statistics import Groups, Points, Window, wanted
from holdfast.job.model import InstanceState
from holdfast.job.state import FINAL, End, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from holdfast.history import AttemptFilter, AttemptPage, JobFilter, JobPage, Page
    from holdfast.job.commands import JobCount, Stats
    from holdfast.job.figures import Key, Packed
    from holdfast.job.model import Attempt, Instance, Job, Queue, WorkerConfig

_GONE = (InstanceState.LOST, InstanceState.STOPPED)
_UNFINISHED = tuple(state for state in State if state not in FINAL)


Counted = tuple[int, "Key", "Packed"]  # a minute or an hour, what was counted together, and what was counted


class SqlAccess(Protocol):
    """What a history needs of a SQL store."""

    def now(self) -> float: ...
    async def jobs(self, ids: Sequence[str]) -> list[Job | None]: ...
    async def find(self, which: JobFilter, page: Page) -> JobPage: ...
    async def count(self, which: JobFilter) -> JobCount: ...
    async def stats(self) -> Stats: ...
    async def queues(self) -> list[Queue]: ...
    async def instances(self) -> list[Instance]: ...
    async def workers(self) -> list[WorkerConfig]: ...
    async def configure_worker(self, config: WorkerConfig) -> WorkerConfig: ...
    async def delete_worker(self, name: str) -> None: ...
    async def worker_beat(self, name: str, at: float) -> bool: ...
    async def record_jobs(self, records: Sequence[Job]) -> None: ...
    async def record_statuses(self, updates: Sequence[h.StatusUpdate]) -> list[bool]: ...
    async def record_attempts(self, attempts: Sequence[h.AttemptRecord]) -> None: ...
    async def record_counts(self) -> dict[tuple[str, State], int]: ...
    async def job_figures(self, worker: str) -> list[tuple[str, State, JobCount, int, int]]: ...
    async def hour_figures(self, worker: str, first: int) -> list[tuple[int, End, int, int, int]]: ...
    async def counted(self, span: int, first: int, queue: str | None, task: str | None) -> list[Counted]: ...
    async def tried(
        self, since: float, before: int | None, *, queue: str | None = None, task: str | None = None
    ) -> tuple[list[Job], int, int]: ...


class SqlJobs:
    """The JobRepository over a SQL store."""

    def __init__(self, store: SqlAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    # --- records

    async def upsert(self, records: Sequence[Job]) -> None:
        """Record jobs that ran elsewhere."""
        await self._store.record_jobs(list(map(h.checked_record, records)))

    async def update_status(self, updates: Sequence[h.StatusUpdate]) -> Sequence[bool]:
        """Set state and newest attempt of records."""
        return await self._store.record_statuses(list(map(h.checked_update, updates)))

    async def insert_attempt(self, attempts: Sequence[h.AttemptRecord]) -> None:
        """Add attempts of recorded jobs."""
        await self._store.record_attempts(list(map(h.checked_attempt, attempts)))

    # --- jobs

    async def get(self, job_id: str) -> Job:
        """One job, also a deleted one."""
        [job] = await self._store.jobs([job_id])
        if job is None:
            raise UnknownJob(job_id)
        return job

    async def list(self, which: JobFilter, page: Page) -> JobPage:
        """A page of the jobs that match."""
        return await self._store.find(which, replace(page, limit=h.JOB_LIMIT.of(page.limit)))

    async def count(self, which: JobFilter) -> JobCount:
        """How many jobs match, or about how many."""
        return await self._store.count(which)

    async def list_failed(self, worker: str = "", limit: int = 0) -> Sequence[Job]:
        """Failed jobs, newest first."""
        which = h.JobFilter(states=(State.FAILED,), worker=worker or None)
        return (await self._store.find(which, h.Page(limit=h.FAILED_LIMIT.of(limit)))).items

    # --- attempts

    async def list_attempts(self, job_id: str, limit: int = 0) -> Sequence[Attempt]:
        """A job's attempts, the latest start first."""
        [job] = await self._store.jobs([job_id])
        attempts = sorted(job.attempts if job else (), key=lambda one: (one.started_at, one.number), reverse=True)
        return attempts[: h.ATTEMPT_LIMIT.of(limit)]

    async def find_attempts(self, which: AttemptFilter, page: Page) -> AttemptPage:
        """A page of attempts of all jobs, the latest start first, block by block."""
        now = self._store.now()
        since = now - h.SEARCH_WINDOW if which.after is None else which.after

        async def slices(top: int | None) -> AsyncIterator[tuple[Sequence[Job], int, int]]:
            reached: int | None = top
            while reached is None or reached > 0:
                jobs, reached, count = await self._store.tried(since, reached, queue=which.queue, task=which.task)
                yield jobs, reached, count

        return await page_by_blocks(slices, which, page, now)

    # --- figures

    async def worker_stats(self, worker: str = "") -> h.WorkerStats:
        """Totals of a worker, as they are counted when jobs end."""
        tally = WorkerTally(worker)
        for queue, state, count, timed, took in await self._store.job_figures(worker):
            tally.add_many(queue, state, count, timed, took)
        return tally.stats()

    async def worker_time_series(self, worker: str = "", hours: int = 0) -> Sequence[h.SeriesBucket]:
        """Hours of attempts, zero-filled, as they are counted when attempts end."""
        tally = SeriesTally(worker, h.SERIES_HOURS.of(hours), self._store.now())
        for hour, end, count, timed, took in await self._store.hour_figures(worker, tally.first):
            tally.add_many(hour, end, count, timed, took)
        return tally.buckets()

    async def statistics(self, which: h.StatisticsFilter, by: h.GroupBy = h.GroupBy.ALL) -> Sequence[h.Statistics]:
        """Attempts that ended, group by group, from the roll-up."""
        window, groups = Window(which, self._store.now()), Groups(by)
        for number, key, packed in await self._store.counted(int(window.unit), window.first, which.queue, which.task):
            if number <= window.last and wanted(which, key):
                groups.add(key, packed)
        return groups.statistics()

    async def series(self, which: h.StatisticsFilter, span: h.Span = h.Span.HOUR) -> Sequence[h.StatisticsPoint]:
        """Attempts that ended, minute by minute, hour by hour or day by day, from the roll-up."""
        window = Window(which, self._store.now(), span)
        points = Points(window)
        for number, key, packed in await self._store.counted(int(window.unit), window.first, which.queue, which.task):
            if wanted(which, key):
                points.add(number, key, packed)
        return points.series()

    async def queue_stats(self) -> Sequence[h.QueueStats]:
        """All queues, by name."""
        stats, records = await self._store.stats(), await self._store.record_counts()
        return [
            h.QueueStats(
                name=queue.name,
                states=stats.queues.get(queue.name, dict.fromkeys(map(str, State), 0)),
                records={state.value: records.get((queue.name, state), 0) for state in State},
                paused=queue.paused,
                oldest_ready_at=stats.oldest_ready_at.get(queue.name),
                estimated=stats.estimated.get(queue.name, ()),
            )
            for queue in await self._store.queues()
        ]


class SqlWorkers:
    """The WorkerRepository over a SQL store."""

    def __init__(self, store: SqlAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    async def upsert(self, config: WorkerConfig) -> WorkerConfig:
        """Add or overwrite a worker."""
        return await self._store.configure_worker(h.checked_worker(config))

    async def get(self, name: str) -> WorkerConfig:
        """One worker, with when it was last heard of."""
        found = next((config for config in await self.list() if config.name == name), None)
        if found is None:
            raise UnknownWorker(f"unknown worker {name!r}: list the workers to see those that exist.")
        return found

    async def list(self) -> Sequence[WorkerConfig]:
        """All workers, by name."""
        instances = await self._store.instances()
        return [_heard(config, instances) for config in await self._store.workers()]

    async def delete(self, name: str) -> None:
        """Forget a worker that nothing unfinished refers to."""
        await self.get(name)
        live = [one for one in await self._store.instances() if one.worker == name and one.state not in _GONE]
        if live:
            raise Conflict(f"worker {name!r} has {len(live)} live instances: expected none. Stop them first.")
        which = h.JobFilter(states=_UNFINISHED, worker=name)
        held = (await self._store.find(which, h.Page(limit=1))).items
        if held:
            raise Conflict(
                f"worker {name!r} had the newest attempt of job {held[0].id!r}, which has not ended: expected no unfinished "
                "job to refer to it. Finish or cancel its jobs first, or disable the worker."
            )
        await self._store.delete_worker(name)

    async def update_heartbeat(self, name: str, at: float) -> bool:
        """Set when the worker was heard of."""
        return await self._store.worker_beat(name, at)

    async def list_offline(self, silent_for: float) -> Sequence[WorkerConfig]:
        """Workers that were silent for too long, disabled ones too."""
        before = self._store.now() - silent_for
        return [
            config
            for config in await self.list()
            if config.last_heartbeat_at is None or config.last_heartbeat_at < before
        ]


def _heard(config: WorkerConfig, instances: Sequence[Instance]) -> WorkerConfig:
    """A worker as people should see it: its instances speak for it."""
    beats = [one.heartbeat_at for one in instances if one.worker == config.name]
    if config.last_heartbeat_at is not None:
        beats.append(config.last_heartbeat_at)
    return replace(config, last_heartbeat_at=max(beats)) if beats else config
