"""Searches by text: which jobs a page looks at, and where it ends."""

import pytest

from holdfast.errors import ContentError
from holdfast.job import commands as c
from holdfast.job.ledger.query import STEP
from holdfast.job.ledger.search import Search, SearchCount, about, is_search, looked_among, windowed
from holdfast.job.ledger.spellings import encoded_spellings, spellings
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


def test_jobs_outside_the_window_are_passed_over_and_do_not_count() -> None:
    jobs: list[Job | None] = [job(9, text="x", at=5.0), job(8, text="x", at=4.0), job(7, text="x", at=50.0)]
    for newest_first in (True, False):
        page = searched(c.Page(scan=2, newest_first=newest_first), jobs, after=10.0)
        assert ([one.id for one in page.items], page.cursor) == (["j7"], "")


def test_a_count_looks_at_so_many_and_takes_the_rest_of_the_window_to_be_like_them() -> None:
    def counted(exact: int, which: c.JobFilter) -> c.JobCount:
        search = SearchCount(which, exact)
        jobs = iter([job(number, text="x" * (number % 2), at=float(number)) for number in range(100, 0, -1)])
        while not search.look(jobs):
            pass
        return search.count(now=101.0, oldest=1.0)

    whole = counted(100, c.JobFilter(text="x", created_after=0.0))
    assert (whole, whole.estimated) == (50, False)
    part = counted(20, c.JobFilter(text="x", created_after=0.0))
    assert (part, part.estimated) == (50, True)
    window = counted(20, c.JobFilter(text="x", created_after=51.0))
    assert (window, window.estimated) == (25, True)
    edge = counted(50, c.JobFilter(text="x", created_after=51.0))
    assert (edge, edge.estimated) == (25, False)


def test_who_paused_is_looked_for_among_what_is_paused() -> None:
    assert looked_among(c.JobFilter(paused_by="ann", created_after=5.0)) == c.JobFilter(states=(State.PAUSED,))
    assert looked_among(c.JobFilter(paused_by="ann", states=(State.QUEUED,))) == c.JobFilter(states=(State.QUEUED,))
    assert windowed(c.JobFilter(paused_by="ann"), 5.0) == c.JobFilter(paused_by="ann")


def test_a_long_search_gives_way() -> None:
    search = Search(c.JobFilter(text="x", created_after=0.0), c.Page())
    jobs = iter([job(number) for number in range(STEP + 1)])
    assert not search.look(jobs)
    assert search.look(jobs)
    heavy = Search(c.JobFilter(text="y", created_after=0.0), c.Page())
    assert not heavy.look(iter([job(1, text="x" * 900_000) for _ in range(20)]))


def test_a_count_gives_way_after_some_jobs() -> None:
    search = SearchCount(c.JobFilter(text="x", created_after=0.0), exact=2 * STEP)
    jobs = iter([job(number, text="x", at=float(number)) for number in range(STEP + 1, 0, -1)])
    assert not search.look(jobs)
    assert search.look(jobs)
    assert search.count(now=1e6, oldest=1.0) == STEP + 1


def test_of_a_window_of_no_length_what_was_found_is_all_that_can_be_told() -> None:
    found = about(5, c.JobFilter(text="x", created_after=100.0), 200.0, 0.0, 100.0)
    assert (found, found.estimated) == (5, True)


@pytest.mark.parametrize(
    ("number", "estimated", "words"),
    [(1_234_567, False, "1,234,567"), (1_234_567, True, "about 1,230,000"), (12, True, "about 12")],
)
def test_an_estimate_is_shown_with_as_many_digits_as_may_be_true(number: int, estimated: bool, words: str) -> None:
    assert c.JobCount(number, estimated=estimated).words == words


def test_json_is_looked_for_in_both_its_spellings() -> None:
    assert spellings("mail.welcome") == ("mail.welcome",)
    assert spellings('"n":7') == ('"n":7', '"n": 7')
    assert encoded_spellings('{"a, b":[1, 2],') == (b'{"a, b":[1, 2],', b'{"a, b":[1,2],', b'{"a, b": [1, 2],')
