"""Ten million attempts over half a year: what people look at answers at once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.histories.clickhouse import sink
from holdfast.history import AttemptFilter, GroupBy, JobFilter, Page, Span, StatisticsFilter
from holdfast.job.state import End, State
from tests.clickhouse.harness import ClickhouseHarness, embedded_history
from tests.contract.adapters import MemoryHarness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ATTEMPTS = int(os.environ.get("HOLDFAST_SOAK_ATTEMPTS", "10000000"))
DAYS = 180
PART = 1_000_000
#: Roll-ups are made for so many seconds at once.
STRETCH = 10 * 86_400
LIMIT = 0.3  # seconds


def rolled_up(target: str, source: str) -> str:
    return sink.MERGED.replace("{SOURCE}", source).replace("{TARGET}", f"{{{target}}}")


#: The made-up job n: five queues, ten tasks, twenty workers, one in twenty fails.
_MADE = (
    " toFloat64({start:Float64} + n * {step:Float64}) AS t, fromUnixTimestamp64Micro(toInt64(t * 1000000), 'UTC') AS at,"
    " concat('q', toString(n % 5)) AS q, concat('task', toString(n % 10)) AS k, concat('w', toString(n % 20)) AS w,"
    " if(n % 20 = 7, 'failed', 'succeeded') AS s, 0.05 + (n % 997) / 500 AS took"
)
_JOBS = (
    "INSERT INTO {job} (place, id, version, gone, deleted, elsewhere, tried, state, queue, task, worker, instance,"
    " created, created_at, finished_at, payload, body) SELECT -toInt64(n),"
    " concat('job-', toString(n)), n, 0, 0, 0, 1, s, q, k, w,"
    " 'i', t, at, at + toIntervalSecond(3), concat('{\"user\":', toString(n), '}'), concat('{\"seq\":', toString(n),"
    ' \',"id":"job-\', toString(n), \'","task":"\', k, \'","queue":"\', q, \'","state":"\', s, \'"}\')'
    f" FROM (SELECT number + {{from:UInt64}} AS n, {_MADE} FROM numbers({{count:UInt64}}))"
)
_ATTEMPTS = (
    "INSERT INTO {attempt} (began, place, nr, version, gone, hidden, elsewhere, gave_up, job, queue, task, worker, instance,"
    " ended, started_at, ended_at, duration, waited, ran, error, body) SELECT -t, -toInt64(n),"
    " -1, n, 0, 0, 0, s = 'failed', concat('job-', toString(n)), q, k,"
    " w, 'i', s, at, at + toIntervalMicrosecond(toInt64(took * 1000000)), took, 1000 * (n % 50), toUInt64(took * 1000000),"
    " if(s = 'failed', concat('no route to host ', toString(n % 1000)), ''),"
    " concat('[1,1,\"i\",\"', w, '\",', toString(t), ']')"
    f" FROM (SELECT number + {{from:UInt64}} AS n, {_MADE} FROM numbers({{count:UInt64}}))"
)

_HOURS = rolled_up("hour", sink.OF_ATTEMPTS.replace("toStartOfMinute", "toStartOfHour").replace(") + 60", ") + 3600"))
_DAYS = rolled_up("day", sink.OF_SHORTER.replace("SPAN", "86400").replace("{SHORTER}", "{hour}"))


async def fill(h: ClickhouseHarness) -> None:
    start = h.now - DAYS * 86_400.0
    step = DAYS * 86_400.0 / ATTEMPTS
    for first in range(1, ATTEMPTS + 1, PART):
        count = min(PART, ATTEMPTS + 1 - first)
        for text in (_JOBS, _ATTEMPTS):
            made = h.history.tables.named(text)
            await h.history.client.execute(made, start=start, step=step, **{"from": first, "count": count})
    await h.history.sink.count_blocks(range(1, ATTEMPTS + 1, sink.BLOCK // 2))
    await h.history.sink.count_blocks([ATTEMPTS])
    first, last = int(start) // 86_400 * 86_400, int(h.now) + 60
    for begin in range(first, last, STRETCH):
        # Straight from the attempts: the minutes between would be most of the time that this takes, and nobody reads them.
        hours = list(range(begin, min(begin + STRETCH, last), 3_600))
        await h.history.client.execute(
            h.history.tables.named(_HOURS), times=json.dumps(hours), first=hours[0], last=hours[-1]
        )
    days = list(range(first, last, 86_400))
    await h.history.client.execute(h.history.tables.named(_DAYS), times=json.dumps(days), first=days[0], last=days[-1])


async def merged(h: ClickhouseHarness) -> None:
    """Return when the engine has put together what came in at once: months of data come in over months."""
    async with asyncio.timeout(300.0):
        while (await h.rows("SELECT count() FROM system.merges"))[0][0]:  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.5)


@pytest.mark.soak
async def test_ten_million_attempts_over_half_a_year_are_looked_at_within_300_ms() -> None:
    h = embedded_history(MemoryHarness())
    await h.open()
    begin = time.perf_counter()
    await fill(h)
    print(f"\n{ATTEMPTS:,} attempts and jobs made in {time.perf_counter() - begin:.0f} s")
    await merged(h)
    assert await h.jobs.count(JobFilter()) == ATTEMPTS
    [whole] = await h.jobs.statistics(StatisticsFilter(days=DAYS + 1))
    assert (whole.total, whole.gave_up) == (ATTEMPTS, sum(n % 20 == 7 for n in range(1, ATTEMPTS + 1)))
    everything = await h.jobs.list(JobFilter(), Page(limit=50))
    deep = str(ATTEMPTS // 2)
    looks: dict[str, Callable[[], Awaitable[Any]]] = {
        "list": lambda: h.jobs.list(JobFilter(), Page(limit=50)),
        "list, in the middle": lambda: h.jobs.list(JobFilter(), Page(limit=50, cursor=deep)),
        "list, failed of a worker": lambda: h.jobs.list(JobFilter(states=(State.FAILED,), worker="w7"), Page(limit=50)),
        "list, nothing matches": lambda: h.jobs.list(JobFilter(queue="none"), Page(limit=50)),
        "list, oldest first": lambda: h.jobs.list(JobFilter(queue="q3"), Page(limit=50, newest_first=False)),
        "count of a queue": lambda: h.jobs.count(JobFilter(queue="q1", states=(State.SUCCEEDED,))),
        "job by id": lambda: h.jobs.get(everything.items[0].id),
        "worker stats": lambda: h.jobs.worker_stats("w3"),
        "all stats": h.jobs.worker_stats,
        "queue stats": h.jobs.queue_stats,
        "series of a week": lambda: h.jobs.worker_time_series("", 168),
        "statistics of half a year": lambda: h.jobs.statistics(StatisticsFilter(days=DAYS), GroupBy.QUEUE),
        "statistics of a task": lambda: h.jobs.statistics(StatisticsFilter(days=DAYS, task="task3"), GroupBy.WORKER),
        "series of half a year": lambda: h.jobs.series(StatisticsFilter(days=DAYS), Span.DAY),
        "series of a month's hours": lambda: h.jobs.series(StatisticsFilter(days=31)),
        "failed": lambda: h.jobs.list_failed("", 100),
        "attempts of a day": lambda: h.jobs.find_attempts(
            AttemptFilter(worker="w7", ends=(End.FAILED,)), Page(limit=50)
        ),
        "jobs by text": lambda: h.jobs.list(JobFilter(text="nothing like it"), Page(limit=50)),
        "attempts over all, none match": lambda: h.jobs.find_attempts(
            AttemptFilter(worker="w8", ends=(End.FAILED,), after=0.0), Page(limit=50)
        ),
        "attempts by text, none match": lambda: h.jobs.find_attempts(
            AttemptFilter(text="nothing like it", after=0.0), Page(limit=50)
        ),
        "attempts by text over all": lambda: h.jobs.find_attempts(
            AttemptFilter(text="no route to host 7", after=0.0), Page(limit=50)
        ),
    }
    slow = {}
    for name, look in looks.items():
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            await look()
            times.append(time.perf_counter() - begin)
        middle = sorted(times)[1]
        print(f"{name:30} {middle * 1000:7.0f} ms")
        if middle > LIMIT:
            slow[name] = middle
    await h.close()
    assert slow == {}
