"""The Store port for producers and workers in other processes: the same steps, one request each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from holdfast.errors import ContentError, NoHistory
from holdfast.history import checked_import
from holdfast.hub.routes.jobs import refuse_search
from holdfast.hub.routes.people import record
from holdfast.hub.routing import BATCH_BODY_MAX, Route, Scope
from holdfast.job.commands import Beat, Claims, InstanceDied, QueueWant, Rescued, Settled, Signals, Want
from holdfast.store import Capabilities
from holdfast.wire.documents import EnqueuedDoc, JobDoc, PageDoc, claims_doc, enqueued_docs, job_doc, job_of, page_doc
from holdfast.wire.newjobs import new_jobs_of
from holdfast.wire.records import FigureDoc, FiguresOf, RecordsBatch, figure_doc, records_of
from holdfast.wire.requests import (
    Count,
    Counted,
    EnqueueBatch,
    Find,
    ImportBatch,
    Lookup,
    Names,
    ProgressBatch,
    Ready,
    Rescue,
    RulingDoc,
    SettleBatch,
    WaitFor,
)

if TYPE_CHECKING:
    from holdfast.hub.routing import Call

#: How many jobs a request can take or end at once, whatever larger number it names: an answer has to be made of them.
AT_ONCE_MAX: Final = 100_000
#: The longest time that a request is held open, in seconds.
WAIT_MAX: Final = 30.0


class StoreDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What the store behind the API can do, and its time now (seconds since the epoch)."""

    capabilities: Capabilities
    now: float


async def describe(call: Call) -> StoreDoc:
    """Tell what the store can do, and its time."""
    return StoreDoc(capabilities=call.store.capabilities, now=call.store.now())


async def enqueue_batch(call: Call) -> list[EnqueuedDoc]:
    """Store jobs that their producer has checked: all or none."""
    batch: EnqueueBatch = call.body
    return enqueued_docs(await call.store.enqueue(new_jobs_of(batch.jobs), on_duplicate=batch.on_duplicate))


async def claim(call: Call) -> Claims[JobDoc]:
    """Hand out ready jobs; with `wait`, as soon as there are some, or that many seconds later."""
    asked: Want = call.body
    queues = tuple([QueueWant(one.queue, min(one.limit, AT_ONCE_MAX)) for one in asked.queues])
    want = msgspec.structs.replace(asked, local=False, limit=min(asked.limit, AT_ONCE_MAX), queues=queues)
    return claims_doc(await call.parts.repeats.claim(call.store, want))


async def settle(call: Call) -> list[Settled]:
    """End attempts, each on its own."""
    settlements: Any = call.body.settlements  # without their items: the token and the reference say which
    return await call.store.settle(settlements)


async def progress(call: Call) -> list[Settled]:
    """Write what running attempts report."""
    reports: Any = call.body.reports
    return await call.store.progress(reports)


async def heartbeat(call: Call) -> Signals:
    """Extend the leases of an instance's claims; tell it what it holds and what to cancel."""
    beat: Beat = call.body
    instance = msgspec.structs.replace(beat.instance, local=False)
    return await call.store.heartbeat(Beat(instance=instance, lease=beat.lease))


async def rescue(call: Call) -> Rescued:
    """End claims whose lease has passed, promote what is due, prune."""
    return await call.store.rescue(min(call.body.limit, AT_ONCE_MAX))


async def instance_died(call: Call) -> Count:
    """End the claims of a process that was seen to die."""
    return Count(count=await call.store.instance_died(call.body))


async def wait(call: Call) -> Ready:
    """Answer as soon as work may be ready."""
    asked: WaitFor = call.body
    return Ready(ready=await call.store.wait(asked.queues, asked.cursor, min(asked.timeout, WAIT_MAX)))


async def lookup(call: Call) -> list[JobDoc | None]:
    """Read jobs by their ids, in order, null for unknown ones; or wait until they have ended."""
    asked: Lookup = call.body
    if asked.timeout is not None:
        ended = await call.store.finished(asked.ids, min(asked.timeout, WAIT_MAX))
        return [job_doc(job) for job in ended]
    return [job_doc(job) if job is not None else None for job in await call.store.jobs(asked.ids)]


async def find(call: Call) -> PageDoc:
    """List jobs that match, with all their attempts, in keyset pages."""
    asked: Find = call.body
    refuse_search(call, asked.filter.text)
    return page_doc(await call.store.find(asked.filter, asked.page), all_attempts=True)


async def count(call: Call) -> Counted:
    """Count the jobs that match."""
    asked: Find = call.body
    refuse_search(call, asked.filter.text)
    return Counted.of(await call.store.count(asked.filter))


async def import_jobs(call: Call) -> list[RulingDoc]:
    """Take in jobs of another store; tell per job whether it came in."""
    batch: ImportBatch = call.body
    if not 0 <= batch.epoch < 2**20:
        raise ContentError(f"epoch: expected 0 to {2**20 - 1:,}, found {batch.epoch}.")
    jobs = [checked_import(job_of(doc)) for doc in batch.jobs]
    archive = cast("Any", getattr(call.store, "inner", call.store))
    if not hasattr(archive, "import_jobs"):
        raise NoHistory
    rulings = await archive.import_jobs(jobs, batch.epoch)
    await record(call, "import", "jobs", sum(ruling.done for ruling in rulings))
    return [RulingDoc(id=one.id, done=one.done, why=one.why) for one in rulings]


