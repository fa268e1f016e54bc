"""Pages of long histories: a search looks at a bounded part for each page, and together they show everything once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from holdfast.histories.clickhouse import queries, sink
from holdfast.history import AttemptFilter, AttemptRecord, JobFilter, Page, StatusUpdate
from holdfast.job.commands import Delete, Failed, Retry
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import ERROR
from tests.clickhouse.harness import ClickhouseHarness, embedded_history
from tests.contract.adapters import ADAPTERS
from tests.features import feature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def opened(store: str = "memory") -> AsyncIterator[ClickhouseHarness]:
    """A harness whose engine puts no versions together while it is open."""
    h = embedded_history(ADAPTERS[store]())
    await h.open()
    await h.history.client.execute("SYSTEM STOP MERGES")
    try:
        yield h
    finally:
        await h.history.client.execute("SYSTEM START MERGES")
        await h.close()


async def failing(h: ClickhouseHarness, count: int, *, other: int) -> None:
    """Failed attempts: each of its own time, but every `other`th began with the one before; these say something else."""
    for number in range(count):
        await h.store.make(1, max_attempts=1)
        if number % other:
            h.store.advance(1.0)
        text = "disk full" if number % other else "no route to host"
        await h.store.settle(await h.store.claim_one(), Failed(replace(ERROR, text=text)))
    await h.sync()


async def pages(h: ClickhouseHarness, which: AttemptFilter, limit: int) -> list[list[AttemptRecord]]:
    found, cursor = [], ""
    while True:
        page = await h.jobs.find_attempts(which, Page(limit=limit, cursor=cursor))
        found.append(list(page.items))
        cursor = page.cursor
        if not cursor:
            return found


@feature("H5")
@pytest.mark.parametrize("scanned", [1, 3, 1_000])
@pytest.mark.parametrize("text", ["no route", "disk", "nothing like it"])
async def test_a_search_looks_at_a_part_for_each_page_and_all_pages_show_all_once(
    scanned: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SCANNED", scanned)
    async with opened() as h:
        await failing(h, 12, other=4)
        [everything] = await pages(h, AttemptFilter(), 50)
        found = await pages(h, AttemptFilter(text=text), 2)
        asked = await h.rows("SELECT count() FROM {attempt}")
    assert asked == [[12]]
    wanted = [one for one in everything if text in one.attempt.error]
    assert [one for page in found for one in page] == wanted
    assert all(len(page) <= 2 for page in found)
    if scanned == 1:
        assert len(found) > 4  # a page looks at two, and at what began when the second of them did
    if scanned == 1_000:
        assert len(found) == max(1, len(wanted) // 2 + len(wanted) % 2)


async def test_what_runs_is_shown_on_the_page_of_its_time_when_pages_end_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queries, "SCANNED", 2)
    async with opened() as h:
        await h.store.make(1)
        running = await h.store.claim_one()
        h.store.advance(1.0)
        await failing(h, 6, other=100)
        found = await pages(h, AttemptFilter(queue=h.store.queue), 50)
    times = [one.attempt.started_at for page in found for one in page]
    assert len(times) == 7
    assert times == sorted(times, reverse=True)
    assert found[-1][-1].job == running.id


async def test_an_attempt_is_shown_as_it_is_now_while_older_versions_are_still_there() -> None:
    async with opened() as h:
        await failing(h, 4, other=4)
        [first, *others] = (await h.jobs.list(JobFilter(states=(State.FAILED,)), Page(limit=50))).items
        await h.store.done(Delete(), first.id)
        await h.sync()
        [[versions]] = await h.rows("SELECT count() FROM {attempt}")
        found = await pages(h, AttemptFilter(text="disk"), 1)
    assert versions == 5
    assert [one.job for page in found for one in page] == [job.id for job in others if "disk" in job.error]


async def test_a_cursor_beyond_all_that_the_store_knows_costs_it_nothing() -> None:
    """A store that was set up anew counts from 1 again, while its history goes on from millions."""
    async with opened() as h:
        await failing(h, 3, other=100)
        cursor = "9" * 18
        page = await h.jobs.list(JobFilter(), Page(limit=50, cursor=cursor))
        found = await h.store.store.find(JobFilter(), Page(limit=50, cursor=cursor))
    assert len(page.items) == len(found.items) == 3


async def test_an_attempt_whose_start_is_corrected_by_a_later_report_is_there_once() -> None:
    """An attempt is (job, number), also when a status said before the report that it had ended."""
    async with opened() as h:
        await h.jobs.upsert([Job(seq=0, id="x", task="t", state=State.RUNNING, created_at=h.now)])
        await h.jobs.update_status([StatusUpdate(id="x", state=State.FAILED, attempt=1, worker="w")])
        await h.sync()
        h.store.advance(90.0)
        report = Attempt(1, 0, "i", "w", started_at=h.now - 60.0, ended_at=h.now, end=End.FAILED, error="disk")
        await h.jobs.insert_attempt([AttemptRecord("x", report)])
        await h.sync()
        [found] = await pages(h, AttemptFilter(), 50)
        [[hours]] = await h.rows("SELECT sum(n) FROM {hour} FINAL")
        [[days]] = await h.rows("SELECT sum(n) FROM {day} FINAL")
    assert [(one.job, one.attempt.number, one.attempt.error) for one in found] == [("x", 1, "disk")]
    assert (int(hours), int(days)) == (1, 1)


async def test_more_purges_than_one_statement_names_are_all_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "_AT_ONCE", 3)
    async with opened() as h:
        await failing(h, 10, other=2)
        jobs = (await h.jobs.list(JobFilter(states=(State.FAILED,)), Page(limit=50))).items
        for job in jobs[:8]:
            await h.store.done(Delete(hard=True), job.id)
        for job in jobs[8:]:
            await h.store.done(Retry(), job.id)
        await h.sync()
        [found] = await pages(h, AttemptFilter(), 50)
        [[counted]] = await h.rows("SELECT sum(n) FROM {hour} FINAL")
        left = await h.jobs.count(JobFilter(states=(State.FAILED,)))
    assert {one.job for one in found} == {job.id for job in jobs[8:]}
    assert (int(counted), left) == (2, 0)


async def test_a_search_of_long_ago_looks_at_nothing_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "SCANNED", 4)
    async with opened() as h:
        await failing(h, 12, other=100)
        [everything] = await pages(h, AttemptFilter(), 50)
        third = everything[-3].attempt.started_at
        found = await pages(h, AttemptFilter(text="disk", before=third), 50)
    assert [[one.job for one in page] for page in found] == [[one.job for one in everything[-2:-1]]]


async def test_a_count_is_exact_to_a_bound_and_of_more_marked() -> None:
    async with opened() as h:
        await failing(h, 60, other=3)
        for which, true in ((JobFilter(task="t"), 60), (JobFilter(text="no route"), 20), (JobFilter(), 60)):
            found = await h.jobs.count(which)
            assert (found, found.estimated) == (true, False)
        h.jobs.count_exact = 10  # type: ignore[attr-defined]
        for which, true in ((JobFilter(task="t"), 60), (JobFilter(text="no route"), 20)):
            found = await h.jobs.count(which)
            assert found.estimated
            assert 0.5 * true <= found <= 2 * true
        kept = await h.jobs.count(JobFilter(queue="default"))
        assert (kept, kept.estimated) == (60, False)
        none = await h.jobs.count(JobFilter(task="other"))
        assert (none, none.estimated) == (0, False)
