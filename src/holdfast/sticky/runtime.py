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
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import PodLost, RouterError, RouterUnavailable, StoreError
from holdfast.job.commands import ErrorInfo, Failed, KeyLink, LinkFilter, Released
from holdfast.job.model import InstanceState
from holdfast.router import Owner, Want
from holdfast.sticky.binder import Binder
from holdfast.sticky.heart import PodHeart
from holdfast.sticky.holds import Hold, Holds
from holdfast.sticky.pod import Pod
from holdfast.worker.hooks import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from holdfast.clock import Clock
    from holdfast.job.commands import Beat, Claims, Signals
    from holdfast.job.commands import Want as JobWant
    from holdfast.job.model import Job
    from holdfast.router import StatefulExecutor
    from holdfast.sticky.holds import Address
    from holdfast.sticky.router import Router
    from holdfast.sticky.service import Sticky
    from holdfast.store import Store
    from holdfast.worker.context import Context
    from holdfast.worker.hooks import CallNext
    from holdfast.worker.options import WorkerOptions

#: How often a pod publishes itself and refreshes its links, as a share of its lease.
_BEATS: Final = 3
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
        self.holds = Holds(clock.monotonic)
        self._pod: Pod | None = None
        self._make_executor = make_executor
        self._heart: PodHeart | None = None
        self._started = asyncio.Event()
        self._busy = 0.0
        self._failing: dict[Address, float] = {}  # waiting jobs of these keys fail, if they were made before this time
        self._binder = Binder(store, router, services, me=self._me, failed=self._fail_waiting)
        self._closing: set[asyncio.Task[None]] = set()
        self.source = StickySource(store, self)

    # --- life

    async def __aenter__(self) -> Self:
        """Begin to bind and to publish, once the worker's instance is known."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._binder.run(), name="holdfast-bind"),
            loop.create_task(self._keep_for_ever(), name="holdfast-keys"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The worker has ended: give all keys up, close their states, forget the pod."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        try:
            # A bound on what may hang, so that a stop ends: what is not told ends by itself with the leases.
            async with asyncio.timeout(self._options.lease):
                await self._settle_closing()
                if self._heart is not None:
                    await self._heart.stop()
                if self._pod is not None:
                    await self._give_up(list(self.holds))
                    await self._pod.leave()
                await asyncio.gather(*(hold.close() for hold in self.holds))
        except TimeoutError:
            logger.warning("the sticky services did not end within %g s", self._options.lease)

    async def _settle_closing(self) -> None:
        while self._closing:
            await asyncio.wait(tuple(self._closing))

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
                keys=lambda service: self.holds.count(service) / self._services[service].max_keys,
                busy=lambda: self._busy,
            )
            self._started.set()

    def beaten(self, load: float) -> None:
        """A beat was made; `load` is the share of slots in use. Called from the heart's thread."""
        self._busy = load

    async def _keep_for_ever(self) -> None:
        """Publish the pod, and leave that to its heart; then refresh the links again and again."""
        await self._started.wait()
        assert self._pod is not None, "it has started"
        every = self._options.lease / _BEATS
        while True:
            wait = every
            try:
                if self._heart is None:
                    await self._pod.publish()
                    self._heart = PodHeart(self._pod, self._make_executor, every=every)
                    self._heart.start()
                await self._refresh()
            except (RouterError, StoreError) as error:
                logger.warning("pod %s could not refresh its keys: %s", self._pod.number, error)
                wait = min(1.0, wait)
            await asyncio.sleep(wait)

    # --- keys that are held

    async def _refresh(self) -> None:
        """Let idle keys go, and lengthen the links of the rest; close what others have now."""
        await self._let_go(self.holds.idle())
        me = self._me()
        if me is None:
            return
        for service in self._services.values():
            held = [hold for hold in self.holds if hold.service is service]
            for start in range(0, len(held), _PAGE):
                await self._refresh_some(service, held[start : start + _PAGE], me)

    async def _refresh_some(self, service: Sticky, holds: Sequence[Hold], me: Owner) -> None:
        wanted = {hold.key: Want(me, hold.epoch - 1) for hold in holds}
        ns = self._router.options.namespace
        answers = await self._router.executor.link_pods(ns, service.name, wanted, service.ttl)
        now = self._clock.monotonic()
        for hold in holds:
            answer = answers[hold.key]
            if answer.ok and answer.epoch == hold.epoch:
                hold.confirmed = now + service.ttl / 2
            elif not answer.ok and answer.epoch > hold.epoch:
                logger.info("service %s: key %r has moved to pod %s", service.name, hold.key, answer.current)
                self._close_later(hold)
            else:
                hold.confirmed = 0.0  # the router lost the link: the next job confirms it under a new epoch

    def _close_later(self, hold: Hold) -> None:
        """Drop a key, and close its state as soon as no job uses it."""
        self.holds.drop(hold)
        if not hold.running and not hold.closed:
            task = asyncio.get_running_loop().create_task(hold.close(), name="holdfast-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _let_go(self, holds: Sequence[Hold]) -> None:
        """Give keys up that are not needed, and close their states."""
        for hold in holds:
            self._close_later(hold)
        if holds:
            await self._give_up(holds)

    async def _give_up(self, holds: Sequence[Hold]) -> None:
        """Tell store and router that these keys have no owner now."""
        me = self._me()
        if me is None:
            return
        await self._give_up_links([KeyLink(*hold.address, None, me.instance, hold.epoch) for hold in holds], me)

    async def _give_up_links(self, links: Sequence[KeyLink], me: Owner) -> None:
        try:
            for start in range(0, len(links), _PAGE):
                page = links[start : start + _PAGE]
                await asyncio.gather(*(self._router.release(link.service, link.key, me) for link in page))
                await self._store.bind(page)
        except (RouterError, StoreError) as error:
            logger.warning("%d keys are not given up in order, and go with this process: %s", len(links), error)

    async def hand_over(self) -> None:
        """The worker drains: take no new keys, give up all whose jobs do not run."""
        assert self._pod is not None, "it has started"
        try:
            await self._pod.deny()
        except RouterError as error:
            logger.warning("pod %s could not say that it drains: %s", self._pod.number, error)
        if self._heart is not None:
            self._heart.poke()  # it may have been telling what was so before
        me = self._me()
        if me is None:
            return
        running = {hold.address for hold in self.holds if hold.running}
        after: tuple[str, str] | None = None
        while True:
            # By service and key, so that what is given up meanwhile leaves no gap.
            found = await self._store.links(LinkFilter(instance=me.instance, after=after, limit=_PAGE))
            if not found:
                break
            after = (found[-1].service, found[-1].key)
            links = [link for link in found if link.pod is not None and (link.service, link.key) not in running]
            await self._give_up_links(
                [KeyLink(link.service, link.key, None, me.instance, link.epoch) for link in links], me
            )
        for hold in self.holds:
            if not hold.running:
                self._close_later(hold)

    def draining(self) -> None:
        """The worker begins to drain."""
        if self._pod is not None:
            task = asyncio.get_running_loop().create_task(self.hand_over(), name="holdfast-hand-over")
            self._closing.add(task)
            task.add_done_callback(self._handed_over)

    def _handed_over(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the keys could not be handed over: %s", error)

    def _fail_waiting(self, address: Address) -> None:
        self._failing[address] = self._store.now()

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
        hold = await self._enter(service, job)
        if hold is None:
            return Released("its key has moved to another pod", counted=False)
        hold.running += 1
        self.holds.touch(hold)
        try:
            ctx.give_local(await hold.state(), hold.epoch)
            return await call_next()
        finally:
            hold.running -= 1
            self.holds.touch(hold)
            if self.holds.get(hold.address) is not hold:
                self._close_later(hold)
            await self._let_go(self.holds.excess(service))

    async def _enter(self, service: Sticky, job: Job) -> Hold | None:
        """Return the hold of a job's key, confirmed; None when another pod has the key by now."""
        assert job.key is not None, "a sticky job has a key"
        hold = self.holds.get((service.name, job.key))
        if hold is not None and hold.epoch != job.pod_epoch:
            # Others had the key meanwhile, so what is known of it here is old.
            self._close_later(hold)
            hold = None
        if hold is None:
            hold = Hold(service, job.key, job.pod_epoch)
            self.holds.put(hold)
        if self._clock.monotonic() < hold.confirmed:
            return hold
        try:
            mine = await self._confirm(hold)
        except RouterUnavailable as error:
            # What the store bound runs on: the store has given the key to nobody else.
            logger.warning("service %s: key %r runs unconfirmed: %s", service.name, job.key, error)
            mine = True
        if not mine:
            self._close_later(hold)
            return None
        return hold

    async def _confirm(self, hold: Hold) -> bool:
        """Make the router's link ours, for the store says that it is; False: the router knows a newer owner."""
        me, service, ns = self._me(), hold.service, self._router.options.namespace
        if me is None:
            return True
        executor, where = self._router.executor, (ns, hold.key, service.name)
        answer = await executor.set_linked_pod_if_absent(*where, me, service.ttl, floor=hold.epoch - 1)
        if not answer.ok and answer.epoch < hold.epoch:
            older = answer.epoch  # the router has lost what the store still knows
            answer = await executor.try_set_linked_pod(*where, me, service.ttl, replaces=older, floor=hold.epoch - 1)
        owner = me if answer.ok else Owner(answer.current or 0, answer.instance)
        if answer.epoch != hold.epoch:
            link = KeyLink(service.name, hold.key, owner.pod, owner.instance, answer.epoch)
            [bound] = await self._store.bind([link])
            if not bound.accepted:
                self._router.forget(service.name, hold.key, floor=bound.link.epoch)
                # If nobody else has it there, this job is still its owner's.
                return bound.link.instance == me.instance
            hold.epoch = answer.epoch
        if answer.ok:
            hold.confirmed = self._clock.monotonic() + service.ttl / 2
        return answer.ok


class StickySource:
    """The store as a worker with sticky services sees it: claims and beats say more, answers name keys to bind."""

    def __init__(self, store: Store, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime

    async def claim(self, want: JobWant) -> Claims[Job]:
        """Claim, also for the keys of this process."""
        runtime = self._runtime
        runtime.started(want.instance)
        claims = await self._store.claim(msgspec.structs.replace(want, pod=runtime.pod, sticky=runtime.services))
        if claims.ownerless:
            runtime._binder.add(claims.ownerless)
        return claims

    async def heartbeat(self, beat: Beat) -> Signals:
        """Beat, as a pod."""
        return await self._store.heartbeat(self._told(beat))

    def _told(self, beat: Beat) -> Beat:
        self._runtime.beaten(beat.instance.load)
        if self._runtime.pod is None:
            return beat
        instance = msgspec.structs.replace(beat.instance, pod=self._runtime.pod)
        return msgspec.structs.replace(beat, instance=instance)

    def beat_source(self) -> Any:
        """What the heart's thread beats through: the store's own way for that, if it has one."""
        make: Callable[[], Any] | None = getattr(self._store, "beat_source", None)
        return self if make is None else _Beats(make(), self._told)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's."""
        return getattr(self._store, name)


class _Beats:
    """The store's way to beat from another thread, with the pod's number in each beat."""

    def __init__(self, source: Any, told: Callable[[Beat], Beat]) -> None:
        self._source, self._told = source, told

    async def heartbeat(self, beat: Beat) -> Signals:
        answer: Signals = await self._source.heartbeat(self._told(beat))
        return answer

    async def close(self) -> None:
        await self._source.close()


class Drains(Observer):
    """Tells the runtime when its worker begins to drain."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def moved(self, state: InstanceState) -> None:
        """The worker is starting, ready, draining or stopped."""
        if state is InstanceState.DRAINING:
            self._runtime.draining()