async def import_records(call: Call) -> Count:
    """Take in what another store counted, and its audit log; tell how many of these were not here."""
    batch: RecordsBatch = call.body
    archive = cast("Any", getattr(call.store, "inner", call.store))
    if not hasattr(archive, "import_records"):
        raise NoHistory
    taken = await archive.import_records(records_of(batch.figures, batch.audit))
    if taken:
        await record(call, "import", "records", taken)
    return Count(count=taken)


async def figures(call: Call) -> list[FigureDoc]:
    """What was counted in minutes or hours."""
    asked: FiguresOf = call.body
    if asked.span not in (60, 3_600):
        raise ContentError(f"span: expected 60 or 3600 seconds, found {asked.span}.")
    store = cast("Any", getattr(call.store, "inner", call.store))
    if not hasattr(store, "kept_figures"):
        raise NoHistory
    return [figure_doc(one) for one in await store.kept_figures(asked.span, asked.first, asked.last)]


async def migrate(call: Call) -> Names:
    """Bring the schema of the store up to date."""
    names = tuple(await call.store.migrate())
    await record(call, "migrate", "store", len(names))
    return Names(names=names)


ROUTES: Final = (
    Route(
        method="GET",
        path="/store",
        handle=describe,
        scope=Scope.READ,
        answer=StoreDoc,
        summary="Tell what the store can do, and its time",
    ),
    Route(
        method="POST",
        path="/store/enqueue",
        handle=enqueue_batch,
        scope=Scope.ENQUEUE,
        body=EnqueueBatch,
        answer=list[EnqueuedDoc],
        summary="Store jobs that their producer has checked: all or none",
        body_max=BATCH_BODY_MAX,
    ),
    Route(
        method="POST",
        path="/store/claim",
        handle=claim,
        scope=Scope.WORK,
        body=Want,
        answer=Claims[JobDoc],
        shows_all=True,
        held=True,
        summary="Hand out ready jobs",
    ),
    Route(
        method="POST",
        path="/store/settle",
        handle=settle,
        scope=Scope.WORK,
        body=SettleBatch,
        answer=list[Settled],
        summary="End attempts, each on its own",
        body_max=BATCH_BODY_MAX,
    ),
    Route(
        method="POST",
        path="/store/progress",
        handle=progress,
        scope=Scope.WORK,
        body=ProgressBatch,
        answer=list[Settled],
        summary="Write what running attempts report",
        body_max=BATCH_BODY_MAX,
    ),
    Route(
        method="POST",
        path="/store/heartbeat",
        handle=heartbeat,
        scope=Scope.WORK,
        body=Beat,
        answer=Signals,
        summary="Extend the leases of an instance's claims",
    ),
    Route(
        method="POST",
        path="/store/rescue",
        handle=rescue,
        scope=Scope.WORK,
        body=Rescue,
        answer=Rescued,
        summary="End claims whose lease has passed, promote what is due, prune",
    ),
    Route(
        method="POST",
        path="/store/instance-died",
        handle=instance_died,
        scope=Scope.WORK,
        body=InstanceDied,
        answer=Count,
        summary="End the claims of a process that was seen to die",
    ),
    Route(
        method="POST",
        path="/store/wait",
        handle=wait,
        scope=Scope.WORK,
        body=WaitFor,
        answer=Ready,
        summary="Answer as soon as work may be ready",
    ),
    Route(
        method="POST",
        path="/store/lookup",
        handle=lookup,
        scope=Scope.READ,
        body=Lookup,
        answer=list[JobDoc | None],
        summary="Read jobs by their ids, or wait until they have ended",
    ),
    Route(
        method="POST",
        path="/store/find",
        handle=find,
        scope=Scope.READ,
        body=Find,
        answer=PageDoc,
        summary="List jobs that match, with all their attempts, in keyset pages",
    ),
    Route(
        method="POST",
        path="/store/count",
        handle=count,
        scope=Scope.READ,
        body=Find,
        answer=Counted,
        summary="Count the jobs that match",
    ),
    Route(
        method="POST",
        path="/import",
        handle=import_jobs,
        scope=Scope.ADMIN,
        body=ImportBatch,
        answer=list[RulingDoc],
        summary="Take in jobs of another store",
        body_max=BATCH_BODY_MAX,
    ),
    Route(
        method="POST",
        path="/import/records",
        handle=import_records,
        scope=Scope.ADMIN,
        body=RecordsBatch,
        answer=Count,
        summary="Take in figures and the audit log of another store",
        body_max=BATCH_BODY_MAX,
    ),
    Route(
        method="POST",
        path="/store/figures",
        handle=figures,
        scope=Scope.READ,
        body=FiguresOf,
        answer=list[FigureDoc],
        summary="Read what was counted in minutes or hours, with histograms",
    ),
    Route(
        method="POST",
        path="/store/migrate",
        handle=migrate,
        scope=Scope.ADMIN,
        answer=Names,
        summary="Bring the schema of the store up to date",
    ),
)
