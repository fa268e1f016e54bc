"""Searches through many jobs: others are served meanwhile, in memory and on a journal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.job.commands import Define, JobFilter, Page
from holdfast.job.ledger.query import STEP
from holdfast.job.model import NewJob
from holdfast.stores.journal import open_journal
from holdfast.stores.ledger_store import LedgerStore
from holdfast.stores.memory import MemoryStore

STEPS = 5
RARE = JobFilter(key="rare")


@pytest.fixture(params=["memory", "journal"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    """A store of many jobs, the first and the last of which have a key."""
    made: LedgerStore = MemoryStore() if request.param == "memory" else open_journal(tmp_path, snapshot_interval=0)
    await made.open()
    await made.define([Define(alias="a")])
    count = STEPS * STEP
    for start in range(0, count, STEP):
        await made.enqueue([new(number, count) for number in range(start, start + STEP)])
    yield made
    await made.close()


def new(number: int, count: int) -> NewJob:
    key = "rare" if number in (0, count - 1) else None
    return NewJob(id=f"job-{number}", task="a", key=key, payload=b'"' + b"x" * 100 + b'"')


async def turns_during(work: asyncio.Task[object]) -> int:
    """How many turns the loop gives to others until `work` is done."""
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    await work
    return turns


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_search_that_finds_little_gives_way_again_and_again(store: LedgerStore, newest_first: bool) -> None:
    search = asyncio.create_task(store.find(RARE, Page(newest_first=newest_first)))
    assert await turns_during(search) >= STEPS
    ids = [job.id for job in search.result().items]
    assert sorted(ids) == ["job-0", f"job-{STEPS * STEP - 1}"]
    assert ids == sorted(ids, reverse=newest_first)


async def test_a_count_that_no_counter_knows_gives_way_again_and_again(store: LedgerStore) -> None:
    counting = asyncio.create_task(store.count(RARE))
    assert await turns_during(counting) >= STEPS
    assert counting.result() == 2


async def test_what_comes_during_a_search_neither_breaks_it_nor_is_waited_for(store: LedgerStore) -> None:
    search = asyncio.create_task(store.find(RARE, Page()))
    number = 0
    while not search.done():
        await store.enqueue([NewJob(id=f"later-{number}", task="a", key="rare")])
        number += 1
        await asyncio.sleep(0)
    assert number > 1
    found = {job.id for job in search.result().items}
    assert found >= {"job-0", f"job-{STEPS * STEP - 1}"}
    # What came before its first step may be there.
    assert len(found) <= 3


async def test_a_text_in_large_payloads_is_looked_for_in_smaller_steps() -> None:
    store = MemoryStore()
    await store.open()
    await store.define([Define(alias="a")])
    large = b'"' + b"x" * 500_000 + b'"'
    await store.enqueue([NewJob(id=f"job-{number}", task="a", payload=large) for number in range(16)])
    await store.enqueue([NewJob(id=f"more-{number}", task="a", payload=large) for number in range(16)])
    counting = asyncio.create_task(store.count(JobFilter(text="needle")))
    assert await turns_during(counting) >= 2
    assert counting.result() == 0
    await store.close()


async def test_pages_of_a_search_join_without_a_gap_or_a_repeat(store: LedgerStore) -> None:
    seen, cursor = [], ""
    while True:
        page = await store.find(JobFilter(text="job-1"), Page(limit=1_000, cursor=cursor, newest_first=False))
        seen += [job.id for job in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == [f"job-{number}" for number in range(STEPS * STEP) if str(number).startswith("1")]
