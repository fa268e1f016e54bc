"""Writes what the exporter brings: rows of jobs and attempts, then the roll-ups of the minutes and blocks that they touch.

All of it may be done again: rows are versions, and a roll-up is worked out anew from the rows that are there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from holdfast.histories.clickhouse import rows as r
from holdfast.job.external import EXTERNAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.feed import Change
    from holdfast.histories.clickhouse.client import Client
    from holdfast.histories.clickhouse.migrate import Tables

_COLUMNS: Final = (
    "at, queue, task, worker, ended, elsewhere, version, n, gave_up, timed, seconds, ran, waits_n, waited, runs, waits"
)
#: The bucket of a duration in microseconds, as `holdfast.stores.sql.stats.bucket` says.
_BUCKET: Final = "if({0} > 1, toInt16(floor(4 * log2({0}))), 0)"
# A group that has no attempts any more (a lost one became stale) must not stand as it was: what is there goes in as zeros.
_ZEROS: Final = (
    "UNION ALL SELECT at, queue, task, worker, ended, elsewhere, 0, 0, 0, 0., 0, 0, 0,"
    " CAST(([], []) AS Tuple(Array(Int16), Array(UInt64))), CAST(([], []) AS Tuple(Array(Int16), Array(UInt64)))"
    " FROM {TARGET} FINAL WHERE at IN (SELECT arrayJoin(JSONExtract({times:String}, 'Array(UInt32)'))) AND n > 0"
)
MERGED: Final = (
    f"INSERT INTO {{TARGET}} ({_COLUMNS}) SELECT at, queue, task, worker, ended, elsewhere, toUnixTimestamp64Nano(now64(9)),"
    " sum(n), sum(gave_up), sum(timed), sum(seconds), sum(ran), sum(waits_n), sum(waited), sumMap(runs.1, runs.2),"
    f" sumMap(waits.1, waits.2) FROM ({{SOURCE}} {_ZEROS}) GROUP BY at, queue, task, worker, ended, elsewhere"
    " SETTINGS max_partitions_per_insert_block = 0, do_not_merge_across_partitions_select_final = 1"
)
#: A minute, from the attempts that ended in it.
OF_ATTEMPTS: Final = (
    "SELECT toStartOfMinute(ended_at) AS at, queue, task, worker, ended, elsewhere, 1 AS n, gave_up,"
    " toUInt64(ended = 'succeeded' AND duration IS NOT NULL) AS timed,"
    " if(ended = 'succeeded', ifNull(duration, 0.), 0.) AS seconds, ran,"
    " toUInt64(waited IS NOT NULL) AS waits_n, ifNull(attempt.waited, 0) AS waited,"
    f" ([{_BUCKET.format('ran')}], [toUInt64(1)]) AS runs,"
    f" (if(waits_n = 1, [{_BUCKET.format('waited')}], []), if(waits_n = 1, [toUInt64(1)], [])) AS waits"
    " FROM {attempt} AS attempt FINAL"
    " WHERE gone = 0 AND hidden = 0 AND ended != '' AND toStartOfMinute(ended_at) IN"
    " (SELECT arrayJoin(JSONExtract({times:String}, 'Array(UInt32)')))"
    " AND ended_at >= toDateTime({first:UInt32}) AND ended_at < toDateTime({last:UInt32}) + 60"
)
#: A longer time, from the shorter ones in it. SPAN: its seconds.
OF_SHORTER: Final = (
    "SELECT toDateTime(intDiv(toUnixTimestamp(at), SPAN) * SPAN, 'UTC') AS at, queue, task, worker, ended, elsewhere, n,"
    " gave_up, timed, seconds, ran, waits_n, waited, runs, waits FROM {SHORTER} AS its FINAL"
    " WHERE n > 0 AND intDiv(toUnixTimestamp(its.at), SPAN) * SPAN IN"
    " (SELECT arrayJoin(JSONExtract({times:String}, 'Array(UInt32)')))"
    " AND its.at >= toDateTime({first:UInt32}) AND its.at < toDateTime({last:UInt32}) + SPAN"
)
#: Roll-ups: which, seconds, made from which.
ROLL_UPS: Final = (("minute", 60, "attempt"), ("hour", 3_600, "minute"), ("day", 86_400, "hour"))
#: How many seqs a block has.
BLOCK: Final = 131_072
#: The blocks of these jobs, anew: what they hold, and as zeros what they held before.
_BLOCKS: Final = (
    "INSERT INTO {block} (block, queue, worker, state, elsewhere, version, n, last) SELECT number, queue, worker, state,"
    " elsewhere, toUnixTimestamp64Nano(now64(9)), sum(n), max(last) FROM"
    f" (SELECT intDiv(-place, {BLOCK}) AS number, queue, if(tried = 1, worker, '') AS worker, state, elsewhere, 1 AS n,"
    " finished_at AS last FROM {job} AS job FINAL WHERE gone = 0 AND deleted = 0 AND (@PLACES@)"
    " UNION ALL SELECT block, queue, worker, state, elsewhere, 0, last FROM {block} AS known FINAL"
    " WHERE block IN (@BLOCKS@) AND n > 0) GROUP BY number, queue, worker, state, elsewhere"
    " SETTINGS do_not_merge_across_partitions_select_final = 1"
)
#: So many places, minutes or attempts stand in one statement: servers bound what a parameter and a text may be.
_AT_ONCE: Final = 250
#: So many blocks are worked out in one statement.
_BLOCKS_MOST: Final = 16
_GIVEN_UP: Final = "SELECT began, place, nr FROM {attempt} FINAL WHERE (began, place, nr) IN (@PLACES@) AND gave_up = 1"
#: All versions of attempts of some jobs, the newest last.
_TOLD: Final = (
    "SELECT began, place, nr, gone, toUnixTimestamp(toStartOfMinute(ended_at)), body FROM {attempt} WHERE place IN"
    " (SELECT arrayJoin(JSONExtract({places:String}, 'Array(Int64)'))) ORDER BY version"
)
_KNOWN: Final = (
    "SELECT body, payload FROM {job} FINAL WHERE gone = 0 AND place IN"
    " (SELECT arrayJoin(JSONExtract({places:String}, 'Array(Int64)')))"
)


class ClickhouseSink:
    """The Sink over ClickHouse."""

    def __init__(self, client: Client, tables: Tables) -> None:
        """`client` is open and the tables are there while this is used."""
        self._client, self._tables = client, tables

    async def write(self, changes: Sequence[Change]) -> None:
        """Take changes: jobs that have ended as versions, others as versions that cover what was here."""
        jobs, attempts = await self._taken_back(changes)
        corrected, minutes = await self._corrected(changes)
        attempts += corrected
        given_up = await self._given_up(changes)
        for change in changes:
            if change.job is not None:
                attempts += r.attempt_rows(change, given_up)
                if change.job.final:
                    jobs.append(r.job_row(change.job, change.version))
                elif change.job.generation or change.job.origin != "engine":  # it may have ended before
                    jobs.append(r.job_row(change.job, change.version, gone=True))
        # Attempts first: a job that is shown has its evidence. Jobs last of what is looked up again: should a step fail, all
        # of it is done anew, and a job that is covered already would not tell any more what has to be counted anew.
        await self._insert("attempt", r.ATTEMPT_COLUMNS, attempts)
        await self.roll_up(sorted(minutes.union(r.minutes_of(attempts))))
        await self._insert("job", r.JOB_COLUMNS, jobs)
        await self.count_blocks([-row[0] for row in jobs] + [change.seq for change in changes if change.job is None])

    async def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        await self._client.insert(self._tables.named(f"{{{table}}}"), columns, rows)

    async def _taken_back(self, changes: Sequence[Change]) -> tuple[list[list[Any]], list[list[Any]]]:
        """Rows that cover jobs which a person purged, with all their attempts."""
        gone = {-change.seq: change.version for change in changes if change.job is None}
        jobs: list[list[Any]] = []
        attempts: list[list[Any]] = []
        for some in _portions(sorted(gone)):
            found = await self._client.query(self._tables.named(_KNOWN), places=some)
            for job in (r.job_from(*row) for row in found):
                version = gone[-job.seq]
                jobs.append(r.job_row(job, version, gone=True))
                attempts += [r.attempt_row(job, one, version, gone=True) for one in job.attempts]
        return jobs, attempts

    async def _corrected(self, changes: Sequence[Change]) -> tuple[list[list[Any]], set[int]]:
        """Rows that cover attempts of records whose start was told otherwise before, as an attempt is (job, number); and the
        minutes of all that was told of these records before, whose figures may change."""
        reported = {change.seq: change for change in changes if change.job and change.job.origin == EXTERNAL}
        minutes: set[int] = set()
        shown: dict[r.Place, tuple[Change, str]] = {}
        for some in _portions(sorted(-seq for seq in reported)):
            for began, place, number, gone, minute, body in await self._client.query(
                self._tables.named(_TOLD), places=some
            ):
                minutes.add(int(minute))  # of each version: one of them is counted now
                shown[float(began), int(place), int(number)] = reported[-int(place)], "" if gone else body
        rows: list[list[Any]] = []
        for change, body in shown.values():
            job, old = change.job, r.attempt_from(body) if body else None
            starts = {one.number: one.started_at for one in job.attempts} if job else {}
            if job and old and starts.get(old.number, old.started_at) != old.started_at:
                rows.append(r.attempt_row(job, old, change.version, gone=True))
        return rows, minutes

    async def _given_up(self, changes: Sequence[Change]) -> set[r.Place]:
        """By which attempts jobs had failed that a person has retried since: that stays a failure in the figures."""
        retried = [change.job for change in changes if change.job is not None and change.job.generation]
        places = [r.place_of(job, one) for job in retried for one in job.attempts if one.end is not None]
        found: set[r.Place] = set()
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            listed = ", ".join(f"({began!r}, {place}, {number})" for began, place, number in some)
            rows = await self._client.query(self._tables.named(_GIVEN_UP.replace("@PLACES@", listed)))
            found |= {(row[0], row[1], row[2]) for row in rows}
        return found

    async def count_blocks(self, seqs: Iterable[int]) -> None:
        """Count anew how many jobs the blocks of these seqs hold."""
        blocks = sorted({seq // BLOCK for seq in seqs})
        for start in range(0, len(blocks), _BLOCKS_MOST):
            some = blocks[start : start + _BLOCKS_MOST]
            places = " OR ".join(f"place > {-(one + 1) * BLOCK} AND place <= {-one * BLOCK}" for one in some)
            text = _BLOCKS.replace("@PLACES@", places).replace("@BLOCKS@", ", ".join(map(str, some)))
            await self._client.execute(self._tables.named(text))

    async def roll_up(self, minutes: Sequence[int]) -> None:
        """Work out the figures of these minutes (seconds since the epoch), and of the hours and days that hold them."""
        for target, span, source in ROLL_UPS if minutes else ():
            times = sorted({minute // span * span for minute in minutes})
            text = OF_ATTEMPTS if source == "attempt" else OF_SHORTER.replace("SPAN", str(span))
            sql = (
                MERGED.replace("{SOURCE}", text)
                .replace("{SHORTER}", f"{{{source}}}")
                .replace("{TARGET}", f"{{{target}}}")
            )
            for start in range(0, len(times), _AT_ONCE):
                some = times[start : start + _AT_ONCE]
                await self._client.execute(self._tables.named(sql), times=_listed(some), first=some[0], last=some[-1])


def _listed(numbers: Sequence[int]) -> str:
    return json.dumps(numbers, separators=(",", ":"))


def _portions(numbers: Sequence[int]) -> Iterable[str]:
    """Cut a list of numbers into parameters."""
    return (_listed(numbers[start : start + _AT_ONCE]) for start in range(0, len(numbers), _AT_ONCE))
