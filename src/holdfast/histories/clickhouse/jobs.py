"""The JobRepository over ClickHouse: what has ended from there, what has not from the store that it is the history of.

Records of jobs that ran elsewhere are written to the store, whose rules and transactions they need; the exporter brings
them here like all others. So this history is behind by what the exporter has not brought yet, about a second while
ClickHouse answers. One job by its id is asked of the store first, and so is never old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from holdfast import history as h
from holdfast.errors import UnknownJob
from holdfast.histories.attempts import LatestAttempts, bad_cursor, place_of
from holdfast.histories.clickhouse import queries as q
from holdfast.histories.clickhouse import rows as r
from holdfast.histories.figures import SPENT, SeriesTally, WorkerTally
from holdfast.histories.statistics import Groups, Points, Window
from holdfast.job.commands import COUNT_EXACT, JobCount
from holdfast.job.ledger.search import about, check_scan, is_search, looked_among, windowed
from holdfast.job.state import FINAL, End, State
from holdfast.statistics import DAYS_KEPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from holdfast.histories.attempts import Place
    from holdfast.histories.clickhouse.client import Client
    from holdfast.histories.clickhouse.migrate import Tables
    from holdfast.history import AttemptFilter, AttemptPage, JobFilter, JobPage, JobRepository, Page
    from holdfast.job.model import Attempt, Job

_ENDED: Final = tuple(state for state in State if state in FINAL)
_UNFINISHED: Final = tuple(state for state in State if state not in FINAL)
#: How many rows are looked at, at least, to fill a page.
_CANDIDATES: Final = 100
#: In how many rows one statement looks for a text.
_PORTION: Final = 5_000
#: How many days back statistics reach here: as long as anybody keeps it.
DAYS_MOST: Final = 3_660
Rows = list[list[Any]]
_SPENT: Final = str(sorted(end.value for end in SPENT))


class ClickhouseJobs:
    """The JobRepository over ClickHouse."""

    #: Up to how many ended jobs a count is exact, or looks for what no index knows.
    count_exact = COUNT_EXACT

    def __init__(self, client: Client, tables: Tables, store: JobRepository, now: Callable[[], float]) -> None:
        """store: the history that the store itself has. now: the store's clock. All are open while this is used."""
        self._client, self._tables, self._store, self._now = client, tables, store, now

    async def _query(self, text: str, params: q.Params | None = None) -> list[list[Any]]:
        return await self._client.query(self._tables.named(text), **(params or {}))

    # --- records

    async def upsert(self, records: Sequence[Job]) -> None:
        """Record jobs that ran elsewhere."""
        await self._store.upsert(records)

    async def update_status(self, updates: Sequence[h.StatusUpdate]) -> Sequence[bool]:
        """Set state and newest attempt of records."""
        return await self._store.update_status(updates)

    async def insert_attempt(self, attempts: Sequence[h.AttemptRecord]) -> None:
        """Add attempts of recorded jobs."""
        await self._store.insert_attempt(attempts)

    # --- jobs

    async def get(self, job_id: str) -> Job:
        """One job, also a deleted one."""
        try:
            return await self._store.get(job_id)
        except UnknownJob:
            found = await self._by_id(job_id)
            if found is None:
                raise
            return found

    async def _by_id(self, job_id: str) -> Job | None:
        rows = await self._query(q.BY_ID, {"id": job_id})
        return r.job_from(*rows[0]) if rows else None

    async def list(self, which: JobFilter, page: Page) -> JobPage:
        """A page of the jobs that match, of both sides."""
        limit, after, which = h.JOB_LIMIT.of(page.limit), _seq(page.cursor), windowed(which, self._now())
        if is_search(which):
            return await self._search(which, replace(page, limit=limit), after)
        waiting = _part(which, _UNFINISHED)
        # The store first: a job that ends in between is then seen here, or there, or twice, and never not at all once it
        # was exported.
        live = await self._store.list(waiting, replace(page, limit=limit)) if waiting else h.JobPage(items=())
        ended = await self._ended(which, after, limit + 1, newest_first=page.newest_first)
        found = {job.seq: job for job in (*live.items, *ended)}
        shown = [found[seq] for seq in sorted(found, reverse=page.newest_first)]
        more = len(shown) > limit or (bool(live.cursor) and len(shown) >= limit)
        return h.JobPage(items=tuple(shown[:limit]), cursor=str(shown[limit - 1].seq) if more else "")

    async def _ended(
        self, which: JobFilter, after: int | None, limit: int, *, newest_first: bool = True
    ) -> Sequence[Job]:
        part = _part(which, _ENDED)
        found: list[Job] = []
        while part is not None and len(found) < limit:
            asked = max(_CANDIDATES, 2 * (limit - len(found)))
            rows = await self._query(*q.places(part, part.states, after, asked, newest_first=newest_first))
            if rows:
                among = q.among(part, part.states, {place for (place,) in rows}, newest_first=newest_first)
                found += [r.job_from(*row) for row in await self._query(*among)]
                after = -int(rows[-1][0])
            if len(rows) < asked:
                break
        return found[:limit]

    async def _search(self, which: JobFilter, page: Page, after: int | None) -> JobPage:
        """Both sides look at as many jobs as a page may; the page goes as far as both of them have come."""
        check_scan(page)
        waiting, part = _part(which, _UNFINISHED), _part(which, _ENDED)
        live = await self._store.list(waiting, page) if waiting else h.JobPage(items=())
        ended, edge = await self._looked(part, page, after) if part else ([], None)
        edges = [seq for seq in (_seq(live.cursor), edge) if seq is not None]
        way = -1 if page.newest_first else 1
        edge = min(edges, key=lambda seq: way * seq, default=None)
        found = {job.seq: job for job in (*live.items, *ended)}
        seqs = sorted((seq for seq in found if edge is None or way * seq <= way * edge), reverse=page.newest_first)
        shown = [found[seq] for seq in seqs[: page.limit]]
        if len(seqs) > page.limit:
            edge = shown[-1].seq
        return h.JobPage(items=tuple(shown), cursor="" if edge is None else str(edge))

    async def _looked(self, part: JobFilter, page: Page, after: int | None) -> tuple[Sequence[Job], int | None]:
        """The first ended jobs that match, and the seq up to which a page has looked (None: to the end of the list)."""
        way = page.newest_first
        found: list[Job] = []
        among = replace(looked_among(part), created_after=part.created_after)
        text, params = q.places(among, part.states, after, page.scan, newest_first=way)
        places = [place for (place,) in await self._query(text, params)]
        for start in range(0, len(places), _PORTION):
            some = places[start : start + _PORTION]
            rows = q.among(part, part.states, set(some), newest_first=way, limit=page.limit + 1)
            found += [r.job_from(*row) for row in await self._query(*rows)]
            if len(found) > page.limit:
                return found, -some[-1]
        return found, -places[-1] if len(places) == page.scan else None

    async def count(self, which: JobFilter) -> JobCount:
        """How many jobs match, or about how many."""
        which = windowed(which, self._now())
        waiting, ended = _part(which, _UNFINISHED), _part(which, _ENDED)
        number = await self._store.count(waiting) if waiting else JobCount(0)
        return number if ended is None else number + await self._count(ended)

    async def _count(self, ended: JobFilter) -> JobCount:
        if is_search(ended):
            return await self._count_search(ended)
        [[number]] = await self._query(*q.count(ended, ended.states, self.count_exact))
        if int(number) <= self.count_exact or q.is_kept(ended):
            return JobCount(int(number))
        [[number]] = await self._query(*q.count_about(ended, ended.states))
        return JobCount(int(number), estimated=True)

    async def _count_search(self, ended: JobFilter) -> JobCount:
        """Look at the newest jobs, as many as a count is exact for."""
        edges = await self._query(*q.edge(looked_among(ended), ended, self.count_exact))
        edge = next(((int(place), float(created)) for place, created in edges), None)
        [[found]] = await self._query(*q.count_upto(ended, ended.states, None if edge is None else edge[0]))
        if edge is None:
            return JobCount(int(found))
        [[oldest]] = await self._query(q.OLDEST)
        return about(int(found), ended, self._now(), float(oldest), edge[1])

    async def list_failed(self, worker: str = "", limit: int = 0) -> Sequence[Job]:
        """Failed jobs, newest first."""
        return await self._ended(
            h.JobFilter(states=(State.FAILED,), worker=worker or None), None, h.FAILED_LIMIT.of(limit)
        )

    # --- attempts

    async def list_attempts(self, job_id: str, limit: int = 0) -> Sequence[Attempt]:
        """A job's attempts, the latest start first."""
        found = await self._store.list_attempts(job_id, limit)
        if found:
            return found
        job = await self._by_id(job_id)
        attempts = sorted(job.attempts if job else (), key=lambda one: (one.started_at, one.number), reverse=True)
        return attempts[: h.ATTEMPT_LIMIT.of(limit)]

    async def find_attempts(self, which: AttemptFilter, page: Page) -> AttemptPage:
        """A page of attempts of all jobs, the latest start first: those that run from the store, all others from here."""
        limit, below = h.ATTEMPT_LIMIT.of(page.limit), place_of(page.cursor)
        latest = LatestAttempts(which, limit, page.cursor, self._now())
        if not which.ends:
            running = LatestAttempts(replace(which, running=True), limit, page.cursor, self._now())
            async for jobs in self._pages(h.JobFilter(states=(State.RUNNING,), queue=which.queue, task=which.task)):
                running.look(jobs)
            latest.take(running)
        rows, edge = await self._ended_attempts(which, latest.after, below, limit + 1)
        for place, job, task, queue, body in rows:
            latest.add(-int(place), r.record_from(job, task, queue, body))
        return latest.page(edge)

    async def _ended_attempts(
        self, which: AttemptFilter, after: float, below: Place | None, limit: int
    ) -> tuple[Rows, float | None]:
        """The first rows that match; and when the last attempt began at which a page may look, if it has looked so far."""
        edge = None
        if which != h.AttemptFilter(after=which.after, before=which.before):  # else each row is shown
            [[edge]] = await self._query(*q.attempt_edge(which, after, below)) or [[None]]
        found: Rows = []
        asked = max(_CANDIDATES, 2 * limit)
        while True:
            rows = await self._query(*q.attempt_places(which, after, below, edge, asked))
            if rows:
                places = dict.fromkeys((float(began), int(place), int(nr)) for began, place, nr in rows)
                found += await self._query(*q.attempts_among(which, places))
                began, place, nr = next(reversed(places))
                below = (-began, -place, -nr)
            if len(found) >= limit:
                return found, None
            if len(rows) < asked:
                return found, None if edge is None else -edge

    async def _pages(self, which: JobFilter) -> AsyncIterator[Sequence[Job]]:
        page = h.Page(limit=h.JOB_LIMIT.most)
        while True:
            found = await self._store.list(which, page)
            yield found.items
            if not found.cursor:
                return
            page = replace(page, cursor=found.cursor)

    # --- figures

    async def worker_stats(self, worker: str = "") -> h.WorkerStats:
        """Totals of a worker."""
        tally = WorkerTally(worker)
        if worker:
            async for jobs in self._pages(h.JobFilter(states=_UNFINISHED, worker=worker)):
                for job in jobs:
                    tally.add_many(job.queue, job.state, 1, 0, 0)
        else:
            for queue in await self._store.queue_stats():
                tally.estimated |= bool(queue.estimated)
                for state in _UNFINISHED:
                    if count := queue.states[state] + queue.records[state]:
                        tally.add_many(queue.name, state, count, 0, 0)
        for name, code, _, count in await self._query(*q.of_worker(q.STATES, worker)):
            tally.add_many(name, State(code), int(count), 0, 0)
        for name, timed, seconds in await self._query(*q.of_worker(q.TIMED, worker)):
            tally.add_times(name, int(timed), round(float(seconds) * 1e6))
        return tally.stats()

    async def worker_time_series(self, worker: str = "", hours: int = 0) -> Sequence[h.SeriesBucket]:
        """Hours of attempts, zero-filled."""
        tally = SeriesTally(worker, h.SERIES_HOURS.of(hours), self._now())
        text, params = q.of_worker(q.SERIES.replace("@SPENT@", _SPENT), worker)
        for at, count, succeeded, failed, timed, seconds in await self._query(
            text, params | {"since": max(0, int(tally.since))}
        ):
            took = round(float(seconds) * 1e6)
            tally.add_hour(float(at), int(count), int(succeeded), int(failed), int(timed), took)
        return tally.buckets()

    async def statistics(self, which: h.StatisticsFilter, by: h.GroupBy = h.GroupBy.ALL) -> Sequence[h.Statistics]:
        """Attempts that ended: of the last hours from the store's own roll-up, which is never behind; of more from here."""
        if which.days <= DAYS_KEPT:
            return await self._store.statistics(which, by)
        window, groups = Window(which, self._now(), h.Span.DAY, days_most=DAYS_MOST), Groups(by)
        for name, end, *counted in await self._query(*q.statistics(which, by, window.since)):
            groups.add_many(name, End(end), *r.counted_from(*counted))
        return groups.statistics()

    async def series(self, which: h.StatisticsFilter, span: h.Span = h.Span.HOUR) -> Sequence[h.StatisticsPoint]:
        """Attempts that ended, minute by minute, hour by hour or day by day: from where `statistics` has them."""
        if which.days <= DAYS_KEPT:
            return await self._store.series(which, span)
        window = Window(which, self._now(), span, days_most=DAYS_MOST)
        points = Points(window)
        for at, end, *counted in await self._query(*q.series(which, span.value, window.since)):
            points.add_many(float(at), End(end), *r.counted_from(*counted))
        return points.series()

    async def queue_stats(self) -> Sequence[h.QueueStats]:
        """All queues, by name: what has ended is counted here."""
        ended: dict[tuple[str, bool], dict[str, int]] = {}
        for name, state, elsewhere, count in await self._query(*q.of_worker(q.STATES, "")):
            ended.setdefault((name, bool(elsewhere)), {})[state] = int(count)
        none = dict.fromkeys((state.value for state in _ENDED), 0)
        return [
            replace(
                queue,
                states=queue.states | none | ended.get((queue.name, False), {}),
                records=queue.records | none | ended.get((queue.name, True), {}),
            )
            for queue in await self._store.queue_stats()
        ]


def _part(which: JobFilter, states: tuple[State, ...]) -> JobFilter | None:
    """Return the filter for the jobs of these states; None when it asks for none of them."""
    asked = tuple(state for state in states if not which.states or state in which.states)
    return replace(which, states=asked) if asked else None


def _seq(cursor: str) -> int | None:
    if not cursor:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise bad_cursor(cursor)
    return int(cursor)
