"""The worker: claims from a source, runs programs, settles. This file joins the parts; each part has its own file.

claimer ─► runner ─► outbox ─► source.settle
  ▲          │ ▲                   │
  └── lanes ◄┘ └─ deadlines        └─► slots of serial queues
heart (a thread) ─► leases: lost, cancel, unheard-of claims
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import uuid
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from holdfast.clock import Clock, SystemClock
from holdfast.errors import UsageError
from holdfast.job.model import Instance, InstanceState
from holdfast.worker.children import Children
from holdfast.worker.claimer import Claimer
from holdfast.worker.deadlines import Deadlines
from holdfast.worker.drain import Drain
from holdfast.worker.heart import Heart, ThreadHeart
from holdfast.worker.held import HeldClaims
from holdfast.worker.hooks import Alarm, Hooks, Listeners, tell
from holdfast.worker.lanes import Lane, Lanes
from holdfast.worker.leases import Leases
from holdfast.worker.options import WorkerOptions
from holdfast.worker.outbox import Outbox
from holdfast.worker.reports import Reports
from holdfast.worker.rescuer import rescue_for_ever
from holdfast.worker.runner import Runner
from holdfast.worker.threads import Threads
from holdfast.worker.timing import LoopTiming, Timing
from holdfast.worker.within import came_true, settle_within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from holdfast.job.commands import Claim, Signals
    from holdfast.job.model import QueueShare, WorkerConfig
    from holdfast.store import Source
    from holdfast.worker.context import Context, Line
    from holdfast.worker.execution import Execution
    from holdfast.worker.program import Programs

T = TypeVar("T")

EXIT_CLEAN: Final = 0
#: Too many handlers would not stop: whoever watches the process should start a new one (sysexits: EX_TEMPFAIL).
EXIT_ZOMBIES: Final = 75


class Worker(Generic[T]):
    """Runs the jobs of a source until it is stopped: `code = await worker.run()`, or `async with worker: …`.

    options are checked here (ConfigError). state: what handlers find as ctx.state. heart: beats for this worker; by default
    a thread of its own. timing, draw: time and chance, for tests. A worker is used once.
    """

    def __init__(
        self,
        source: Source[T],
        programs: Programs[T],
        options: WorkerOptions | None = None,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
        *,
        state: Any = None,
        heart: Heart | None = None,
        timing: Timing | None = None,
        draw: Callable[[], float] = random.random,
        limit: int | None = None,
        once: bool = False,
    ) -> None:
        self.options = (options or WorkerOptions()).checked()
        self.state = state
        self.instance = uuid.uuid4().hex
        self._source, self._programs, self._hooks = source, programs, hooks or Hooks()
        self._clock: Clock = clock or SystemClock()
        self._timing: Timing = timing or LoopTiming(self._clock)
        self._draw, self._limit, self._once = draw, limit, once
        self._heart: Heart = heart or ThreadHeart(
            source,
            lease=self.options.lease,
            every=self.options.beat_every,
            timing=self._timing,
            monotonic=self._clock.monotonic,
        )
        self._lanes = Lanes(self.options)
        self._shares: tuple[QueueShare, ...] = ()  # of the configuration that was taken over last
        self._listeners = Listeners(self._hooks.observers)
        self._drain = Drain(grace=self.options.grace, timing=self._timing, monotonic=self._clock.monotonic)
        self._started_at = self._clock.now()
        self._state = InstanceState.STARTING
        self.exit_code = EXIT_CLEAN

    # --- using it --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Work until stopped; return the exit code: 0, or 75 when abandoned handlers held too many slots."""
        async with self:
            await self._drain.asked()
        return self.exit_code

    async def asked_to_stop(self) -> None:
        """Return when `stop` was called, or the worker wants to end by itself."""
        await self._drain.asked()

    def stop(self) -> None:
        """Go one step further in stopping: drain, then cancel the handlers, then exit now. Call it in the loop."""
        self._drain.ask()

    async def __aenter__(self) -> Self:
        """Begin to work."""
        self._owner = asyncio.current_task()
        self._build(asyncio.get_running_loop())
        self._leases.watch()
        await self._heart.start(self)
        push = getattr(self._source, "on_cancel", None)
        self._end_push: Callable[[], None] = (lambda: None) if push is None else push(self._heart.poke)
        self._move(InstanceState.READY)
        loop = asyncio.get_running_loop()
        self._claiming = loop.create_task(self._claim(), name="holdfast-claim")
        self._rescuing = loop.create_task(
            rescue_for_ever(
                self._source, lease=self.options.lease, timing=self._timing, draw=self._draw, alarm=self._alarm
            ),
            name="holdfast-rescue",
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drain. When the caller was cancelled, handlers are cancelled at once."""
        is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        self._drain.ask(2 if is_cancelled else 1)
        try:
            self._move(InstanceState.DRAINING)
            await self._drain.run(self._claimer, self._claiming, self._runner, self._held, self._outbox, self._reports)
        finally:
            await self._close()

    async def _claim(self) -> None:
        await self._claimer.run()
        if self._once:
            # A pass ends by itself: what was claimed is waited for, without a limit of time.
            await self._held.emptied()
            self._drain.ask(1)

    async def _close(self) -> None:
        self._end_push()
        for task in (self._claiming, self._rescuing):
            task.cancel()
        await asyncio.wait((self._claiming, self._rescuing))
        self._leases.close()
        self._deadlines.close()
        self._threads.close()
        if self._drain.step < 3:
            await self._children.close()
            await self._alarm.drain()
        self._move(InstanceState.STOPPED)
        try:
            await self._heart.stop()
        except TimeoutError as error:
            self._alarm("", None, error)

    # --- what can be seen ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return self._lanes.busy

    @property
    def zombies(self) -> int:
        """How many abandoned handlers still run."""
        return self._runner.zombies

    @property
    def counts(self) -> dict[str, int]:
        """What went wrong so far: stale settles, lost claims, abandoned handlers that returned after all."""
        return {
            "stale": self._outbox.stale,
            "lost": self._runner.lost,
            "returned_late": self._runner.returned_late,
        }

    def overdue_at(self) -> float | None:
        """When (monotonic) the first time limit of a running handler ends; None: none has one. Any thread may ask."""
        return min((e._deadline for e in self._held if e._deadline is not None and not e.ended), default=None)

    def beat_within(self) -> float:
        """How many seconds after a beat the next one must come. Any thread may ask."""
        return self._leases.beat_within

    def describe(self) -> Instance:
        """The record of this instance as of now. Called from the heart's thread as well."""
        options, lanes = self.options, self._lanes
        return Instance(
            id=self.instance,
            worker=options.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=options.version,
            queues=lanes.queues,
            tasks=tuple(sorted(self._programs.aliases())),
            slots=lanes.slots,
            busy=lanes.busy,
            load=lanes.busy / lanes.slots,
            state=self._state,
            pod=options.pod,
            labels=options.labels,
            local=options.local,
            started_at=self._started_at,
            lease=options.lease,
        )

    # --- the heart's body ------------------------------------------------------------------------------------------

    def beaten(self, signals: Signals, sent: float, received: float) -> None:
        """A beat was answered."""
        self._leases.beaten(signals, sent, received)
        self._configure(signals.config)
        self._claimer.enable(signals.enabled)
        if signals.drain and self._drain.step == 0:
            self._drain.ask(1)

    def _configure(self, config: WorkerConfig | None) -> None:
        """Take over what people have changed: which queues, how many jobs at once, with which weight."""
        shares = () if config is None else config.queues
        if shares != self._shares:
            self._shares = shares
            self._lanes.configure(shares)
            self._claimer.look_again()
            self._heart.poke()  # its record has changed

    def beat_failed(self, error: BaseException) -> None:
        """A beat was not answered."""
        self._leases.failed(error)

    # --- the contexts' host ----------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._clock.monotonic()

    def report(self, ctx: Context, value: bytes, update: bytes | None, line: Line | None) -> None:
        """Take a report of a handler, from any thread."""
        execution: Execution = ctx  # type: ignore[assignment]  # every context of this host is an execution
        self._reports.tell(execution, value, update, [] if line is None else [line])

    def settle(self, ctx: Context, outcome: object, tx: object) -> Awaitable[None]:
        """Settle in a handler's own transaction, from any thread."""
        execution: Execution = ctx  # type: ignore[assignment]  # every context of this host is an execution
        return settle_within(self._source, execution, outcome, tx, self._clock.monotonic)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction on the store's database. Raises UsageError for a store that has none."""
        begin: Callable[[], AbstractAsyncContextManager[Any]] | None = getattr(self._source, "transaction", None)
        if begin is None:
            raise UsageError("ctx.transaction: expected a store on a database, found one without transactions.")
        return begin()

    # --- joining the parts -----------------------------------------------------------------------------------------

    def _build(self, loop: asyncio.AbstractEventLoop) -> None:
        options, clock, timing, listeners = self.options, self._clock, self._timing, self._listeners
        monotonic, lease = clock.monotonic, options.lease
        self._held = HeldClaims()
        self._alarm = alarm = Alarm(self._hooks.on_error, loop)
        self._threads = Threads(loop)
        self._children = Children(self._lanes.slots, options, clock)
        self._runner = runner = Runner(
            self._programs,
            self._lanes,
            self._held,
            self._threads,
            options=options,
            middleware=tuple(self._hooks.middleware),
            in_child=self._children.run,
            loop=loop,
            monotonic=monotonic,
            alarm=alarm,
            listeners=listeners,
            is_leaving=self._is_leaving,
            on_zombies=self._too_many_zombies,
            came_true=lambda e: came_true(self._source, e),
        )
        self._reports = Reports(
            self._source, loop=loop, timing=timing, monotonic=monotonic, lease=lease, alarm=alarm, lost=runner.lose
        )
        self._outbox = Outbox(
            self._source,
            self._held,
            self._reports,
            timing=timing,
            monotonic=monotonic,
            lease=lease,
            alarm=alarm,
            listeners=listeners,
            over=runner.settled,
        )
        self._deadlines = Deadlines(monotonic, timing, runner.expired, runner.abandon)
        self._children.reports = self._reports
        runner.join(self._outbox, self._reports, self._deadlines)
        self._build_claiming()

    def _build_claiming(self) -> None:
        self._claimer = Claimer(
            self._source,
            self._lanes,
            self._runner,
            self._outbox,
            instance=self.instance,
            options=self.options,
            clock=self._clock,
            timing=self._timing,
            host=self,
            alarm=self._alarm,
            listeners=self._listeners,
            draw=self._draw,
            left=self._limit,
            once=self._once,
            heard=self._heard,
        )
        self._leases = Leases(
            self._held,
            self._runner,
            lease=self.options.lease,
            timing=self._timing,
            monotonic=self._clock.monotonic,
            host=self,
            nowhere=Lane("", 1, serial=False, weight=1),
            claiming_since=lambda: self._claimer.claiming_since,
            release=self._outbox.add,
            alarm=self._alarm,
            listeners=self._listeners,
        )

    def _heard(self, claims: Sequence[Claim[Any]]) -> None:
        if self._leases.heard(claims):
            self._heart.poke()

    def _move(self, state: InstanceState) -> None:
        self._state = state
        self._heart.poke()
        tell(self._listeners.moved, state)

    def _is_leaving(self) -> bool:
        """Whether the task that holds this worker was cancelled: at its end asyncio.run cancels all tasks alike, and a
        job whose task hears of it first has not failed."""
        return self._owner is not None and self._owner.cancelling() > 0

    def _too_many_zombies(self) -> None:
        if self.exit_code == EXIT_CLEAN:
            self.exit_code = EXIT_ZOMBIES
            self._drain.ask(1)
