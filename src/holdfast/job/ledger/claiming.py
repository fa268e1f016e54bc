"""Rules of claim: promote what is due, then take from the head of each queue what its limits allow."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING

from holdfast.job import facts as f
from holdfast.job.commands import Claim, Claims, KeyLink, Want
from holdfast.job.commands.hot import OWNERLESS_MAX
from holdfast.job.ledger.lines import Line, seq_of
from holdfast.job.ledger.links import ownerless
from holdfast.job.state import Event

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger
    from holdfast.job.model import Job

#: How many due jobs one claim or rescue makes ready.
PROMOTE_BATCH = 1_000
#: What pauses jobs whose definition was canceled or deleted.
PAUSED_BY_TASK = "task"


def promote(ledger: Ledger, now: float, limit: int = PROMOTE_BATCH) -> Generator[f.Some, None, int]:
    """Make up to `limit` scheduled and retrying jobs ready whose time has come."""
    count = 0
    while count < limit and (job := ledger.first_due(now)) is not None:
        yield f.Readied(job.seq, Event.DUE, now)
        count += 1
    return count


def claim(ledger: Ledger, want: Want, now: float, _draw: Draw) -> Generator[f.Some, None, Claims[Job]]:
    """Take at most `want.limit` ready jobs, queue by queue in the order given."""
    yield from promote(ledger, now)
    items: list[Claim[Job]] = []
    left = [one.limit for one in want.queues]
    looking = True
    while looking:
        looking = False
        for place, wanted in enumerate(want.queues):
            before = len(items)
            # Holding back a job of a stopped task frees the line of its key, perhaps in a queue that was asked before.
            looking |= yield from _claim_queue(ledger, wanted.queue, left[place], want, now, items)
            left[place] -= len(items) - before
    return Claims(tuple(items), next_due=ledger.next_due(), ownerless=_ownerless(ledger, want))


def _ownerless(ledger: Ledger, want: Want) -> tuple[KeyLink, ...]:
    if not want.sticky:
        return ()
    found = (link for one in want.queues for link in ownerless(ledger, one.queue, want.sticky, OWNERLESS_MAX))
    # Which ones come first is chance where there are more; a sorted answer depends on the state alone.
    return tuple(sorted(islice(found, OWNERLESS_MAX), key=lambda link: (link.service, link.key)))


def _claim_queue(
    ledger: Ledger, queue: str, limit: int, want: Want, now: float, items: list[Claim[Job]]
) -> Generator[f.Some, None, bool]:
    """Take from one queue what its limits allow; tell whether a job of a stopped task was held back on the way."""
    line = ledger.line(queue)
    if line is None or line.queue.paused:
        return False
    count = min(limit, want.limit - len(items))
    room = line.room()
    if room is not None:
        count = min(count, room)
    return count > 0 and (yield from _claim_from(ledger, line, count, want, now, items))


def _claim_from(
    ledger: Ledger, line: Line, count: int, want: Want, now: float, items: list[Claim[Job]]
) -> Generator[f.Some, None, bool]:
    own_lease = line.queue.rescue_after or 0.0
    until = now + (own_lease or want.lease)
    table, held_back = ledger.table, False
    while count > 0:
        jobs = _in_a_row(ledger, line, want, count) or _next(ledger, line, want)
        if not jobs:
            break
        if (first := jobs[0]).task in ledger.stopped:
            yield f.Paused(first.seq, PAUSED_BY_TASK, now)
            held_back = held_back or first.key is not None
            continue
        if first.sticky is not None:
            yield from _bound(ledger, first, now)
        yield _claimed(ledger, jobs, want, until, now)
        for seq in [job.seq for job in jobs]:
            job = table[seq]
            items.append(
                Claim(job, job.id, job.task, job.queue, job.token, job.attempt, until, seq, job.suspect, own_lease)
            )
        count -= len(jobs)
    return held_back


def _claimed(ledger: Ledger, jobs: list[Job], want: Want, until: float, now: float) -> list[f.Fact]:
    instance, worker, version = want.instance, want.worker, want.version
    epoch_token = ledger.epoch_token
    return [
        f.Claimed(job.seq, job.attempt + 1, max(job.token + 1, epoch_token), instance, worker, version, until, now)
        for job in jobs
    ]


def _in_a_row(ledger: Ledger, line: Line, want: Want, most: int) -> list[Job]:
    """The next jobs that can be claimed together, because the claim of one changes nothing for those behind it.

    None where each has to be looked at by itself: beside suspects and sticky jobs, and where a task was stopped.
    """
    if line.suspects.live or (want.sticky and line.sticky.where):
        return []
    table, stopped = ledger.table, ledger.stopped
    jobs = [table[seq_of(entry)] for entry in islice(line.ready.in_a_row(), most)]
    return list(takewhile(lambda job: job.task not in stopped, jobs)) if stopped else jobs


def _bound(ledger: Ledger, job: Job, now: float) -> Generator[f.Some, None, None]:
    """Write the owner's pod and epoch to a job that is about to run there, unless they are the ones that it has."""
    link = ledger.links[job.sticky or "", job.key or ""]
    if (job.pod, job.pod_epoch) != (link.pod, link.epoch):
        yield f.Bound(job.seq, link.pod, link.epoch, now)


def _next(ledger: Ledger, line: Line, want: Want) -> list[Job]:
    """The job to take next: the first one, but a process holds at most one suspect, and sticky jobs only of its own keys."""
    entry = line.ready.first()
    suspect = line.suspects.first() if line.suspects.live else None
    if want.sticky and line.sticky.where:
        entry = _first(entry, line.sticky.first(want.instance, suspect=False))
        suspect = _first(suspect, line.sticky.first(want.instance, suspect=True))
    if suspect is not None and (entry is None or suspect < entry) and not _holds_suspect(ledger, want.instance):
        entry = suspect
    return [] if entry is None else [ledger.table[seq_of(entry)]]


def _first(entry: int | None, other: int | None) -> int | None:
    return other if entry is None else entry if other is None else min(entry, other)


def _holds_suspect(ledger: Ledger, instance: str) -> bool:
    return any(ledger.table[seq].suspect for seq in ledger.index.running.get(instance, ()))
