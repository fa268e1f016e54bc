"""A worker with sticky services: it is a pod, binds keys that wait, and gives each job the state of its key.

    claim ──► keys without an owner ──► binder ──► router, store
      │
      └─► job of a key of ours ──► confirm the link ──► build the state, once ──► handler with ctx.local and ctx.epoch

The worker itself knows none of this: it is given a source that adds what a claim and a beat must say, a middleware, and
an observer that hears when the worker drains.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from holdfast.errors import PodLost, RouterError, StoreError
from holdfast.job.commands import ErrorInfo, Failed, KeyLink, LinkFilter, Released
from holdfast.job.model import InstanceState
from holdfast.sticky.binder import Binder
from holdfast.sticky.heart import PodHeart
from holdfast.sticky.keeper import Keeper
from holdfast.sticky.pod import Pod
from holdfast.sticky.source import StickySource
from holdfast.worker.hooks import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from holdfast.clock import Clock
    from holdfast.job.model import Job
    from holdfast.router import Owner, StatefulExecutor
    from holdfast.sticky.holds import Address
    from holdfast.sticky.router import Router
    from holdfast.sticky.service import Sticky
    from holdfast.store import Store
    from holdfast.worker.context import Context
    from holdfast.worker.hooks import CallNext
    from holdfast.worker.options import WorkerOptions

#: How often a pod publishes itself and refreshes its links, as a share of its lease.
_BEATS: Final = 3
#: Seconds: the least time between two rounds of refreshing links, and that a state may take to close.
_ROUND_LEAST: Final = 0.3
_GRACE_LEAST: Final = 1.0
_PAGE: Final = 500
logger: Final = logging.getLogger("holdfast.sticky")


class Runtime:
    """Everything that sticky services need beside one worker. Enter it before the worker, leave it after."""

    def __init__(
        self,
        services: Mapping[str, Sticky],
        router: Router,
        store: Store,
        options: WorkerOptions,
        clock: Clock,
        *,
        make_executor: Callable[[], StatefulExecutor],
    ) -> None:
        """make_executor: makes another executor on the same links, for the loop of the pod's heart."""
        self._services, self._router, self._store = services, router, store
        self._options, self._clock = options, clock
        #: Seconds that a state may take to close: as long as handlers may, within what a pod is believed for.
        self._grace = max(_GRACE_LEAST, min(options.grace, options.lease))
        self._keeper = Keeper(services, router, store, clock.monotonic, me=self._me, grace=self._grace)
        self._pod: Pod | None = None
        self._make_executor = make_executor
        self._heart: PodHeart | None = None
        self._started = asyncio.Event()
        self._busy = 0.0
        self._failing: dict[Address, float] = {}  # waiting jobs of these keys fail, if they were made before this time
        self._binder = Binder(store, router, services, me=self._me, failed=self._fail_waiting)
        self._handing_over: asyncio.Task[None] | None = None
        self.source = StickySource(store, self)

    # --- life

    async def __aenter__(self) -> Self:
        """Begin to bind and to publish, once the worker's instance is known."""
        loop = asyncio.get_running_loop()
        self._binding = loop.create_task(self._binder.run(), name="holdfast-bind")
        self._keeping = loop.create_task(self._keep_for_ever(), name="holdfast-keys")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The worker has ended: close all states, give their keys up, forget the pod."""
        bound = self._grace + self._options.lease
        try:
            # A bound on what may hang, so that a stop ends: what is not told ends by itself with the leases.
            async with asyncio.timeout(bound):
                await _cancelled(self._binding)
                if self._handing_over is not None:
                    await asyncio.wait((self._handing_over,))
                while ending := self._keeper.let_all_go(running=True):
                    await asyncio.wait(ending)
                # Until here links are lengthened and the pod is told of: who closes a state has its key.
                await _cancelled(self._keeping)
                if self._heart is not None:
                    await self._heart.stop()
                if self._pod is not None:
                    await self._pod.leave()
        except TimeoutError:
            logger.warning("the sticky services did not end within %g s", bound)
        finally:
            self._keeping.cancel()

    # --- the pod

    def _me(self) -> Owner | None:
        return self._pod.owner if self._pod is not None and self._pod.number is not None else None

    @property
    def pod(self) -> int | None:
        """The number of this pod; None until it has one."""
        return self._pod.number if self._pod is not None else None

    @property
    def services(self) -> tuple[str, ...]:
        """The services whose keys this worker can own."""
        return tuple(self._services)

    def started(self, instance: str) -> None:
        """The worker's process is `instance`."""
        if self._pod is None:
            self._pod = Pod(
                self._router,
                self.services,
                instance,
                number=self._options.pod,
                lease=self._options.lease,
                keys=lambda service: self._keeper.holds.count(service) / self._services[service].max_keys,
                busy=lambda: self._busy,
            )
            self._started.set()

    def wait_for_owner(self, keys: Iterable[KeyLink]) -> None:
        """These keys wait for an owner."""
        self._binder.add(keys)

    def beaten(self, load: float) -> None:
        """A beat was made; `load` is the share of slots in use. Called from the heart's thread."""
        self._busy = load

    async def _keep_for_ever(self) -> None:
        """Publish the pod, and leave that to its heart; then refresh the links again and again."""
        await self._started.wait()
        assert self._pod is not None, "it has started"
        every = self._options.lease / _BEATS
        # Links live as long as their service's ttl, states as long as the lease.
        rounds = max(_ROUND_LEAST, min(every, *(service.ttl / _BEATS for service in self._services.values())))
        while True:
            wait = rounds
            try:
                if self._heart is None:
                    await self._pod.publish()
                    self._heart = PodHeart(self._pod, self._make_executor, every=every)
                    self._heart.start()
                await self._keeper.refresh()
            except (RouterError, StoreError) as error:
                logger.warning("pod %s could not refresh its keys: %s", self._pod.number, error)
                wait = min(1.0, wait)
            await asyncio.sleep(wait)

    # --- the end

    async def hand_over(self) -> None:
        """The worker drains: take no new keys, give up all whose jobs do not run; the rest goes as its jobs end."""
        assert self._pod is not None, "it has started"
        try:
            await self._pod.deny()
        except RouterError as error:
            logger.warning("pod %s could not say that it drains: %s", self._pod.number, error)
        if self._heart is not None:
            self._heart.poke()  # it may have been telling what was so before
        self._keeper.let_all_go()
        me = self._me()
        if me is None:
            return
        after: tuple[str, str] | None = None
        while True:
            # By service and key, so that what is given up meanwhile leaves no gap.
            found = await self._store.links(LinkFilter(instance=me.instance, after=after, limit=_PAGE))
            if not found:
                break
            after = (found[-1].service, found[-1].key)
            free = [link for link in found if link.pod is not None and not self._keeper.has(link.service, link.key)]
            await self._keeper.give_up(
                [KeyLink(link.service, link.key, None, me.instance, link.epoch) for link in free]
            )

    def draining(self) -> None:
        """The worker begins to drain."""
        if self._pod is not None and self._handing_over is None:
            task = asyncio.get_running_loop().create_task(self.hand_over(), name="holdfast-hand-over")
            self._handing_over = task
            task.add_done_callback(_handed_over)

    def _fail_waiting(self, address: Address, until: float) -> None:
        self._failing[address] = until

    # --- a job

    async def around(self, ctx: Context, call_next: CallNext) -> object:
        """The middleware: give a sticky job the state of its key, or give it back when the key has moved."""
        job: Job = ctx.job
        service = self._services.get(job.sticky) if job.sticky is not None else None
        if service is None or job.key is None:
            return await call_next()
        until = self._failing.get((service.name, job.key))
        if until is not None and job.created_at <= until:
            error = PodLost(service.name, job.key)
            return Failed(ErrorInfo(type(error).__qualname__, str(error)), retryable=False)
        hold = await self._keeper.enter(service, job.key, job.pod_epoch)
        if hold is None:
            return Released("its key has moved to another pod", counted=False)
        try:
            ctx.give_local(await hold.state(), hold.epoch)
            return await call_next()
        finally:
            self._keeper.leave(hold)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


def _handed_over(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the keys could not be handed over: %s", error)


class Drains(Observer):
    """Tells the runtime when its worker begins to drain."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def moved(self, state: InstanceState) -> None:
        """The worker is starting, ready, draining or stopped."""
        if state is InstanceState.DRAINING:
            self._runtime.draining()
