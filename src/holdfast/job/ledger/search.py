"""A search by text: bounded in time and in what one page looks at. Pure.

What names no column of an index is looked for in one job after the other. So a search is for jobs that were enqueued within a
time window, the last day unless the caller says another, and a page looks at no more than `Page.scan` jobs that the rest of
the filter chooses. A page that has looked at so many ends there, perhaps with few rows or none, and its cursor goes on.

A list with the newest first is over where `scan` jobs in a row are older than the window: the numbers of jobs grow with their
times, but for jobs that came from another store. In other orders a search goes on to the end of the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.errors import ContentError
from holdfast.job.commands import SCAN_MAX, SEARCH_WINDOW, JobFilter, JobPage, Page
from holdfast.job.ledger.query import STEP, check_limit, cursor_of, end_of, matching, search_weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.job.model import Job


def is_search(which: JobFilter) -> bool:
    """Tell whether a filter looks for a text in more than one job."""
    return which.text is not None and which.id is None


def windowed(which: JobFilter, now: float) -> JobFilter:
    """Return a filter with the window of its search: a day up to now, or to `created_before`, unless it says since when.

    >>> windowed(JobFilter(text="x"), 1e6).created_after
    913600.0
    >>> windowed(JobFilter(text="x", created_after=5.0), 1e6).created_after
    5.0
    """
    if not is_search(which) or which.created_after is not None:
        return which
    upto = now if which.created_before is None else min(now, which.created_before)
    return replace(which, created_after=upto - SEARCH_WINDOW)


def looked_among(which: JobFilter) -> JobFilter:
    """Return the filter of the jobs that a search looks at: what the columns tell, of any age."""
    return replace(which, text=None, created_after=None)


def check_scan(page: Page) -> None:
    """Raise ContentError for a page that can not be."""
    check_limit(page)
    if not 1 <= page.scan <= SCAN_MAX:
        raise ContentError(f"a page of a search looks at 1 to {SCAN_MAX:,} jobs, found scan={page.scan}.")


def is_over(which: JobFilter, page: Page, newest: float) -> bool:
    """Tell whether a search ends behind jobs of which none is younger than `newest`: when they ended, or were enqueued."""
    return page.newest_first and which.created_after is not None and newest < which.created_after


class Search:
    """One page of a search: jobs are shown to it, in the order of the list, until it has enough."""

    def __init__(self, which: JobFilter, page: Page) -> None:
        """which: with its window. Raises ContentError for a page that can not be."""
        check_scan(page)
        self._which, self._page, self._among = which, page, looked_among(which)
        self._found: list[Job] = []
        self._looked, self._newest, self._last = 0, 0.0, ""

    def look(self, jobs: Iterator[Job | None]) -> bool:
        """Look at the next jobs, for a few milliseconds; True: that was all, or enough."""
        room = STEP
        for job in jobs:
            room -= 1
            if job is not None and matching(job, self._among):
                room -= search_weight(job)
                self._look_at(job)
                if len(self._found) > self._page.limit or self._looked == self._page.scan:
                    return True
            if room <= 0:
                return False
        self._last = ""
        return True

    def _look_at(self, job: Job) -> None:
        self._looked += 1
        self._newest = max(self._newest, end_of(job) / 1e6 if self._page.by_end else job.created_at)
        self._last = cursor_of(job, self._page)
        if matching(job, self._which):
            self._found.append(job)

    def page(self) -> JobPage:
        """What was found."""
        shown = tuple(self._found[: self._page.limit])
        if len(self._found) > len(shown):
            return JobPage(items=shown, cursor=cursor_of(shown[-1], self._page))
        over = is_over(self._which, self._page, self._newest)
        return JobPage(items=shown, cursor="" if over else self._last)
