"""Searches: see holdfast.job.ledger.search for what they promise.

First the numbers and times of the jobs that a page looks at, which the indexes of lists give; then these jobs, portion by
portion, until the page is full. So the database never looks into more of them than a page may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job.ledger.query import checked_end, checked_page, cursor_of, with_final_states
from holdfast.job.ledger.search import about, check_scan, is_search, looked_among, windowed
from holdfast.stores.sql import counting, filters, lists, reads
from holdfast.stores.sql.cold import archive
from holdfast.stores.sql.rows import ELSEWHERE, HIDDEN, micros, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

#: In how many jobs one statement looks for a text.
PORTION: Final = 1_000
_ALL: Final = 1 << 62
_FIRST: Final = (
    "SELECT * FROM (SELECT created_at FROM {job} ORDER BY seq LIMIT 1) AS l"
    " UNION ALL SELECT * FROM (SELECT created_at FROM {done} ORDER BY seq LIMIT 1) AS d"
)


class _Looked(NamedTuple):
    """A job that is looked at. at: when it was enqueued, or ended, as the list goes."""

    seq: int
    created_at: int
    at: int


def find(step: Step, which: c.JobFilter, page: c.Page) -> Script[c.JobPage]:
    """One page of the jobs that match; of a search, as many as it finds in the jobs that it looks at."""
    if not is_search(which):
        return (yield from reads.find(step, which, page))
    check_scan(page)
    which = windowed(which, seconds((yield from step.now())))
    looked = yield from _looked_at(step, which, page)
    found = yield from _matching(step, which, looked, page.limit + 1)
    by_seq = {row[0]: row for row in found}
    rows = [by_seq[one.seq] for one in looked if one.seq in by_seq][: page.limit]
    shown = yield from reads.whole(step, rows)
    if len(found) > page.limit:
        return c.JobPage(items=tuple(shown), cursor=cursor_of(shown[-1], page))
    return c.JobPage(items=tuple(shown), cursor=(yield from _cursor(step, which, page, looked)))


def count(step: Step, which: c.JobFilter) -> Script[c.JobCount]:
    """How many jobs match, or about how many."""
    if is_search(which):
        return (yield from _count_search(step, which))
    near = yield from counting.count(step, which)
    if near.estimated or filters.where(step.db, which, ended=False).exact:
        return near
    # The database has found all that match and perhaps a few more: each is looked at again.
    number, after = 0, 0
    while True:
        rows = yield filters.span(step.db, which, after, _ALL, PORTION)
        number += sum(reads.matches(row, which) for row in rows)
        if len(rows) < PORTION:
            return c.JobCount(number)
        after = rows[-1][0]


def _count_search(step: Step, which: c.JobFilter) -> Script[c.JobCount]:
    """What a search would find in as many jobs as a count is exact for; where there are more, about how many."""
    now = yield from step.now()
    which = windowed(which, seconds(now))
    number, left, page = 0, step.db.count_exact, c.Page()
    while True:
        page = replace(page, scan=min(left, c.SCAN_MAX))
        looked = yield from _looked_at(step, which, page)
        number += len((yield from _matching(step, which, looked, None)))
        left -= len(looked)
        cursor = yield from _cursor(step, which, page, looked)
        if not cursor:
            return c.JobCount(number)
        if left <= 0:
            oldest = yield from _oldest(step)
            return about(number, which, seconds(now), seconds(oldest), seconds(looked[-1].created_at))
        page = replace(page, cursor=cursor)


def _oldest(step: Step) -> Script[int]:
    """When the first job was enqueued of those that there are; 0: there is none."""
    rows = yield step.db.q(_FIRST)
    return min((created_at for (created_at,) in rows), default=0)


# --- where a search ends -------------------------------------------------------------------------------------------


def _cursor(step: Step, which: c.JobFilter, page: c.Page, looked: Sequence[_Looked]) -> Script[str]:
    """The cursor behind all that was looked at; empty where the search is over."""
    if len(looked) < page.scan or (yield from _is_over(step, which, page, looked)):
        return ""
    last = looked[-1]
    return f"{last.at}:{last.seq}" if page.by_end else str(last.seq)


def _is_over(step: Step, which: c.JobFilter, page: c.Page, looked: Sequence[_Looked]) -> Script[bool]:
    """Tell whether all that stands behind these jobs is older than the window.

    With the newest first it is, when these are: a job that was enqueued before another has the lower number, and has ended
    since. But not one that came from another store, and not a record of a job that had ended when it was told of.
    """
    since = micros(which.created_after or 0.0)
    if not page.newest_first or max(one.at for one in looked) >= since:
        return False
    if page.by_end:
        return not (yield step.db.q(f"SELECT 1 FROM {{tally}} WHERE state % {HIDDEN} > {ELSEWHERE} AND n > 0 LIMIT 1"))
    return looked[-1].seq < (yield from archive.unordered_from(step))


def _looked_at(step: Step, which: c.JobFilter, page: c.Page) -> Script[list[_Looked]]:
    among = looked_among(which)
    if page.by_end:
        return (yield from _ended(step, among, page))
    rows = yield from lists.places(step, among, checked_page(page), page.scan, newest_first=page.newest_first)
    return [_Looked(seq, created_at, created_at) for seq, created_at in rows]


def _ended(step: Step, among: c.JobFilter, page: c.Page) -> Script[list[_Looked]]:
    after, ended = checked_end(page), with_final_states(among)
    if ended is None:
        return []
    way, columns = page.newest_first, "seq, created_at, finished_at"
    rows = yield from lists.ended_rows(step, ended, after, page.scan, newest_first=way, columns=columns)
    found = sorted((_Looked(*row) for row in rows), key=lambda one: (one.at, one.seq), reverse=page.newest_first)
    return found[: page.scan]


def _matching(step: Step, which: c.JobFilter, looked: Sequence[_Looked], wanted: int | None) -> Script[list[Row]]:
    """The rows that match, of at least `wanted` of them the first (None: all)."""
    since = micros(which.created_after or 0.0)
    seqs = [one.seq for one in looked if one.created_at >= since]
    found: list[Row] = []
    for start in range(0, len(seqs), PORTION):
        rows = yield filters.some(step.db, which, seqs[start : start + PORTION])
        found += [row for row in rows if reads.matches(row, which)]
        if wanted is not None and len(found) >= wanted:
            break
    return found
