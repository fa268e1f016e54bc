"""Keeps the keys of one process: a job enters one, its link is renewed, and at the end it leaves in this order:

    no new job gets it ─► its last job ends ─► its state is closed ─► its link is given up ─► it may be held anew

Each step of a leaving key has an end (`grace`), so that what hangs keeps neither a stop nor a job waiting for ever.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from holdfast.batch import Gatherer
from holdfast.errors import RouterDataError, RouterError, RouterUnavailable, StoreError
from holdfast.job.commands import KeyLink
from holdfast.router import Owner, Want
from holdfast.sticky.holds import Hold, Holds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from holdfast.router import LinkAnswer
    from holdfast.sticky.router import Router
    from holdfast.sticky.service import Sticky
    from holdfast.store import Store

_PAGE: Final = 500
logger: Final = logging.getLogger("holdfast.sticky")


class Keeper:
    """The keys of one process. me: this process as an owner; None as long as it has no number."""

    def __init__(
        self,
        services: Mapping[str, Sticky],
        router: Router,
        store: Store,
        monotonic: Callable[[], float],
        *,
        me: Callable[[], Owner | None],
        grace: float,
    ) -> None:
        self._services, self._router, self._store, self._monotonic = services, router, store, monotonic
        self._me, self._grace = me, grace
        self.holds = Holds(monotonic)
        self._ending: set[asyncio.Task[None]] = set()
        self._wanting: dict[str, int] = {}  # jobs that wait for room, by service
        self._changed = asyncio.Event()
        self._draining = False
        self._given_up: Gatherer[KeyLink, None] = Gatherer(
            self.give_up, batch_max=_PAGE, whole=(RouterError, StoreError)
        )

    # --- a job

    async def enter(self, service: Sticky, key: str, epoch: int) -> Hold | None:
        """Give the hold of a key to a job that was claimed under `epoch`; None when another pod has the key by now.

        Waits while an older state of the key closes, and while the service has as many states as it may have.
        """
        hold = await self._open(service, key, epoch)
        hold.enter()
        self.holds.touch(hold)
        try:
            mine = await self._is_mine(hold)
        except BaseException:
            self.leave(hold)
            raise
        if not mine:
            self._part(hold, ours=False)
            self.leave(hold)
            return None
        return hold

    async def _open(self, service: Sticky, key: str, epoch: int) -> Hold:
        while True:
            hold = self.holds.get((service.name, key))
            if hold is not None and hold.epoch >= epoch:
                return hold
            if hold is not None:
                # Others had the key meanwhile, so what is known of it here is old.
                self._part(hold, ours=False)
            leaving = self.holds.leaving((service.name, key))
            if leaving is not None:
                await leaving.gone.wait()
            elif self.holds.is_full(service):
                await self._make_room(service)
            else:
                hold = Hold(service, key, epoch)
                self.holds.put(hold)
                return hold

    async def _make_room(self, service: Sticky) -> None:
        """Let the key go that was used longest ago, unless enough of them leave already; return when something changed."""
        wanting = self._wanting[service.name] = self._wanting.get(service.name, 0) + 1
        try:
            leaving = sum(hold.service is service and not hold.closed for hold in self.holds.all_leaving())
            unused = self.holds.unused(service) if leaving < wanting else None
            if unused is not None:
                self._part(unused, ours=True)
            await self._changed.wait()
        finally:
            self._wanting[service.name] -= 1

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def leave(self, hold: Hold) -> None:
        """A job has ended."""
        hold.leave()
        self.holds.touch(hold)
        if self._draining and not hold.running:
            self._part(hold, ours=True)
        self._change()

    async def _is_mine(self, hold: Hold) -> bool:
        if self._monotonic() < hold.confirmed:
            self._router.counts.hits += 1
            return True
        self._router.counts.misses += 1
        try:
            return await self._confirm(hold)
        except RouterUnavailable as error:
            # What the store bound runs on: the store has given the key to nobody else.
            logger.warning("service %s: key %r runs unconfirmed: %s", hold.service.name, hold.key, error)
            return True

    async def _confirm(self, hold: Hold) -> bool:
        """Make the router's link ours, for the store says that it is; False: the router knows a newer owner."""
        me, service = self._me(), hold.service
        if me is None:
            return True
        answer = await self._link(hold, Want(me, hold.epoch - 1))
        if not answer.ok and answer.epoch < hold.epoch:
            # The router has lost what the store still knows.
            answer = await self._link(hold, Want(me, hold.epoch - 1, answer.epoch))
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
            hold.confirmed = self._monotonic() + service.ttl / 2
        return answer.ok

    async def _link(self, hold: Hold, want: Want) -> LinkAnswer:
        service = hold.service
        answer = (await self._router.link_many(service.name, {hold.key: want}, service.ttl))[hold.key]
        if isinstance(answer, RouterDataError):
            raise answer
        return answer

    # --- keeping

    async def refresh(self) -> None:
        """Let idle keys go, and lengthen the links of the rest; close what others have now."""
        for hold in self.holds.idle():
            self._part(hold, ours=True)
        me = self._me()
        if me is None:
            return
        for service in self._services.values():
            # One that leaves keeps its link until its state is closed.
            held = [hold for hold in (*self.holds, *self.holds.all_leaving()) if hold.service is service]
            for start in range(0, len(held), _PAGE):
                await self._renew(service, held[start : start + _PAGE], me)

    async def _renew(self, service: Sticky, held: Sequence[Hold], me: Owner) -> None:
        epochs = {hold.key: hold.epoch for hold in held}
        executor, ns = self._router.executor, self._router.options.namespace
        answers = await executor.renew_links(ns, service.name, epochs, me, service.ttl)
        now = self._monotonic()
        lost: list[Hold] = []
        for hold in held:
            answer = answers[hold.key]
            if self.holds.get(hold.address) is not hold or hold.epoch != epochs[hold.key]:
                continue  # it has left meanwhile, or a job has confirmed it anew
            hold.confirmed = 0.0
            if isinstance(answer, RouterDataError):
                logger.error("service %s: key %r: %s", service.name, hold.key, answer)
            elif answer.ok:
                hold.confirmed = now + service.ttl / 2
            elif answer.current is None:
                lost.append(hold)
            elif answer.epoch > hold.epoch and answer.instance != me.instance:
                logger.info("service %s: key %r has moved to pod %s", service.name, hold.key, answer.current)
                self._part(hold, ours=False)
        if lost:
            await self._restore(service, lost, me)

    async def _restore(self, service: Sticky, lost: Sequence[Hold], me: Owner) -> None:
        """The router has no link of these keys. The store knows whether it lost them, or somebody let them go."""
        known = [KeyLink(*hold.address, me.pod, me.instance, hold.epoch) for hold in lost]
        ours: dict[str, Hold] = {}
        for hold, bound in zip(lost, await self._store.bind(known), strict=True):
            if bound.accepted:
                ours[hold.key] = hold
            else:
                logger.info("service %s: key %r is not ours any more: %s", service.name, hold.key, bound.why)
                self._part(hold, ours=False)
        wanted = {key: Want(me, hold.epoch) for key, hold in ours.items()}
        made = {
            key: KeyLink(service.name, key, me.pod, me.instance, answer.epoch)
            for key, answer in (await self._router.link_many(service.name, wanted, service.ttl)).items()
            if not isinstance(answer, RouterDataError) and answer.ok
        }
        for link, bound in zip(made.values(), await self._store.bind(list(made.values())) if made else (), strict=True):
            if bound.accepted:
                ours[link.key].epoch = max(link.epoch, ours[link.key].epoch)

    # --- leaving

    def _part(self, hold: Hold, *, ours: bool) -> None:
        """Let a key leave. ours: its link is given up, for nobody else has it."""
        if not self.holds.leave(hold):
            return
        task = asyncio.get_running_loop().create_task(self._end(hold, ours=ours), name="holdfast-let-go")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, hold: Hold, *, ours: bool) -> None:
        try:
            await hold.end(self._grace)
            self.holds.closed(hold)
            self._change()
            me = self._me()
            if ours and me is not None:
                await self._given_up.put(KeyLink(*hold.address, None, me.instance, hold.epoch))
        finally:
            self.holds.forget(hold)
            self._change()

    async def give_up(self, links: Sequence[KeyLink]) -> list[None]:
        """Tell router and store that these keys have no owner now."""
        me = self._me()
        try:
            for start in range(0, len(links) if me is not None else 0, _PAGE):
                page = links[start : start + _PAGE]
                await asyncio.gather(*(self._router.release(link.service, link.key, me) for link in page))
                await self._store.bind(page)
        except (RouterError, StoreError) as error:
            logger.warning("%d keys are not given up in order, and go with this process: %s", len(links), error)
        return [None] * len(links)

    def let_all_go(self, *, running: bool = False) -> Collection[asyncio.Task[None]]:
        """Let each key leave, at once or when its job ends; from now on none stays. Returns what is not over yet.

        running: also those whose jobs have not ended, after the grace.
        """
        self._draining = True
        for hold in self.holds:
            if running or not hold.running:
                self._part(hold, ours=True)
        return tuple(self._ending)

    def has(self, service: str, key: str) -> bool:
        """Whether a key is held, or leaves and is given up in its time."""
        return self.holds.get((service, key)) is not None or self.holds.leaving((service, key)) is not None
