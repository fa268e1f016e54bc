"""Where a search ends in a store that took in jobs of another one, or reports of jobs that ran elsewhere."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.job.commands import JobFilter, Page, RecordJobs
from holdfast.job.external import EXTERNAL
from holdfast.job.model import Attempt, Job
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import StoreHarness

DAY = 86_400.0
NEEDLE = b'{"n":"needle"}'


@pytest.fixture
async def h(store_factory: Callable[[], StoreHarness]) -> AsyncIterator[StoreHarness]:
    """A fresh store of each kind, whose time has long begun."""
    harness = store_factory()
    await harness.open()
    harness.advance(10 * DAY)
    yield harness
    await harness.close()


async def found(h: StoreHarness, **order: Any) -> list[str]:
    """Turn the pages of a search, each of which looks at 3 jobs."""
    ids, page = list[str](), Page(scan=3, **order)
    while True:
        some = await h.store.find(JobFilter(text="needle"), page)
        ids += [job.id for job in some.items]
        if not some.cursor:
            return ids
        page = replace(page, cursor=some.cursor)


async def take_in(h: StoreHarness, like: Job, ages: list[float]) -> None:
    """Import jobs that were enqueued so many seconds ago in another store."""
    store: Any = h.store
    now = h.clock.now()
    given = [replace(like, id=f"{age:g} s old", created_at=now - age) for age in ages]
    assert all(ruling.done for ruling in await store.import_jobs(given, 0))


async def test_a_search_finds_what_stands_behind_older_jobs_of_another_store(h: StoreHarness) -> None:
    young = await h.add(payload=NEEDLE)
    await take_in(h, young, [4 * DAY - number for number in range(9)])
    assert await found(h) == [young.id]
    again = await h.add(payload=NEEDLE)
    assert await found(h) == [again.id, young.id]
    await take_in(h, young, [2 * DAY, 10.0, 3 * DAY, 3 * DAY - 1.0, 3 * DAY - 2.0])
    assert await found(h) == ["10 s old", again.id, young.id]


async def test_a_search_by_end_finds_records_of_jobs_that_had_ended_long_before(h: StoreHarness) -> None:
    store: Any = h.store
    last = Attempt(1, 0, "", "w", h.clock.now() - 5 * DAY - 1, end=End.SUCCEEDED, ended_at=h.clock.now() - 5 * DAY)
    for number in range(9):
        ended = h.clock.now() - (2 + number) * DAY
        record = Job(
            seq=0,
            id=f"record-{number}",
            task="t",
            payload=NEEDLE,
            state=State.SUCCEEDED,
            origin=EXTERNAL,
            finished_at=ended,
            last=replace(last, ended_at=ended),
        )
        if hasattr(store, "record_jobs"):
            await store.record_jobs([record])
        else:
            await store.run(RecordJobs((record,)))
    assert await found(h, by_end=True) == [f"record-{number}" for number in range(9)]
