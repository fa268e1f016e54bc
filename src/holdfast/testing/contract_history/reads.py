"""Reading: pages, counts, attempts."""

from __future__ import annotations

import pytest

from holdfast.errors import ContentError, UnknownJob
from holdfast.history import (
    AttemptFilter,
    JobFilter,
    Page,
)
from holdfast.job.commands import Cancel, Delete
from holdfast.job.model import Job
from holdfast.job.state import End, State
from holdfast.testing.contract.harness import LONG
from holdfast.testing.contract_history.harness import HistoryHarness, HistorySuite, attempt, feature


class Reads(HistorySuite):
    """Reading: pages, counts, attempts."""

    @feature("H3")
    async def test_a_job_is_read_in_any_state_also_when_deleted(self, h: HistoryHarness) -> None:
        job = await h.store.in_state(State.SUCCEEDED)
        await h.store.done(Delete(), job.id)
        await h.sync()
        assert (await h.jobs.get(job.id)).deleted_at == h.now
        assert await h.ids() == []
        assert await h.ids(deleted=True) == [job.id]
        with pytest.raises(UnknownJob, match="nobody"):
            await h.jobs.get("nobody")

    @feature("H4", "H5")
    async def test_all_given_filters_must_match_and_the_newest_comes_first(self, h: HistoryHarness) -> None:
        for number, (queue, state, worker) in enumerate(
            [(q, s, w) for q in ("a", "b") for s in (State.FAILED, State.SUCCEEDED) for w in ("w1", "w2")]
        ):
            h.store.advance(1.0)
            await h.record(f"j{number}", queue=queue, state=state, last=attempt(1, End.FAILED, worker=worker))
        assert await h.ids() == [f"j{number}" for number in range(7, -1, -1)]
        assert await h.ids(queue="a") == ["j3", "j2", "j1", "j0"]
        assert await h.ids(queue="b", states=(State.FAILED,)) == ["j5", "j4"]
        assert await h.ids(queue="b", states=(State.FAILED,), worker="w2") == ["j5"]
        assert await h.ids(worker="nobody") == []
        for fields in ({}, {"queue": "a"}, {"worker": "w1"}, {"states": (State.FAILED,), "worker": "w2"}):
            assert await h.jobs.count(JobFilter(**fields)) == len(await h.ids(**fields))

    @feature("H5")
    async def test_counts_by_state_and_queue_hold_jobs_of_the_engine_and_records(self, h: HistoryHarness) -> None:
        await h.store.in_state(State.SUCCEEDED, queue="a")
        await h.record(state=State.SUCCEEDED, queue="a")
        await h.store.in_state(State.SCHEDULED, queue="b")
        await h.sync()
        for which, count in [
            (JobFilter(), 3),
            (JobFilter(queue="a"), 2),
            (JobFilter(queue="none"), 0),
            (JobFilter(states=(State.SCHEDULED, State.FAILED)), 1),
            (JobFilter(states=(State.SUCCEEDED,), queue="b"), 0),
        ]:
            assert await h.jobs.count(which) == count

    @feature("H4", "H7", "H10")
    @pytest.mark.parametrize("asked", [-1, 0, 1, 200, 201, 1_000, 1_001])
    async def test_a_limit_out_of_range_becomes_the_usual_one(self, h: HistoryHarness, asked: int) -> None:
        records = [Job(seq=0, id=f"j{number}", task="t", state=State.FAILED) for number in range(1_001)]
        await h.jobs.upsert(records)
        await h.sync()
        await h.record("x", last=attempt(201), past=tuple(attempt(number) for number in range(1, 201)))
        usual = asked if 0 < asked <= 200 else 50
        assert len((await h.jobs.list(JobFilter(), Page(limit=asked))).items) == usual
        assert len(await h.jobs.list_attempts("x", asked)) == usual
        assert len(await h.jobs.list_failed(limit=asked)) == (asked if 0 < asked <= 1_000 else 100)

    @feature("H4", "HW18")
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_pages_show_each_job_once_while_others_come_and_go(
        self, h: HistoryHarness, newest_first: bool
    ) -> None:
        await h.store.add_many(30)
        await h.sync()
        wanted = await h.ids()
        seen: list[str] = []
        cursor = ""
        while True:
            page = await h.jobs.list(JobFilter(), Page(limit=7, cursor=cursor, newest_first=newest_first))
            seen += [job.id for job in page.items]
            await h.store.add_many(3, delay=LONG)
            await h.store.done(Cancel(), page.items[0].id)
            await h.store.done(Delete(hard=True), page.items[0].id)
            await h.sync()
            cursor = page.cursor
            if not cursor or len(seen) > 60:
                break
        old = [job_id for job_id in seen if job_id in wanted]
        assert len(seen) == len(set(seen))
        assert old == (wanted if newest_first else wanted[::-1])

    @feature("HW18")
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_a_search_by_text_looks_at_the_last_day_so_many_jobs_a_page(
        self, h: HistoryHarness, newest_first: bool
    ) -> None:
        await h.record("old", payload=b'{"n":"needle"}', state=State.FAILED)
        h.store.advance(90_000.0)
        for number in range(12):  # every other one has ended, so that both sides of a history have some
            state = State.FAILED if number % 2 else State.QUEUED
            await h.record(f"j{number}", payload=b'{"n":"needle"}' if number % 5 == 1 else b"{}", state=state)
        await h.sync()
        seen, sizes, page = list[str](), list[int](), Page(limit=5, scan=2, newest_first=newest_first)
        while True:
            found = await h.jobs.list(JobFilter(text="needle"), page)
            seen += [job.id for job in found.items]
            sizes.append(len(found.items))
            page = Page(limit=5, scan=2, newest_first=newest_first, cursor=found.cursor)
            if not found.cursor:
                break
        assert seen == (["j11", "j6", "j1"] if newest_first else ["j1", "j6", "j11"])
        assert len(sizes) >= 3
        assert await h.jobs.count(JobFilter(text="needle")) == 3
        since = h.now - 100_000.0
        assert await h.ids(text="needle", created_after=since) == ["j11", "j6", "j1", "old"]

    async def test_a_last_page_that_is_full_has_no_cursor(self, h: HistoryHarness) -> None:
        await h.store.add_many(4)
        await h.sync()
        first = await h.jobs.list(JobFilter(), Page(limit=2))
        second = await h.jobs.list(JobFilter(), Page(limit=2, cursor=first.cursor))
        assert (len(second.items), second.cursor) == (2, "")

    @pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 40, "1:2", "a:b:c", "'; drop"])
    async def test_a_cursor_that_no_page_gave_is_refused(self, h: HistoryHarness, cursor: str) -> None:
        with pytest.raises(ContentError, match="cursor"):
            await h.jobs.list(JobFilter(), Page(cursor=cursor))
        with pytest.raises(ContentError, match="cursor"):
            await h.jobs.find_attempts(AttemptFilter(), Page(cursor=cursor))

    @feature("H7")
    async def test_attempts_come_with_the_latest_start_first(self, h: HistoryHarness) -> None:
        await h.record()
        for number, started_at in ((1, 30.0), (2, 10.0), (3, 20.0)):
            await h.report(number, started_at=started_at)
        assert [one.number for one in await h.jobs.list_attempts("x")] == [1, 3, 2]
        assert [one.number for one in await h.jobs.list_attempts("x", 2)] == [1, 3]
        assert list(await h.jobs.list_attempts("nobody")) == []

    @feature("H10")
    async def test_failed_jobs_come_newest_first_for_one_worker_or_all(self, h: HistoryHarness) -> None:
        for name, state, worker in (
            ("a", State.FAILED, "w1"), ("b", State.RETRYING, "w1"), ("c", State.FAILED, "w2"), ("d", State.FAILED, "w1"),
        ):  # fmt: skip
            h.store.advance(1.0)
            await h.record(name, state=state, last=attempt(1, End.FAILED, worker=worker))
        assert [job.id for job in await h.jobs.list_failed()] == ["d", "c", "a"]
        assert [job.id for job in await h.jobs.list_failed("w1")] == ["d", "a"]
        assert [job.id for job in await h.jobs.list_failed("w1", 1)] == ["d"]

    async def test_attempts_of_all_jobs_are_searched_and_paged(self, h: HistoryHarness) -> None:
        start = h.now
        for number in range(6):
            await h.record(f"j{number}", queue="ab"[number % 2])
            end = End.FAILED if number < 4 else None
            await h.report(
                1, end, f"j{number}", started_at=start - number, error=f"error {number}", worker=f"w{number}"
            )
        everything = await h.jobs.find_attempts(AttemptFilter(), Page(limit=4))
        assert [found.id for found in everything.items] == ["j0:1", "j1:1", "j2:1", "j3:1"]
        rest = await h.jobs.find_attempts(AttemptFilter(), Page(limit=4, cursor=everything.cursor))
        assert ([found.job for found in rest.items], rest.cursor) == (["j4", "j5"], "")
        for which, wanted in [
            (AttemptFilter(queue="a", ends=(End.FAILED,)), ["j0", "j2"]),
            (AttemptFilter(running=True), ["j4", "j5"]),
            (AttemptFilter(worker="w3"), ["j3"]),
            (AttemptFilter(text="error 2"), ["j2"]),
            (AttemptFilter(task="other"), []),
            (AttemptFilter(instance="i"), []),
            (AttemptFilter(after=start - 3, before=start), ["j1", "j2", "j3"]),
        ]:
            assert [found.job for found in (await h.jobs.find_attempts(which, Page())).items] == wanted
        h.store.advance(86_400.0)
        assert (await h.jobs.find_attempts(AttemptFilter(), Page())).items[:1] == everything.items[:1]
        h.store.advance(0.5)
        assert (await h.jobs.find_attempts(AttemptFilter(), Page())).items == ()

    async def test_a_page_of_attempts_looks_at_so_many_jobs_and_its_cursor_goes_on(self, h: HistoryHarness) -> None:
        start = h.now
        for number in range(11):
            await h.record(f"j{number}", queue="ab"[number % 2])
            error = "needle" if number % 4 == 1 else "hay"
            await h.report(1, End.FAILED, f"j{number}", started_at=start + number, error=error)
        for which, wanted in (
            (AttemptFilter(text="needle"), ["j9", "j5", "j1"]),
            (AttemptFilter(queue="b"), ["j9", "j7", "j5", "j3", "j1"]),
            (AttemptFilter(), [f"j{number}" for number in range(10, -1, -1)]),
        ):
            for limit in (1, 2, 50):
                seen, page = list[str](), Page(limit=limit, scan=3)
                while True:
                    found = await h.jobs.find_attempts(which, page)
                    seen += [one.job for one in found.items]
                    if not found.cursor:
                        break
                    page = Page(limit=limit, scan=3, cursor=found.cursor)
                assert seen == wanted
