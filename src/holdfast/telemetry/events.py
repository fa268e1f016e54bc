"""What is logged, each event once: what the store was seen to do, and what only a worker sees.

The plain life of a job is logged at DEBUG; what somebody may have to look at, at WARNING. Payloads, results and headers are
never logged.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from holdfast.job.commands import Accepted
from holdfast.job.state import State
from holdfast.telemetry.observer import StoreObserver
from holdfast.worker.hooks import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.commands import Claims, Ending, Enqueued, Order, Ordered, Rescued, Settled, Settlement, Want
    from holdfast.job.model import InstanceState
    from holdfast.telemetry.observer import Gone
    from holdfast.worker.context import Context

_store: Final = logging.getLogger("holdfast.store")
_worker: Final = logging.getLogger("holdfast.worker")

#: How an attempt is told by the state that it put its job into; every other state is told at DEBUG.
_TOLD: Final = {
    State.FAILED: (logging.WARNING, "job gave up"),
    State.CANCELED: (logging.INFO, "job canceled"),
    State.SUCCEEDED: (logging.DEBUG, "job succeeded"),
    State.RETRYING: (logging.DEBUG, "job retries"),
    State.SCHEDULED: (logging.DEBUG, "job snoozed"),
    State.QUEUED: (logging.DEBUG, "job released"),
}


def _say(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    if logger.isEnabledFor(level):
        logger.log(
            level, event, extra={"fields": {name: value for name, value in fields.items() if value not in ("", None)}}
        )


class StoreLog(StoreObserver):
    """Logs what happens at the front door."""

    def opened(self, seconds: float) -> None:
        """The store is ready."""
        _say(_store, logging.INFO, "store opened", seconds=round(seconds, 3))

    def enqueued(self, answers: Sequence[Enqueued]) -> None:
        """Jobs came."""
        if _store.isEnabledFor(logging.DEBUG):
            for answer in answers:
                job = answer.job
                _say(
                    _store,
                    logging.DEBUG,
                    "job enqueued",
                    job=job.id,
                    task=job.task,
                    queue=job.queue,
                    verdict=answer.verdict,
                )

    def claimed(self, want: Want, claims: Claims[Any]) -> None:
        """Jobs were handed out."""
        if _store.isEnabledFor(logging.DEBUG):
            for claim in claims.items:
                _say(_store, logging.DEBUG, "job claimed", **_who(claim), instance=want.instance)

    def settled(self, settlements: Sequence[Settlement[Any]], answers: Sequence[Settled]) -> None:
        """Attempts ended."""
        if _store.isEnabledFor(logging.WARNING):
            plain = not _store.isEnabledFor(logging.DEBUG)  # then a job that succeeded is not told, and costs no call
            for settlement, answer in zip(settlements, answers, strict=True):
                if plain and answer.state is State.SUCCEEDED and answer.accepted is Accepted.APPLIED:
                    continue
                self._ended(settlement, answer)

    def _ended(self, settlement: Settlement[Any], answer: Settled) -> None:
        claim, ending = settlement.claim, settlement.ending
        kind = str(type(ending).__struct_config__.tag)
        if answer.accepted is Accepted.STALE:
            _say(_store, logging.WARNING, "stale outcome refused", **_who(claim), token=claim.token, outcome=kind)
        elif answer.accepted is Accepted.APPLIED and answer.state in _TOLD:
            level, event = _TOLD[answer.state]
            error = getattr(ending, "error", None)
            _say(
                _store,
                level,
                event,
                **_who(claim),
                outcome=kind,
                seconds=None if settlement.duration is None else round(settlement.duration, 6),
                error=f"{error.type}: {error.text}" if error else getattr(ending, "reason", ""),
                trace=settlement.trace_id,
            )

    def gone(self, attempts: Sequence[Gone]) -> None:
        """Attempts were ended by the store."""
        for one in attempts:
            _say(
                _store,
                logging.WARNING,
                f"attempt {one.end.value}",
                job=one.id,
                task=one.task,
                queue=one.queue,
                attempt=one.number,
                state=one.state.value,
                reason=one.reason,
            )

    def rescued(self, rescued: Rescued) -> None:
        """Workers were found to be lost."""
        for instance in rescued.instances_lost:
            _say(_store, logging.WARNING, "worker process lost", instance=instance)

    def ordered(self, order: Order, answer: Ordered) -> None:
        """An operator acted on jobs."""
        if not order.preview:
            action = str(type(order.action).__struct_config__.tag)
            counts = {"matched": answer.matched, "done": answer.done, "refused": answer.refused}
            _say(_store, logging.INFO, "order", action=action, who=order.who, **counts)

    def changed(self, what: str, name: str, who: str) -> None:
        """Something was changed by a person or a program."""
        level = logging.DEBUG if what == "fire_schedule" else logging.INFO
        _say(_store, level, what.replace("_", " "), name=name, who=who)


def _who(claim: Any) -> dict[str, object]:
    return {"job": claim.id, "task": claim.task, "queue": claim.queue, "attempt": claim.attempt}


class WorkerLog(Observer):
    """Logs what only a worker sees. Failed attempts and errors of the worker are told by its alarm."""

    def moved(self, state: InstanceState) -> None:
        """The worker is in another state."""
        _say(_worker, logging.INFO, f"worker {state.value}", pid=os.getpid())

    def lost(self, ctx: Context) -> None:
        """A claim was over while its handler ran."""
        _say(_worker, logging.WARNING, "claim lost, handler stopped", **_who(ctx))

    def abandoned(self, ctx: Context, ending: Ending | None) -> None:
        """A handler would not stop."""
        _say(_worker, logging.WARNING, "handler abandoned: it did not stop when it was cancelled", **_who(ctx))

    def returned_late(self, ctx: Context) -> None:
        """It stopped after all."""
        _say(_worker, logging.INFO, "abandoned handler returned; its outcome is dropped", **_who(ctx))
