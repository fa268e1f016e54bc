"""Why a job is not running, in words. `explain` is pure; `look` gathers what it needs through the Store port."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import UnknownTask
from holdfast.job.commands import JobFilter, LinkFilter, Page
from holdfast.job.model import CRASHES_MAX, InstanceState
from holdfast.job.state import End, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.job.commands import KeyLink
    from holdfast.job.model import Definition, Instance, Job, Queue, WorkerConfig
    from holdfast.store import Store

BY_TASK: Final = "task"
_ALIVE: Final = (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING)
_IN_LINE: Final = (State.RUNNING, State.QUEUED, State.RETRYING, State.SCHEDULED)
_LINE_LOOK: Final = 50


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason. `code` is for programs, `text` for people."""

    code: str
    text: str


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether a job runs, besides itself. `line`: unfinished jobs of its key, in order of acceptance.

    link: who has the key of a sticky job; None: nobody yet.
    """

    now: float
    queue: Queue | None = None
    running: int = 0
    line: tuple[Job, ...] = ()
    instances: tuple[Instance, ...] = ()
    definition: Definition | None = None
    link: KeyLink | None = None
    workers: tuple[WorkerConfig, ...] = ()


async def look(store: Store, job: Job) -> Surroundings:
    """Gather what `explain` needs to know of a job."""
    queue = next((one for one in await store.queues() if one.name == job.queue), None)
    stats = await store.stats()
    line: tuple[Job, ...] = ()
    if job.key is not None and job.state is State.QUEUED:
        page = await store.find(JobFilter(key=job.key, states=_IN_LINE), Page(limit=_LINE_LOOK, newest_first=False))
        line = tuple(one for one in page.items if one.id != job.id)
    link: KeyLink | None = None
    if job.sticky is not None and job.state is State.QUEUED and store.capabilities.sticky:
        link = next(iter(await store.links(LinkFilter(service=job.sticky, key=job.key))), None)
    try:
        definition = await store.definition(job.task)
    except UnknownTask:
        definition = None
    return Surroundings(
        now=store.now(),
        queue=queue,
        running=stats.queues.get(job.queue, {}).get(State.RUNNING, 0),
        line=line,
        instances=tuple(await store.instances()),
        definition=definition,
        link=link,
        workers=tuple(await store.workers()),
    )


def explain(job: Job, around: Surroundings) -> tuple[Reason, ...]:
    """Return why `job` is where it is, the most important reason first; never empty."""
    match job.state:
        case State.QUEUED:
            reasons = tuple(_queued(job, around))
            return reasons or (_reason("next", "It is ready: the next free slot of its queue takes it."),)
        case State.RUNNING:
            return tuple(_running(job, around))
        case State.PAUSED:
            return (_paused(job, around),)
        case State.SCHEDULED:
            return (_scheduled(job, around),)
        case State.RETRYING:
            return (_retrying(job, around),)
        case _:
            return (_final(job, around),)


def _reason(code: str, text: str) -> Reason:
    return Reason(code=code, text=text)


# --- waiting -------------------------------------------------------------------------------------------------------


def _queued(job: Job, around: Surroundings) -> Iterator[Reason]:
    queue = around.queue
    if queue is not None and queue.paused:
        why = f" ({queue.paused_why})" if queue.paused_why else ""
        since = f" since {moment(queue.paused_at, around.now)}" if queue.paused_at else ""
        yield _reason(
            "queue_paused", f"Its queue {job.queue!r} is paused by {queue.paused_by or 'somebody'}{since}{why}."
        )
    if around.definition is not None and not around.definition.runs:
        state = "deleted" if around.definition.deleted_at is not None else around.definition.status
        yield _reason("task_inactive", f"Its task {job.task!r} is {state}: activate it to let its jobs run.")
    limit = queue.fleet_limit if queue is not None else None
    if limit is not None and around.running >= limit:
        yield _reason(
            "queue_limit", f"Its queue {job.queue!r} runs {limit} at a time over all workers, and {around.running} run."
        )
    head = _ahead(job, around.line)
    if head is not None:
        yield _reason("key_busy", f"Its key {job.key!r} runs one job at a time, and job {head.id} is {_doing(head)}.")
    if job.sticky is not None:
        yield _owned(job, around)
    if job.suspect:
        yield _reason(
            "suspect",
            f"It was running in a process that died ({job.crashes} of {CRASHES_MAX} crashes are held against it), and so "
            "runs only where no other suspect does.",
        )
    yield from _without_worker(job, around)


def _owned(job: Job, around: Surroundings) -> Reason:
    """Who has the key of a sticky job, and what that process is doing."""
    link = around.link
    if link is None or link.pod is None:
        return _reason("unbound", f"It waits for an owner: no pod of service {job.sticky!r} has its key {job.key!r}.")
    owner = next((one for one in around.instances if one.id == link.instance), None)
    who = f"pod {link.pod} of service {job.sticky!r}"
    if owner is None or owner.state not in _ALIVE:
        how = "is gone" if owner is None else f"is {owner.state}"
        return _reason("owner_gone", f"It waits for another owner: {who}, which had its key {job.key!r}, {how}.")
    if owner.state is InstanceState.DRAINING:
        return _reason(
            "owner_draining", f"It waits for another owner: {who}, which has its key {job.key!r}, is stopping."
        )
    doing = "has no free slot" if owner.slots and owner.busy >= owner.slots else "has free slots"
    at = f"worker {owner.worker!r}{f' on {owner.host}' if owner.host else ''}, epoch {link.epoch}"
    return _reason("bound", f"Only {who} ({at}) may run it, for it has the key {job.key!r}; it {doing}.")


def _ahead(job: Job, line: Sequence[Job]) -> Job | None:
    running = [one for one in line if one.state is State.RUNNING]
    holding = [one for one in line if one.state is State.RETRYING and one.on_wait == "hold"]
    earlier = [one for one in line if one.state is State.QUEUED and _place(one) < _place(job)]
    return next(iter((*running, *holding, *sorted(earlier, key=_place))), None)


def _place(job: Job) -> tuple[int, float, int]:
    return (-job.priority, job.run_at, job.seq)


def _doing(job: Job) -> str:
    match job.state:
        case State.RUNNING:
            return "running"
        case State.RETRYING:
            return "waiting for its retry"
        case _:
            return "before it"


def _without_worker(job: Job, around: Surroundings) -> Iterator[Reason]:
    """Why no worker takes it: none is there, none serves the queue, none knows the task, none may, none has a free slot."""
    off = {config.name for config in around.workers if not config.enabled}
    alive = [one for one in around.instances if one.state in _ALIVE]
    serving = [one for one in alive if job.queue in one.queues]
    able = [one for one in serving if job.task in one.tasks]
    if not alive:
        yield _reason("no_worker", "No worker is running. Start one: holdfast run module:app.")
    elif not serving:
        queues = ", ".join(sorted({queue for one in alive for queue in one.queues})) or "none"
        yield _reason("queue_unserved", f"No worker serves queue {job.queue!r}; those that run serve: {queues}.")
    elif not able:
        names = ", ".join(sorted({one.worker for one in serving}))
        yield _reason("no_handler", f"No worker of queue {job.queue!r} has task {job.task!r}: {names} lack it.")
    elif all(one.worker in off for one in able):
        names = ", ".join(sorted({one.worker for one in able}))
        yield _reason("worker_disabled", f"Every worker that could run it is disabled: {names}. Enable one of them.")
    elif all(one.state is InstanceState.DRAINING for one in able):
        yield _reason("draining", "Every worker that could run it is stopping and takes nothing new.")
    elif all(one.slots and one.busy >= one.slots for one in able):
        slots = sum(one.slots for one in able)
        yield _reason("slots_busy", f"All {slots} slots that could run it are busy.")


def _scheduled(job: Job, around: Surroundings) -> Reason:
    when = moment(job.run_at, around.now)
    last = job.last
    if last is not None and last.end is End.RELEASED:
        return _reason("released", f"It was given back ({last.reason or 'no reason was told'}) and waits until {when}.")
    if last is not None and last.end is End.SNOOZED:
        why = f": {last.reason}" if last.reason else ""
        return _reason("snoozed", f"Its handler asked to run again later{why}. It waits until {when}.")
    return _reason("scheduled", f"It is scheduled for {when}.")


def _retrying(job: Job, around: Surroundings) -> Reason:
    budget = f"{job.failures} of {job.retry.max_attempts}"
    error = f": {_first_line(job.error).removesuffix('.')}" if job.error else ""
    when = moment(job.run_at, around.now)
    return _reason("backoff", f"Attempt {job.attempt} failed ({budget} failures){error}. It runs again {when}.")


def _paused(job: Job, around: Surroundings) -> Reason:
    if job.paused_by == BY_TASK:
        return _reason("task_inactive", f"Its task {job.task!r} was switched off; activating the task resumes it.")
    return _reason("paused", f"It is held by {job.paused_by or 'somebody'}. Resume it to let it run.")


# --- running and ended ---------------------------------------------------------------------------------------------


def _running(job: Job, around: Surroundings) -> Iterator[Reason]:
    last = job.last
    if job.cancel is not None:
        why = f" ({job.cancel.why})" if job.cancel.why else ""
        yield _reason("cancel_asked", f"{job.cancel.who or 'Somebody'} asked it to stop{why}; its handler has not yet.")
    if last is None:
        return
    instance = next((one for one in around.instances if one.id == last.instance), None)
    where = f" at {instance.host} (pid {instance.pid})" if instance is not None and instance.host else ""
    worker = last.worker or "an unnamed worker"
    since = moment(last.started_at, around.now)
    yield _reason("running", f"It is running: attempt {last.number}, worker {worker}{where}, since {since}.")
    if instance is not None and instance.state is InstanceState.LOST:
        yield _reason("worker_lost", "That worker was lost; the job is taken from it when its lease ends.")


def _final(job: Job, around: Surroundings) -> Reason:
    when = moment(job.finished_at, around.now)
    if job.state is State.SUCCEEDED:
        return _reason("succeeded", f"It succeeded {when}, at attempt {job.attempt}.")
    if job.state is State.CANCELED:
        reason = job.last.reason if job.last is not None else ""
        why = job.cancel.why if job.cancel is not None else reason
        who = f" by {job.cancel.who}" if job.cancel is not None and job.cancel.who else ""
        return _reason("canceled", f"It was canceled{who} {when}{f': {why}' if why else ''}.")
    if job.crashes >= CRASHES_MAX:
        return _reason("poison", f"It brought {job.crashes} processes down and was given up {when}. {_RETRY}")
    error = f": {_first_line(job.error).removesuffix('.')}" if job.error else ""
    budget = f"{job.failures} of {job.retry.max_attempts} failures"
    return _reason("failed", f"It failed for good {when} ({budget}){error}. {_RETRY}")


_RETRY: Final = "Retry it when the cause is gone."


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 200 else f"{line[:200]}…"


def moment(when: float | None, now: float) -> str:
    """Return a time for people: in UTC, and how far it is from `now`.

    >>> moment(1_800_000_090.0, 1_800_000_000.0)
    '2027-01-15 08:01:30 UTC (in 1m 30s)'
    """
    if when is None:
        return "at a time that was not told"
    text = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{text} ({span(when - now)})"


def span(seconds: float) -> str:
    """Return how far ahead or back `seconds` is, in its two largest units.

    >>> span(90.0), span(-7_260.0), span(0.2)
    ('in 1m 30s', '2h 1m ago', 'now')
    """
    left = round(abs(seconds))
    if not left:
        return "now"
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    shown = " ".join(part for part in parts[:2] if part)
    return f"in {shown}" if seconds > 0 else f"{shown} ago"
