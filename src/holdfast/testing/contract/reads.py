"""Reads: pages that stay whole while the list moves, filters, counts, statistics, waiting for the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from holdfast.errors import ContentError, UnknownJob
from holdfast.job.commands import Cancel, Delete, Failed, JobFilter, Page, Pause, Succeeded
from holdfast.job.state import FINAL, State
from holdfast.testing.contract.base import StoreSuite, feature
from holdfast.testing.contract.harness import ERROR, LONG, StoreHarness

#: Seconds of real time; only keeps a broken wait from hanging.
BOUND = 5.0


class Pages(StoreSuite):
    """Keyset pages."""

    @feature("T26", "H4")
    @pytest.mark.parametrize("newest_first", [True, False])
    @pytest.mark.parametrize("limit", [1, 3, 7, 20, 21])
    async def test_pages_show_every_job_once_in_order(self, h: StoreHarness, newest_first: bool, limit: int) -> None:
        ids = [job.id for job in await h.add_many(20)]
        seen: list[str] = []
        cursor = ""
        while True:
            page = await h.store.find(JobFilter(), Page(limit=limit, cursor=cursor, newest_first=newest_first))
            assert len(page.items) <= limit
            seen += [job.id for job in page.items]
            cursor = page.cursor
            if not cursor:
                break
        assert seen == (ids[::-1] if newest_first else ids)

    async def test_an_empty_list_has_no_next_page(self, h: StoreHarness) -> None:
        page = await h.store.find(JobFilter(), Page())
        assert (page.items, page.cursor) == ((), "")

    @feature("T26")
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_while_the_list_moves_no_job_is_shown_twice_or_left_out(
        self, h: StoreHarness, newest_first: bool
    ) -> None:
        ids = [job.id for job in await h.add_many(30)]
        seen: list[str] = []
        cursor, gone = "", set()
        for n in range(100):
            page = await h.store.find(JobFilter(), Page(limit=4, cursor=cursor, newest_first=newest_first))
            seen += [job.id for job in page.items]
            cursor = page.cursor
            if not cursor:
                break
            if n < 10:
                await h.add_many(2)
            await h.claim_and_settle(Succeeded(b"1") if n % 2 else Failed(ERROR, retry_in=LONG))
            victim = seen[-1] if n % 2 else ids[(7 * n + 3) % 30]
            if (await h.order(Delete(hard=True), victim)).done:
                gone.add(victim)
        assert len(seen) == len(set(seen))
        assert set(ids) - gone <= set(seen)

    @feature("T26", "H4")
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_a_filtered_list_is_the_whole_list_without_the_others(
        self, h: StoreHarness, newest_first: bool
    ) -> None:
        await _mixed(h)
        which = [
            *(JobFilter(states=states) for states in (*((state,) for state in State), (State.QUEUED, State.SUCCEEDED))),
            *(JobFilter(queue=queue) for queue in (h.queue, "q2", "none")),
            *(JobFilter(task=task) for task in ("t1", "t2", "none")),
            *(JobFilter(worker=worker) for worker in ("w1", "w2", "none")),
            JobFilter(queue="q2", task="t1"),
            JobFilter(queue=h.queue, states=(State.FAILED, State.RUNNING)),
            JobFilter(worker="w1", states=(State.SUCCEEDED,), task="t2"),
            JobFilter(worker="w2", queue="q2"),
        ]
        whole = await _ids(h, JobFilter(), Page(limit=100, newest_first=newest_first))
        for one in which:
            wanted = set(await _ids(h, one, Page(limit=100)))
            assert await h.store.count(one) == len(wanted)
            seen: list[str] = []
            cursor = ""
            while True:
                page = await h.store.find(one, Page(limit=2, cursor=cursor, newest_first=newest_first))
                seen += [job.id for job in page.items]
                cursor = page.cursor
                if not cursor:
                    break
            assert seen == [job_id for job_id in whole if job_id in wanted], one

    @feature("T26", "H4")
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_ended_jobs_are_listed_by_when_they_ended(self, h: StoreHarness, newest_first: bool) -> None:
        made = await h.add_many(9)
        ended: list[str] = []
        claims = {claim.id: claim for claim in await h.claim(9)}
        for place in (4, 1, 7, 0, 8, 3, 2):
            job_id = made[place].id
            await h.settle(claims[job_id], Succeeded(b"1") if place % 3 else Failed(ERROR, retryable=False))
            ended.append(job_id)
            h.advance(1.0 if place % 2 else 0.0)
        order = {job.id: ((job.finished_at or 0.0), job.seq) for job in [await h.job(one) for one in ended]}
        wanted = sorted(ended, key=order.__getitem__, reverse=newest_first)
        done = [one for one in wanted if (await h.job(one)).state is State.SUCCEEDED]
        for which, of in (
            (JobFilter(), wanted),
            (JobFilter(states=(State.SUCCEEDED, State.QUEUED)), done),
            (JobFilter(queue="none"), []),
            (JobFilter(states=(State.QUEUED,)), []),
        ):
            seen: list[str] = []
            cursor = ""
            while True:
                page = await h.store.find(which, Page(limit=2, cursor=cursor, newest_first=newest_first, by_end=True))
                seen += [job.id for job in page.items]
                cursor = page.cursor
                if not cursor:
                    break
            assert seen == of, which
        with pytest.raises(ContentError):
            await h.store.find(JobFilter(), Page(cursor="x", by_end=True))

    @feature("T26")
    @pytest.mark.parametrize("state", list(State))
    async def test_lists_and_counts_by_state_agree(self, h: StoreHarness, state: State) -> None:
        job = await h.in_state(state)
        await h.add(queue="other", task="u", delay=LONG)
        which = JobFilter(states=(state,), queue=h.queue)
        assert [found.id for found in (await h.store.find(which, Page())).items] == [job.id]
        assert await h.store.count(which) == 1
        assert await h.store.count(JobFilter(states=tuple(set(State) - {state}), queue=h.queue)) == 0

    @feature("T26", "A14", "HW14")
    async def test_every_filter_is_obeyed_alone_and_together(self, h: StoreHarness) -> None:
        start = h.clock.now()
        red = await h.add(id="red", task="paint", queue="q1", key="k1", unique="u1", tags=("warm", "x"))
        h.advance(10.0)
        await h.add(id="blue", task="paint", queue="q2", key="k2", unique="u2", tags=("cold",), payload=b'"sky"')
        h.advance(10.0)
        await h.add(id="grey", task="dust", queue="q2", delay=LONG)
        await h.done(Pause(), "grey")
        claim = await h.claim_one("i9", queues=("q2",), worker="painter")
        await h.settle(claim, Failed(ERROR, retryable=False))

        async def ids(**fields: Any) -> list[str]:
            which = JobFilter(**fields)
            found = [job.id for job in (await h.store.find(which, Page(newest_first=False))).items]
            assert await h.store.count(which) == len(found)
            return found

        assert await ids() == ["red", "blue", "grey"]
        assert await ids(task="paint") == ["red", "blue"]
        assert await ids(id="blue") == await ids(id="blue", queue="q2") == ["blue"]
        assert await ids(id="blue", queue="q1") == await ids(id="blu") == []
        assert await ids(queue="q2") == ["blue", "grey"]
        assert await ids(key="k1") == await ids(unique="u1") == await ids(tag="warm") == await ids(tag="x") == ["red"]
        assert await ids(tag="war") == await ids(task="Paint") == []
        assert await ids(worker="painter") == await ids(instance="i9") == ["blue"]
        assert await ids(paused_by="ann") == ["grey"]
        assert await ids(created_after=start + 5.0) == ["blue", "grey"]
        assert await ids(created_before=start + 15.0) == ["red", "blue"]
        assert await ids(created_after=start + 5.0, created_before=start + 15.0) == ["blue"]
        assert await ids(states=(State.QUEUED, State.PAUSED)) == ["red", "grey"]
        assert await ids(task="paint", queue="q2", states=(State.FAILED,)) == ["blue"]
        assert await ids(task="dust", queue="q1") == []
        assert await ids(text="gre") == ["grey"]
        assert await ids(text=ERROR.text) == await ids(text="sky") == ["blue"]
        assert red.seq < (await h.job("blue")).seq


async def _ids(h: StoreHarness, which: JobFilter, page: Page) -> list[str]:
    return [job.id for job in (await h.store.find(which, page)).items]


async def _mixed(h: StoreHarness) -> None:
    """Jobs of two queues, tasks and workers in most states, none after the other."""
    for number in range(24):
        queue = h.queue if number % 2 else "q2"
        await h.add(queue=queue, task="t1" if number % 3 else "t2", delay=LONG if number % 8 == 7 else None)
    endings = (Succeeded(b"1"), Failed(ERROR, retryable=False), None, Failed(ERROR, retry_in=LONG))
    for number in range(12):
        claim = await h.claim_one(f"i{number % 2}", queues=(h.queue, "q2"), worker=f"w{number % 2 + 1}")
        ending = endings[number % 4]
        if ending is not None:
            await h.settle(claim, ending)
    waiting = (await h.store.find(JobFilter(states=(State.QUEUED,)), Page(limit=100))).items
    await h.done(Pause(), waiting[0].id)
    await h.done(Cancel(), waiting[1].id)


class Statistics(StoreSuite):
    """Counts that equal what the records say."""

    async def counted(self, h: StoreHarness) -> dict[str, dict[str, int]]:
        """Count the records, hidden ones left out."""
        counts: Counter[tuple[str, str]] = Counter()
        for job in await h.all_jobs(deleted=False):
            counts[job.queue, job.state.value] += 1
        names = [queue.name for queue in await h.store.queues()]
        return {name: {state.value: counts[name, state.value] for state in State} for name in names}

    @feature("G21", "B19", "T26", "B1")
    async def test_every_state_is_there_and_zero_filled(self, h: StoreHarness) -> None:
        assert (await h.store.stats()).queues == {}
        await h.add(queue="a")
        stats = await h.store.stats()
        assert stats.queues == {"a": {state.value: int(state is State.QUEUED) for state in State}}
        assert stats.total(State.QUEUED) == 1

    @feature("G21", "B19", "A3")
    async def test_100_jobs_of_which_two_fail_are_counted_so(self, h: StoreHarness) -> None:
        await h.add_many(100)
        for n, claim in enumerate(await h.claim(100)):
            await h.settle(claim, Failed(ERROR, retryable=False) if n in (17, 55) else Succeeded(b"1"))
        stats = await h.store.stats()
        assert {state: stats.total(state) for state in State} == {
            **dict.fromkeys(State, 0),
            State.SUCCEEDED: 98,
            State.FAILED: 2,
        }

    @feature("G21", "B19")
    async def test_statistics_equal_the_counts_of_the_records_after_every_kind_of_move(self, h: StoreHarness) -> None:
        for queue in ("a", "b"):
            for state in (*FINAL, State.SCHEDULED, State.RETRYING, State.PAUSED, State.RUNNING, State.QUEUED):
                await h.in_state(state, queue=queue)
                assert (await h.store.stats()).queues == await self.counted(h)
        for job in (await h.all_jobs())[::2]:
            await h.order(Delete(), job.id)
            assert (await h.store.stats()).queues == await self.counted(h)
        for job in (await h.all_jobs())[::3]:
            await h.order(Delete(hard=True), job.id)
            assert (await h.store.stats()).queues == await self.counted(h)

    @feature("B19")
    async def test_the_oldest_ready_job_of_each_queue_is_told(self, h: StoreHarness) -> None:
        start = h.clock.now()
        await h.add(queue="a")
        h.advance(5.0)
        await h.add(queue="b", priority=9)
        h.advance(5.0)
        await h.add(queue="a")
        await h.add(queue="c", delay=60.0)
        assert (await h.store.stats()).oldest_ready_at == {"a": start, "b": start + 5.0}
        await h.claim(1, queues=("a", "b"))
        assert (await h.store.stats()).oldest_ready_at == {"a": start + 10.0, "b": start + 5.0}

    @feature("B19")
    async def test_stale_reports_are_counted(self, h: StoreHarness) -> None:
        await h.add()
        stale = await h.claim_one()
        await h.lose()
        assert (await h.store.stats()).stale_refused == 0
        await h.settle(stale)
        await h.settle(stale, Failed(ERROR))
        assert (await h.store.stats()).stale_refused == 2


class Finishing(StoreSuite):
    """Waiting for jobs to end."""

    @feature("T28")
    async def test_jobs_that_have_ended_are_returned_at_once(self, h: StoreHarness) -> None:
        jobs = [await h.in_state(state) for state in sorted(FINAL)]
        found = await h.store.finished([job.id for job in jobs], BOUND)
        assert found == jobs

    @feature("T28")
    async def test_a_wait_ends_when_the_last_job_has_ended_however_it_ended(self, h: StoreHarness) -> None:
        first, second, third = await h.add_many(3)
        waiting = asyncio.create_task(h.store.finished([first.id, second.id, third.id], BOUND))
        await asyncio.sleep(0)
        await h.claim_and_settle(Succeeded(b"1"))
        await h.claim_and_settle(Failed(ERROR, retryable=False))
        await asyncio.sleep(0)
        assert not waiting.done()
        await h.done(Cancel(), third.id)
        ended = await asyncio.wait_for(waiting, BOUND)
        assert {job.id: job.state for job in ended} == {
            first.id: State.SUCCEEDED,
            second.id: State.FAILED,
            third.id: State.CANCELED,
        }

    @feature("T28")
    async def test_at_the_end_of_the_time_those_that_have_ended_are_returned(self, h: StoreHarness) -> None:
        done, open_ = await h.in_state(State.SUCCEEDED), await h.add()
        found = await asyncio.wait_for(h.store.finished([done.id, open_.id], 0.01), BOUND)
        assert [job.id for job in found] == [done.id]
        assert await h.store.finished([open_.id], 0.0) == []

    @feature("T28")
    async def test_an_unknown_job_is_refused(self, h: StoreHarness) -> None:
        with pytest.raises(UnknownJob):
            await h.store.finished(["nobody"], 0.0)

    @feature("T28")
    async def test_many_may_wait_for_one_job(self, h: StoreHarness) -> None:
        job = await h.add()
        waiting = [asyncio.create_task(h.store.finished([job.id], BOUND)) for _ in range(5)]
        await asyncio.sleep(0)
        await h.claim_and_settle()
        for found in await asyncio.wait_for(asyncio.gather(*waiting), BOUND):
            assert [ended.id for ended in found] == [job.id]
