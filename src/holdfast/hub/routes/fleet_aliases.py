"""The addresses of an older system for workers and their queues; see `aliases`, which has those for jobs.

There a worker's configuration is written by whoever knows it, a queue is a "queue group" of a worker, and each has three
priorities. Here queues belong to nobody, a priority is a number, and higher ones simply run first: `priorities` are taken
and weigh nothing, `redis_addr` is taken and not kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ConfigError, ContentError, NoHistory, UnknownWorker
from holdfast.history import SERIES_HOURS, SeriesBucket, WorkerStats, checked_worker
from holdfast.hub.refusals import Refusal
from holdfast.hub.routes.aliases import alias, check_group, known_worker, worker_of
from holdfast.hub.routes.people import record
from holdfast.hub.routes.queues import clear
from holdfast.hub.scopes import Scope
from holdfast.job.model import QueueShare, WorkerConfig
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.hub.routing import Call

GROUPS_MAX: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{3,64}")


class QueueGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue of a worker: how many of its jobs run at once."""

    name: str = "default"
    concurrency: int = 10
    priorities: dict[str, int] = {}


class WorkerRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's configuration. default_retry_count: how often a failed job is tried again. Times are seconds."""

    worker_name: str
    queue_groups: tuple[QueueGroup, ...]
    base_url: str = ""
    redis_addr: str = ""
    default_retry_count: int = 3
    default_timeout: float = 30.0
    default_delay: float = 0.0
    is_enabled: bool = True
    overwrite: bool = False


