"""What the server looks at to claim, settle and keep house in a full database, with statistics of an empty one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from holdfast.job import commands as c
from holdfast.job.model import Instance
from holdfast.job.state import State
from holdfast.stores.sql import reads, upkeep
from tests.features import feature
from tests.sql.core.pages import PAGE, PAGES
from tests.sql.mysql.crowd import fill, rows_read
from tests.sql.mysql.harness import DatabaseHarness, ask
from tests.support.servers.mariadb import MariaDB

BATCH = 100
SMALL = {"done": 50_000, "future": 50_000, "ready": 10_000}
LARGE = {"done": 1_000_000, "future": 1_000_000, "ready": 100_000}
#: Rows that may be looked at for each job of a batch: in its indexes, in its tables, as seen by each statement.
PER_JOB = 12
#: And for the rest of a step: queues, definitions, counts.
BESIDE = 100


@pytest.fixture(params=[SMALL, pytest.param(LARGE, marks=pytest.mark.soak)], ids=["small", "large"])
async def h(request: pytest.FixtureRequest, server: MariaDB) -> AsyncIterator[DatabaseHarness]:
    """A store with a long history, a far future and many ready jobs, whose statistics were made when it was empty."""
    name = server.new_name()
    ask(server, None, f"CREATE DATABASE {name}")
    harness = DatabaseHarness(server, name)
    await harness.open()
    for table in ("job", "done"):
        ask(server, name, f"ALTER TABLE holdfast_{table} STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")
        ask(server, name, f"ANALYZE TABLE holdfast_{table}")
    await fill(harness, **request.param)
    yield harness
    await harness.close()
    ask(server, None, f"DROP DATABASE {name}")


@pytest.fixture(params=["stale", "fresh"])
def statistics(request: pytest.FixtureRequest, h: DatabaseHarness) -> str:
    """Whether the server has counted the tables since they were filled."""
    if request.param == "fresh":
        ask(h.server, h.database, "ANALYZE TABLE holdfast_job, holdfast_done")
    return str(request.param)


@feature("T26")
async def test_the_hot_path_looks_at_no_row_that_it_does_not_need(h: DatabaseHarness, statistics: str) -> None:
    hot = h.store._hot
    want = c.Want(queues=(c.QueueWant(h.queue, BATCH),), limit=BATCH, instance="i1", worker="w")
    looked, claims = await rows_read(h, partial(hot.claim, want=want))
    assert len(claims.items) == BATCH
    assert looked <= BATCH * PER_JOB + BESIDE

    looked, signals = await rows_read(h, partial(upkeep.beat, command=c.Beat(instance=Instance(id="i1", worker="w"))))
    assert len(signals.held) == BATCH
    assert looked <= BATCH * PER_JOB + BESIDE

    settlements = [c.Settlement(claim, c.Succeeded(b"1")) for claim in claims.items[: BATCH // 2]]
    looked, settled = await rows_read(h, partial(hot.settle, settlements=settlements))
    assert {one.accepted for one in settled} == {c.Accepted.APPLIED}
    assert looked <= BATCH * PER_JOB + BESIDE

    settlements = [c.Settlement(claim, c.Snoozed(5.0)) for claim in claims.items[BATCH // 2 :]]
    looked, settled = await rows_read(h, partial(hot.settle, settlements=settlements))
    assert {one.state for one in settled} == {State.SCHEDULED}
    assert looked <= BATCH * PER_JOB + BESIDE


@feature("T26")
async def test_upkeep_looks_at_what_is_due_or_lost_alone(h: DatabaseHarness, statistics: str) -> None:
    late = await h.add_many(BATCH, delay=5.0)
    await h.claim(BATCH, "gone")
    h.advance(60.0)
    looked, rescued = await rows_read(h, partial(upkeep.rescue, limit=BATCH))
    assert (rescued.lost, rescued.promoted) == (BATCH, BATCH)
    assert looked <= 3 * BATCH * PER_JOB + BESIDE
    assert await h.state(late[0].id) is State.QUEUED
    looked, due = await rows_read(h, upkeep.next_due)
    assert due is not None
    assert looked <= 2


@feature("T26")
async def test_statistics_do_not_look_at_the_history(h: DatabaseHarness) -> None:
    live = await h.store.count(c.JobFilter(states=(State.QUEUED, State.SCHEDULED)))
    looked, stats = await rows_read(h, reads.stats)
    assert stats.total(State.SUCCEEDED) > 0
    assert looked <= 2 * live + BESIDE  # each is read once, and its count looked up once


async def test_a_page_looks_at_few_more_rows_than_it_shows(h: DatabaseHarness, statistics: str) -> None:
    for page in (c.Page(limit=BATCH), c.Page(limit=BATCH, newest_first=False)):
        looked, found = await rows_read(h, partial(reads.find, which=c.JobFilter(), page=page))
        assert len(found.items) == BATCH
        assert looked <= BATCH * PER_JOB + BESIDE


@feature("H4")
async def test_a_page_by_any_filter_walks_past_no_job_that_it_does_not_show(
    h: DatabaseHarness, statistics: str
) -> None:
    await h.add(task="rare")
    for which, page in PAGES:
        looked, found = await rows_read(h, partial(reads.find, which=which, page=page))
        assert looked <= PAGE * PER_JOB + BESIDE, f"{which} {page}"
        if which.task == "rare" and not page.by_end:
            assert [job.task for job in found.items] == ["rare"]
