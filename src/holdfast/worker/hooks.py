"""What listens to a worker: middleware around attempts, an error handler, observers. All of it costs nothing when absent."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job.content import safe_str
from holdfast.worker.context import Context

if TYPE_CHECKING:
    from holdfast.job.commands import Claims, Ending, Settled, Settlement, Signals
    from holdfast.job.model import InstanceState

CallNext = Callable[[], Awaitable[object]]
Middleware = Callable[[Context, CallNext], Awaitable[object]]
#: Told (queue, job, error); job is None when the error concerns no job. May be async.
OnError = Callable[[str, Any, BaseException], object]

logger: Final = logging.getLogger("holdfast.worker")


class Observer:
    """Listens to the worker: override what you want to hear. Called in the loop, unless said; must return quickly.

    What an observer raises is logged and changes nothing.
    """

    def claimed(self, claims: Claims[Any], asked: int, seconds: float) -> None:
        """A claim call was answered."""

    def started(self, ctx: Context) -> None:
        """A handler is about to start."""

    def settled(self, settlement: Settlement[Any], answer: Settled) -> None:
        """The store has taken an outcome, or refused it as stale: `answer.accepted` tells."""

    def unsettled(self, ctx: Context, error: Exception) -> None:
        """An outcome could not be stored until its lease ended, or was refused for its content: it is given up."""

    def lost(self, ctx: Context) -> None:
        """The claim is over while its handler runs; the handler was cancelled and its outcome is dropped."""

    def abandoned(self, ctx: Context, ending: Ending | None) -> None:
        """A handler did not stop within its grace: its attempt is ended, its slot stays taken."""

    def returned_late(self, ctx: Context) -> None:
        """An abandoned handler has ended after all; what it returned is refused."""

    def beaten(self, signals: Signals, sent: float) -> None:
        """A heartbeat was answered; `sent` is by the monotonic clock."""

    def moved(self, state: InstanceState) -> None:
        """The worker is starting, ready, draining or stopped."""


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that listens. middleware: the first one is the outermost."""

    middleware: Sequence[Middleware] = ()
    on_error: OnError | None = None
    observers: Sequence[Observer] = ()


class Listeners:
    """The observers, sorted by what they listen to: an event that nobody overrides is an empty tuple."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.claimed: tuple[Any, ...] = _who_overrides("claimed", observers)
        self.started: tuple[Any, ...] = _who_overrides("started", observers)
        self.settled: tuple[Any, ...] = _who_overrides("settled", observers)
        self.unsettled: tuple[Any, ...] = _who_overrides("unsettled", observers)
        self.lost: tuple[Any, ...] = _who_overrides("lost", observers)
        self.abandoned: tuple[Any, ...] = _who_overrides("abandoned", observers)
        self.returned_late: tuple[Any, ...] = _who_overrides("returned_late", observers)
        self.beaten: tuple[Any, ...] = _who_overrides("beaten", observers)
        self.moved: tuple[Any, ...] = _who_overrides("moved", observers)


def _who_overrides(event: str, observers: Sequence[Observer]) -> tuple[Any, ...]:
    own = getattr(Observer, event)
    return tuple(getattr(one, event) for one in observers if getattr(type(one), event, own) is not own)


def tell(listeners: tuple[Any, ...], *what: object) -> None:
    """Tell all of `listeners`; what they raise is logged."""
    for listener in listeners:
        try:
            listener(*what)
        except Exception:
            logger.exception("an observer raised; it is told on, and nothing else changes: %r", listener)


class Alarm:
    """Tells `on_error` of every failed attempt and every infrastructure error; logs them when there is none."""

    def __init__(self, on_error: OnError | None, loop: asyncio.AbstractEventLoop) -> None:
        self._on_error, self._loop = on_error, loop
        self._running: set[asyncio.Task[None]] = set()

    def __call__(self, queue: str, job: Any, error: BaseException) -> None:
        """Tell of `error`; `job` is None when it concerns the worker. Never raises."""
        if self._on_error is None:
            log_error(queue, job, error)
            return
        try:
            answer = self._on_error(queue, job, error)
        except Exception:
            logger.exception("on_error raised while it was told of: %s", type(error).__name__)
            return
        if inspect.isawaitable(answer):
            told = self._loop.create_task(_finish(answer), name="holdfast-on-error")
            self._running.add(told)
            told.add_done_callback(self._running.discard)

    async def drain(self) -> None:
        """Wait for async handlers that are still being told."""
        while self._running:
            await asyncio.wait(tuple(self._running))


async def _finish(answer: Awaitable[object]) -> None:
    try:
        await answer
    except Exception:
        logger.exception("on_error raised")


def log_error(queue: str, job: Any, error: BaseException) -> None:
    """What is done with an error when there is no `on_error`."""
    if job is None:
        logger.error("worker: %s", _shown(error))
    elif logger.isEnabledFor(logging.INFO):
        logger.info("job %s of queue %s failed: %s", getattr(job, "id", "?"), queue, _shown(error))


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {safe_str(error)}"
