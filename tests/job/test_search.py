"""Searches by text: which jobs a page looks at, and where it ends."""

import pytest

from holdfast.errors import ContentError
from holdfast.job import commands as c
from holdfast.job.ledger.query import STEP
from holdfast.job.ledger.search import Search, is_search, looked_among, windowed
from holdfast.job.model import Job
from holdfast.job.state import State


def job(seq: int, *, text: str = "", at: float = 1_000_000.0, ended: float | None = None) -> Job:
    state = State.QUEUED if ended is None else State.FAILED
    payload = b'{"t":"%s"}' % text.encode()
    return Job(seq=seq, id=f"j{seq}", task="t", payload=payload, created_at=at, finished_at=ended, state=state)


def test_only_a_text_among_many_is_a_search() -> None:
    assert is_search(c.JobFilter(text="x"))
    assert not is_search(c.JobFilter(text="x", id="a"))
    assert not is_search(c.JobFilter(queue="x"))
    assert windowed(c.JobFilter(queue="x"), 5.0) == c.JobFilter(queue="x")


def test_the_window_is_the_day_before_what_is_asked_for() -> None:
    assert windowed(c.JobFilter(text="x", created_before=200_000.0), 1e6).created_after == 200_000.0 - 86_400.0
    assert windowed(c.JobFilter(text="x", created_before=2e6), 1e6).created_after == 1e6 - 86_400.0
    assert looked_among(c.JobFilter(text="x", created_after=1.0, queue="q")) == c.JobFilter(queue="q")


@pytest.mark.parametrize("scan", [0, c.SCAN_MAX + 1])
def test_a_page_that_looks_at_none_or_too_many_is_refused(scan: int) -> None:
    with pytest.raises(ContentError, match="scan"):
        Search(c.JobFilter(text="x"), c.Page(scan=scan))


def searched(page: c.Page, jobs: list[Job | None], after: float = 0.0) -> c.JobPage:
    search = Search(c.JobFilter(text="x", created_after=after), page)
    steps = iter(jobs)
    while not search.look(steps):
        pass
    return search.page()


def test_a_page_ends_when_it_is_full_when_it_has_looked_enough_or_at_the_end() -> None:
    jobs = [job(9, text="x"), None, job(7), job(6, text="x"), job(5, text="x"), job(4)]
    full = searched(c.Page(limit=2), jobs)
    assert ([one.id for one in full.items], full.cursor) == (["j9", "j6"], "6")
    bounded = searched(c.Page(scan=2), jobs)
    assert ([one.id for one in bounded.items], bounded.cursor) == (["j9"], "7")
    whole = searched(c.Page(), jobs)
    assert ([one.id for one in whole.items], whole.cursor) == (["j9", "j6", "j5"], "")
    ended = searched(c.Page(scan=2, by_end=True), [job(3, ended=9.0), job(2, ended=8.0)])
    assert ended.cursor == "8000000:2"


def test_a_search_is_over_behind_jobs_that_are_all_older_than_its_window() -> None:
    jobs: list[Job | None] = [job(9, text="x", at=5.0), job(8, text="x", at=4.0), job(7, text="x", at=50.0)]
    assert searched(c.Page(scan=2), jobs, after=10.0) == c.JobPage(items=())
    assert searched(c.Page(scan=2, newest_first=False), jobs, after=10.0).cursor == "8"
    assert [one.id for one in searched(c.Page(scan=3), jobs, after=10.0).items] == ["j7"]


def test_a_long_search_gives_way() -> None:
    search = Search(c.JobFilter(text="x", created_after=0.0), c.Page())
    jobs = iter([job(number) for number in range(STEP + 1)])
    assert not search.look(jobs)
    assert search.look(jobs)
    heavy = Search(c.JobFilter(text="y", created_after=0.0), c.Page())
    assert not heavy.look(iter([job(1, text="x" * 900_000) for _ in range(20)]))
