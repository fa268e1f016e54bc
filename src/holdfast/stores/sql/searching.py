"""Searches by text: see holdfast.job.ledger.search for what they promise.

First the numbers and times of the jobs that a page looks at, which the indexes of lists give; then these jobs, portion by
portion, until the page is full. So the database never looks for a text in more of them than a page may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.job import commands as c
from holdfast.job.ledger.query import checked_end, checked_page, cursor_of, with_final_states
from holdfast.job.ledger.search import check_scan, is_over, is_search, looked_among, windowed
from holdfast.stores.sql import filters, reads
from holdfast.stores.sql.rows import micros, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.script import Row, Script, Step

#: In how many jobs one statement looks for a text.
PORTION: Final = 1_000


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
    return c.JobPage(items=tuple(shown), cursor=_cursor(which, page, looked))


def count(step: Step, which: c.JobFilter) -> Script[int]:
    """How many jobs match."""
    if not is_search(which):
        return (yield from reads.count(step, which))
    which = windowed(which, seconds((yield from step.now())))
    number, page = 0, c.Page()
    while True:
        looked = yield from _looked_at(step, which, page)
        number += len((yield from _matching(step, which, looked, None)))
        cursor = _cursor(which, page, looked)
        if not cursor:
            return number
        page = c.Page(cursor=cursor)


def _cursor(which: c.JobFilter, page: c.Page, looked: Sequence[_Looked]) -> str:
    """Return the cursor behind all that was looked at."""
    if len(looked) < page.scan or is_over(which, page, max(one.at for one in looked) / 1e6):
        return ""
    last = looked[-1]
    return f"{last.at}:{last.seq}" if page.by_end else str(last.seq)


def _looked_at(step: Step, which: c.JobFilter, page: c.Page) -> Script[list[_Looked]]:
    among = looked_among(which)
    if page.by_end:
        return (yield from _ended(step, among, page))
    rows = yield filters.places(step.db, among, checked_page(page), page.scan, newest_first=page.newest_first)
    return [_Looked(seq, created_at, created_at) for seq, created_at in rows]


def _ended(step: Step, among: c.JobFilter, page: c.Page) -> Script[list[_Looked]]:
    after, ended = checked_end(page), with_final_states(among)
    if ended is None:
        return []
    way, columns = page.newest_first, "seq, created_at, finished_at"
    rows = yield from reads.ended_rows(step, ended, after, page.scan, newest_first=way, columns=columns)
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
