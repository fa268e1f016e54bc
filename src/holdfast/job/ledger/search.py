"""Searches: bounded in time and in what one page looks at. Pure.

What no index knows (a text, a tag, who paused a job) is looked for in one job after the other. So a page looks at no more
than `Page.scan` jobs that the rest of the filter chooses: it ends there, perhaps with few rows or none, and its cursor goes
on. A search by text or tag is for jobs that were enqueued within a time window, the last day unless the caller says another;
a ledger passes over all others, and they do not count. Who paused a job is looked for among those that are paused.

A count of what a search would find looks at no more than so many jobs (100,000) either. Where there are more, it takes those
that it has not seen to be like those that it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.errors import ContentError
from holdfast.job.commands import SCAN_MAX, SEARCH_WINDOW, JobCount, JobFilter, JobPage, Page
from holdfast.job.ledger.query import STEP, check_limit, cursor_of, matching, search_weight
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.job.model import Job


def is_search(which: JobFilter) -> bool:
    """Tell whether a filter looks into more than one job for what no index knows: a text, a tag, who paused it."""
    return which.id is None and (has_window(which) or which.paused_by is not None)


def has_window(which: JobFilter) -> bool:
    """Tell whether a search is for the jobs of some time. Who paused them is asked of all that are paused."""
    return which.text is not None or which.tag is not None


def windowed(which: JobFilter, now: float) -> JobFilter:
    """Return a filter with the window of its search: a day up to now, or to `created_before`, unless it says since when.

    >>> windowed(JobFilter(text="x"), 1e6).created_after
    913600.0
    >>> windowed(JobFilter(text="x", created_after=5.0), 1e6).created_after
    5.0
    """
    if which.id is not None or not has_window(which) or which.created_after is not None:
        return which
    return replace(which, created_after=window_end(which, now) - SEARCH_WINDOW)


def window_end(which: JobFilter, now: float) -> float:
    """Return up to when the jobs of a search were enqueued."""
    return now if which.created_before is None else min(now, which.created_before)


def looked_among(which: JobFilter) -> JobFilter:
    """Return the filter of the jobs that a search looks at: what the columns tell, of any age."""
    states = which.states
    if which.paused_by and (not states or State.PAUSED in states):
        states = (State.PAUSED,)  # of no other one it is known
    return replace(which, states=states, text=None, tag=None, paused_by=None, created_after=None)


def about(found: int, which: JobFilter, now: float, oldest: float, reached: float) -> JobCount:
    """Return about how many jobs a search has, of which so many were enqueued from `reached` on.

    which: with its window. oldest: when the first job that there is was enqueued.

    >>> about(5, JobFilter(text="x", created_after=100.0), 200.0, 0.0, 180.0)
    25
    """
    since = max(oldest, oldest if which.created_after is None else which.created_after)
    upto = window_end(which, now)
    if reached <= since or reached >= upto:
        return JobCount(found, estimated=True)
    return JobCount(round(found * (upto - since) / (upto - reached)), estimated=True)


def check_scan(page: Page) -> None:
    """Raise ContentError for a page that can not be."""
    check_limit(page)
    if not 1 <= page.scan <= SCAN_MAX:
        raise ContentError(f"a page of a search looks at 1 to {SCAN_MAX:,} jobs, found scan={page.scan}.")


def is_older(which: JobFilter, job: Job) -> bool:
    """Tell whether a job was enqueued before the window of a search."""
    return which.created_after is not None and job.created_at < which.created_after


class Search:
    """One page of a search: jobs are shown to it, in the order of the list, until it has enough."""

    def __init__(self, which: JobFilter, page: Page) -> None:
        """which: with its window. Raises ContentError for a page that can not be."""
        check_scan(page)
        self._which, self._page, self._among = which, page, looked_among(which)
        self._found: list[Job] = []
        self._looked, self._last = 0, ""

    def look(self, jobs: Iterator[Job | None]) -> bool:
        """Look at the next jobs, for a few milliseconds; True: that was all, or enough."""
        room = STEP
        for job in jobs:
            room -= 1
            if job is not None and not is_older(self._which, job) and matching(job, self._among):
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
        self._last = cursor_of(job, self._page)
        if matching(job, self._which):
            self._found.append(job)

    def page(self) -> JobPage:
        """What was found."""
        shown = tuple(self._found[: self._page.limit])
        if len(self._found) > len(shown):
            return JobPage(items=shown, cursor=cursor_of(shown[-1], self._page))
        return JobPage(items=shown, cursor=self._last)


class SearchCount:
    """Counts what a search would find: jobs are shown to it, the newest first, until it has looked at enough."""

    def __init__(self, which: JobFilter, exact: int) -> None:
        """which: with its window. exact: at how many jobs it looks; where there are more, it tells about how many."""
        self._which, self._among, self._left = which, looked_among(which), exact
        self._found, self._reached = 0, 0.0
        self._more = False

    def look(self, jobs: Iterator[Job | None]) -> bool:
        """Look at the next jobs, for a few milliseconds; True: that was all, or enough."""
        room = STEP
        for job in jobs:
            room -= 1
            if job is not None and not is_older(self._which, job) and matching(job, self._among):
                if not self._left:
                    self._more = True
                    return True
                room -= search_weight(job)
                self._left -= 1
                self._found += matching(job, self._which)
                self._reached = job.created_at
            if room <= 0:
                return False
        return True

    def count(self, now: float, oldest: float) -> JobCount:
        """What was counted. oldest: when the first job that there is was enqueued."""
        return about(self._found, self._which, now, oldest, self._reached) if self._more else JobCount(self._found)