class WorkerStored(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration as it is now. message: why it was left as it was."""

    worker: WorkerConfig
    message: str = ""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """When a worker was heard of."""

    worker_name: str
    heartbeat_at: float
    status: str = "ok"


class StatsOfWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by the worker of their newest attempt."""

    stats: WorkerStats


class SeriesOfWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of attempts, empty ones as zeros."""

    timeseries: tuple[SeriesBucket, ...]


class HoursQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many hours back, at most 168."""

    hours: int = SERIES_HOURS.default


class QueuesQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which worker's queues; left out: of all queues."""

    worker_name: str | None = None


class GroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of a queue under the older words. size: those that have not ended; of `estimated` ones about how many."""

    queue_group: str
    full_name: str
    pending: int
    active: int
    scheduled: int
    retry: int
    paused: int
    archived: int
    completed: int
    size: int
    estimated: bool = False


class GroupsFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Queues, by name."""

    items: tuple[GroupFigures, ...]


class ClearRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which queue of a worker to empty; left out: all of them."""

    worker_name: str
    queue_name: str = ""
    who: str = ""


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """What was emptied, and of how many jobs."""

    worker_name: str
    cleared_queues: tuple[str, ...]
    total_deleted: int
    status: str = "cleared"


# --- workers -------------------------------------------------------------------------------------------------------


async def create_older_worker(call: Call) -> WorkerStored:
    """Make or replace a worker's configuration."""
    return WorkerStored(worker=await _store(call, _config(call.body)))


async def register_older_worker(call: Call) -> WorkerStored:
    """Make a worker's configuration if there is none of its name, or replace it with `overwrite`."""
    asked: WorkerRequest = call.body
    known = await known_worker(call, asked.worker_name)
    if known is not None and not asked.overwrite:
        return WorkerStored(worker=known, message="skipped: there is a worker of that name, and overwrite is not set")
    if known is not None and Scope.ADMIN not in call.principal.scopes:
        raise Refusal(403, "overwrite: expected a token with scope admin to replace what is there.", field="overwrite")
    return WorkerStored(worker=await _store(call, msgspec.structs.replace(_config(asked), enabled=True)))


async def beat_older_worker(call: Call) -> Heartbeat:
    """Tell that a worker lives that keeps no instance here."""
    if call.parts.workers is None:
        raise NoHistory
    now = call.parts.node().now
    if not await call.parts.workers.update_heartbeat(call.path, now):
        raise UnknownWorker(f"unknown worker {call.path!r:.100}: no configuration of that name. Register it first.")
    return Heartbeat(worker_name=call.path, heartbeat_at=now)


def _config(asked: WorkerRequest) -> WorkerConfig:
    if not _NAME.fullmatch(asked.worker_name):
        raise ContentError(f"worker_name: expected 3 to 64 letters, digits, _ and -, found {asked.worker_name!r:.100}.")
    if not 1 <= len(asked.queue_groups) <= GROUPS_MAX:
        raise ContentError(f"queue_groups: expected 1 to {GROUPS_MAX:,}, found {len(asked.queue_groups)}.")
    if asked.default_retry_count < 0:
        raise ContentError(f"default_retry_count: expected 0 or more, found {asked.default_retry_count}.")
    config = WorkerConfig(
        name=asked.worker_name,
        queues=tuple(QueueShare(name=one.name, concurrency=one.concurrency) for one in asked.queue_groups),
        max_attempts=asked.default_retry_count + 1,
        timeout=asked.default_timeout,
        delay=asked.default_delay,
        enabled=asked.is_enabled,
        base_url=asked.base_url,
    )
    try:
        return checked_worker(config)
    except ConfigError as error:
        raise Refusal(
            422, str(error), field="default_timeout" if "timeout:" in str(error) else "queue_groups"
        ) from error


async def _store(call: Call, config: WorkerConfig) -> WorkerConfig:
    stored = await call.store.configure_worker(config)
    await record(call, "configure_worker", config.name, 1)
    return stored


async def older_worker_stats(call: Call) -> StatsOfWorker:
    """Count the jobs of a worker, and tell its success rate and mean run time."""
    if call.parts.history is None:
        raise NoHistory
    await worker_of(call, call.path)
    return StatsOfWorker(stats=await call.parts.history.worker_stats(call.path))


async def older_worker_series(call: Call) -> SeriesOfWorker:
    """Tell hour by hour how a worker's attempts ended; the running hour comes last."""
    if call.parts.history is None:
        raise NoHistory
    hours: int = call.query.hours
    if not 1 <= hours <= SERIES_HOURS.most:
        raise ContentError(f"hours: expected 1 to {SERIES_HOURS.most}, found {hours}.")
    await worker_of(call, call.path)
    return SeriesOfWorker(timeseries=tuple(await call.parts.history.worker_time_series(call.path, hours)))


# --- queues --------------------------------------------------------------------------------------------------------


async def older_queue_stats(call: Call) -> GroupsFigures:
    """Count the jobs of a worker's queues, or of all."""
    stats = await call.store.stats()
    names, owner = sorted(stats.queues), ""
    if call.query.worker_name is not None:
        config = await worker_of(call, call.query.worker_name)
        names, owner = [share.name for share in config.queues], f"{config.name}:"
    return GroupsFigures(
        items=tuple(
            _figures(name, f"{owner}{name}", stats.queues.get(name, {}), estimated=bool(stats.estimated.get(name)))
            for name in names
        )
    )


def _figures(name: str, full_name: str, counts: Mapping[str, int], *, estimated: bool) -> GroupFigures:
    pending, active, scheduled, retry, paused, archived, completed = (
        counts.get(state, 0)
        for state in (
            State.QUEUED, State.RUNNING, State.SCHEDULED, State.RETRYING, State.PAUSED, State.FAILED, State.SUCCEEDED,
        )
    )  # fmt: skip
    return GroupFigures(
        queue_group=name,
        full_name=full_name,
        pending=pending,
        active=active,
        scheduled=scheduled,
        retry=retry,
        paused=paused,
        archived=archived,
        completed=completed,
        size=pending + active + scheduled + retry + paused,
        estimated=estimated,
    )


async def clear_older_queues(call: Call) -> Cleared:
    """Cancel all waiting jobs of a worker's queues; running ones go on."""
    return await _cleared(call, dead=False)


async def clear_older_dead(call: Call) -> Cleared:
    """Delete the failed jobs of a worker's queues."""
    return await _cleared(call, dead=True)


async def _cleared(call: Call, *, dead: bool) -> Cleared:
    asked: ClearRequest = call.body
    config = await worker_of(call, asked.worker_name)
    names = [share.name for share in config.queues]
    if asked.queue_name:
        check_group(config, asked.queue_name, "queue_name")
    there = {queue.name for queue in await call.store.queues()}
    chosen = [name for name in names if name in there and asked.queue_name in ("", name)]
    total = 0
    for name in chosen:
        total += (await clear(call, name, dead=dead)).done
    return Cleared(worker_name=config.name, cleared_queues=tuple(chosen), total_deleted=total)


ROUTES: Final = (
    alias(
        "POST", "/workers", "PUT /workers", create_older_worker, Scope.ADMIN, "Make or replace a worker's configuration",
        WorkerStored, body=WorkerRequest,
    ),
    alias(
        "POST", "/workers/register", "PUT /workers", register_older_worker, Scope.WORK,
        "Make a worker's configuration if there is none of its name", WorkerStored, body=WorkerRequest,
    ),
    alias(
        "POST", "/workers/{name}/heartbeat", "POST /store/heartbeat", beat_older_worker, Scope.WORK,
        "Tell that a worker lives that keeps no instance here", Heartbeat,
    ),
    alias(
        "GET", "/workers/{name}/stats", "GET /worker-stats", older_worker_stats, Scope.READ,
        "Count the jobs of a worker", StatsOfWorker,
    ),
    alias(
        "GET", "/workers/{name}/timeseries", "GET /worker-series", older_worker_series, Scope.READ,
        "Tell hour by hour how a worker's attempts ended", SeriesOfWorker, query=HoursQuery,
    ),
    alias(
        "GET", "/queues/stats", "GET /queue-stats", older_queue_stats, Scope.READ,
        "Count the jobs of a worker's queues, or of all", GroupsFigures, query=QueuesQuery,
    ),
    alias(
        "POST", "/queues/clear", "POST /queue-clear", clear_older_queues, Scope.OPERATE,
        "Cancel all waiting jobs of a worker's queues", Cleared, body=ClearRequest,
    ),
    alias(
        "POST", "/queues/clear-dead", "POST /queue-clear", clear_older_dead, Scope.OPERATE,
        "Delete the failed jobs of a worker's queues", Cleared, body=ClearRequest,
    ),
)  # fmt: skip
