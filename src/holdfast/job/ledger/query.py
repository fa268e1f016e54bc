"""Reads of the ledger: filters, keyset pages, counts."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdfast.errors import ContentError
from holdfast.job.commands import JobFilter, JobPage, Page, Stats
from holdfast.job.ledger.spellings import encoded_spellings
from holdfast.job.model import Job
from holdfast.job.state import FINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.job.ledger.ledger import Ledger

PAGE_MAX = 1_000
#: How many numbers one step of a search looks at; the dearest filter takes about 2 ms for them.
STEP: Final = 2_048
#: A text is looked for in 2 to the power of this many bytes of payload while a job without one is looked at.
_SEARCHED_AS_FAST: Final = 12


def matching(job: Job, which: JobFilter) -> bool:
    """Tell whether a job matches all that a filter names."""
    if job.deleted_at is not None and not which.deleted:
        return False
    if which.states and job.state not in which.states:
        return False
    return _same(job, which) and _within(job, which) and (which.text is None or _has_text(job, which.text))


def _same(job: Job, which: JobFilter) -> bool:
    return (
        (which.id is None or job.id == which.id)
        and (which.queue is None or job.queue == which.queue)
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
    if text in job.error or text in job.id:
        return True
    payload = job.payload
    return any(one in payload for one in encoded_spellings(text))


def page_of(ledger: Ledger, which: JobFilter, page: Page) -> JobPage:
    """One page of the jobs that match, in one go."""
    if page.by_end:
        ended = with_final_states(which)
        checked_end(page)
        return ended_page((job for job in ledger.table.values() if ended and matching(job, ended)), page)
    numbers, items, done = numbers_of(ledger, page, which), list[Job](), False
    while not done:
        found, done = some_of(ledger, which, numbers, page.limit + 1 - len(items))
        items += found
    return page_from(items, page)


def numbers_of(ledger: Ledger, page: Page | None, which: JobFilter) -> Iterator[int]:
    """The seqs that a page is looked for among; without a page, all. Raises ContentError for a page that can not be."""
    numbers = _numbers(ledger, page)
    if which.id is not None:
        seq = ledger.index.ids.get(which.id)
        return iter(() if seq is None or seq not in numbers else (seq,))
    return iter(numbers)


def _numbers(ledger: Ledger, page: Page | None) -> range:
    if page is None:
        return range(_oldest(ledger), ledger.next_seq)
    seq = checked_page(page)
    if page.newest_first:
        top = ledger.next_seq if seq is None else min(seq, ledger.next_seq)
        return range(_oldest(ledger), top)[::-1]
    return range(max(_oldest(ledger), (seq or 0) + 1), ledger.next_seq)


def _oldest(ledger: Ledger) -> int:
    # Once for a whole search: behind many purged jobs the first key of a dict is far from its start.
    return next(iter(ledger.table), ledger.next_seq)


def some_of(ledger: Ledger, which: JobFilter, numbers: Iterator[int], wanted: int | None) -> tuple[list[Job], bool]:
    """The jobs that match among the next `numbers`, at most `wanted`; and whether that is all that is wanted or there is.

    Looks at no more than takes a few milliseconds, so that a long search can give way to others: call it again.
    """
    get, text, room = ledger.table.get, which.text is not None, STEP
    found: list[Job] = []
    for seq in numbers:
        job = get(seq)
        room -= 1
        if job is not None:
            if matching(job, which):
                found.append(job)
                if len(found) == wanted:
                    return found, True
            if text:
                room -= search_weight(job)
        if room <= 0:
            return found, False
    return found, True


def search_weight(job: Job) -> int:
    """How many jobs without payload are looked at while a text is looked for in this one's."""
    return len(job.payload) >> _SEARCHED_AS_FAST


def page_from(items: list[Job], page: Page) -> JobPage:
    """Return the page of one more job than it shows. The cursor is the last seq shown: jobs that come and go between pages
    neither repeat a row nor hide one."""
    shown = items[: page.limit]
    more = len(items) > page.limit
    return JobPage(items=tuple(shown), cursor=str(shown[-1].seq) if more else "")


def ended_page(items: Iterable[Job], page: Page) -> JobPage:
    """Return the page of all jobs that have ended, by when they did. The cursor is the last one's end and seq."""
    return page_by_end(ended_behind(items, page)[: page.limit + 1], page)


def ended_behind(items: Iterable[Job], page: Page) -> list[Job]:
    """Return the jobs that have ended and stand behind the cursor of a page, by when they ended."""
    after = checked_end(page)
    places = sorted(((end_of(job), job.seq, job) for job in items), key=itemgetter(0, 1), reverse=page.newest_first)
    if after is not None:
        places = [one for one in places if (one[:2] < after if page.newest_first else one[:2] > after)]
    return [job for _, _, job in places]


def page_by_end(items: list[Job], page: Page) -> JobPage:
    """Return the page of one more ended job than it shows."""
    shown = items[: page.limit]
    return JobPage(items=tuple(shown), cursor=cursor_of(shown[-1], page) if len(items) > page.limit else "")


def cursor_of(job: Job, page: Page) -> str:
    """Return the cursor of a page that ends with a job."""
    return f"{end_of(job)}:{job.seq}" if page.by_end else str(job.seq)


def end_of(job: Job) -> int:
    """Return when a job ended, in microseconds since the epoch."""
    return round((job.finished_at or 0.0) * 1e6)


def with_final_states(which: JobFilter) -> JobFilter | None:
    """Return the filter of what it matches and has ended; None when that is nothing."""
    states = tuple(state for state in which.states or State if state in FINAL)
    return replace(which, states=states) if states else None


def checked_end(page: Page) -> tuple[int, int] | None:
    """Return the end and the seq behind which a page begins. Raises ContentError for a page that can not be."""
    check_limit(page)
    if not page.cursor:
        return None
    at, _, seq = page.cursor.partition(":")
    if not (at.isdecimal() and seq.removeprefix("-").isdecimal() and len(page.cursor) <= 40):
        raise bad_cursor(page.cursor)
    return int(at), int(seq)


def check_limit(page: Page) -> None:
    """Raise ContentError for a page of too many rows, or none."""
    if not 1 <= page.limit <= PAGE_MAX:
        raise ContentError(f"a page has 1 to {PAGE_MAX:,} rows, found limit={page.limit}.")


def bad_cursor(cursor: str) -> ContentError:
    """Return the refusal of a cursor that no page gave."""
    return ContentError(f"bad page cursor {cursor!r:.80}: pass back the cursor of the page before, unchanged.")


def checked_page(page: Page) -> int | None:
    """Return the seq behind which a page begins; None: at the start. Raises ContentError for a page that can not be."""
    check_limit(page)
    cursor = page.cursor
    if not cursor:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise bad_cursor(cursor)
    return int(cursor)


def count_of(ledger: Ledger, which: JobFilter) -> int:
    """How many jobs match, in one go."""
    kept = kept_count(ledger, which)
    if kept is not None:
        return kept
    numbers, count, done = numbers_of(ledger, None, which), 0, False
    while not done:
        found, done = some_of(ledger, which, numbers, None)
        count += len(found)
    return count


def kept_count(ledger: Ledger, which: JobFilter) -> int | None:
    """How many jobs match by the counters, which know states and queues alone; None for a filter that names more."""
    if JobFilter(states=which.states, queue=which.queue) != which:
        return None
    lines = [line for name, line in ledger.index.lines.items() if which.queue in (None, name)]
    states = which.states or tuple(State)
    return sum(line.counts[state] + line.records[state] for line in lines for state in states)


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
