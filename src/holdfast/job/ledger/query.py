"""Reads of the ledger: filters, keyset pages, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import ContentError
from holdfast.job.commands import JobFilter, JobPage, Page, Stats
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.job.ledger.ledger import Ledger
    from holdfast.job.model import Job

PAGE_MAX = 1_000


def matching(job: Job, which: JobFilter) -> bool:
    """Tell whether a job matches all that a filter names."""
    if job.deleted_at is not None and not which.deleted:
        return False
    if which.states and job.state not in which.states:
        return False
    return _same(job, which) and _within(job, which) and (which.text is None or _has_text(job, which.text))


def _same(job: Job, which: JobFilter) -> bool:
    return (
        (which.queue is None or job.queue == which.queue)
        and (which.task is None or job.task == which.task)
        and (which.key is None or job.key == which.key)
        and (which.unique is None or job.unique == which.unique)
        and (which.tag is None or which.tag in job.tags)
        and (which.paused_by is None or job.paused_by == which.paused_by)
        and (which.worker is None or (job.last is not None and job.last.worker == which.worker))
        and (which.instance is None or (job.last is not None and job.last.instance == which.instance))
    )


def _within(job: Job, which: JobFilter) -> bool:
    return (which.created_after is None or job.created_at >= which.created_after) and (
        which.created_before is None or job.created_at < which.created_before
    )


def _has_text(job: Job, text: str) -> bool:
    return text in job.error or text in job.id or text.encode("utf-8", "surrogatepass") in job.payload


def page_of(ledger: Ledger, which: JobFilter, page: Page) -> JobPage:
    """One page of the jobs that match, by order of acceptance. The cursor is the last seq shown: jobs that come and go
    between pages neither repeat a row nor hide one."""
    items: list[Job] = []
    for job in _after(ledger, checked_page(page), newest_first=page.newest_first):
        if matching(job, which):
            items.append(job)
            if len(items) > page.limit:
                break
    shown = items[: page.limit]
    more = len(items) > page.limit
    return JobPage(items=tuple(shown), cursor=str(shown[-1].seq) if more else "")


def checked_page(page: Page) -> int | None:
    """Return the seq behind which a page begins; None: at the start. Raises ContentError for a page that can not be."""
    if not 1 <= page.limit <= PAGE_MAX:
        raise ContentError(f"a page has 1 to {PAGE_MAX:,} rows, found limit={page.limit}.")
    cursor = page.cursor
    if not cursor:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise ContentError(f"bad page cursor {cursor!r}: pass back the cursor of the page before, unchanged.")
    return int(cursor)


def _after(ledger: Ledger, seq: int | None, *, newest_first: bool) -> Iterator[Job]:
    if newest_first:
        return ledger.between(0, ledger.next_seq if seq is None else seq, newest_first=True)
    return ledger.between(seq or 0, ledger.next_seq)


def count_of(ledger: Ledger, which: JobFilter) -> int:
    """How many jobs match; from the counters when the filter names only states and a queue."""
    if JobFilter(states=which.states, queue=which.queue) == which:
        lines = [line for name, line in ledger.index.lines.items() if which.queue in (None, name)]
        states = which.states or tuple(State)
        return sum(line.counts[state] + line.records[state] for line in lines for state in states)
    return sum(1 for job in ledger.table.values() if matching(job, which))


def stats_of(ledger: Ledger) -> Stats:
    """Counts per queue and state, zero-filled, and how long the first ready job of each queue has waited since."""
    queues = {
        name: {state.value: line.counts[state] for state in State} for name, line in sorted(ledger.index.lines.items())
    }
    oldest = {}
    for name, line in ledger.index.lines.items():
        first = [ledger.table[seq].queued_at for seq in list(line.ready.live)[:1]]
        if first and first[0] is not None:
            oldest[name] = first[0]
    return Stats(queues=queues, stale_refused=ledger.stale_refused, oldest_ready_at=oldest)
