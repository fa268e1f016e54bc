"""Gives keys to pods: the router chooses, the store fences.

A claim names keys whose next job waits for an owner. Every worker that is told asks the router, so all get the same
answer, and writes it to the store. A refusal means that the store knows more: a newer epoch (then the next link must be
above it), or that the process does not live (then the router will know soon, when its state ends).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from holdfast.errors import RouterDataError, RouterError, StoreError
from holdfast.job.commands import KeyLink
from holdfast.router import Owner, Want, is_available
from holdfast.sticky.router import Route
from holdfast.sticky.service import OnLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from holdfast.sticky.holds import Address
    from holdfast.sticky.router import Router
    from holdfast.sticky.service import Sticky
    from holdfast.store import Store

_BATCH: Final = 1_000
#: Seconds until a key that could not be given is tried again, at first and at most.
_SOON, _LATE = 0.05, 1.0
logger: Final = logging.getLogger("holdfast.sticky")


class Binder:
    """Works off the keys that wait for an owner.

    failed: told of a key whose jobs shall fail that were enqueued until a time (seconds since the epoch).
    """

    def __init__(
        self,
        store: Store,
        router: Router,
        services: Mapping[str, Sticky],
        *,
        me: Callable[[], Owner | None],
        failed: Callable[[Address, float], None],
    ) -> None:
        self._store, self._router, self._services = store, router, services
        self._me, self._failed = me, failed
        self._waiting: dict[Address, KeyLink] = {}
        self._wake = asyncio.Event()
        self._told: set[Address] = set()
        self.bound = self.refused = 0

    def add(self, keys: Iterable[KeyLink]) -> None:
        """Take keys that wait for an owner, as the store last knew them."""
        for link in keys:
            self._waiting[link.service, link.key] = link
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. While router or store are away, keys wait and jobs with them; nothing is lost."""
        pause = _SOON
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting.pop(address) for address in list(self._waiting)[:_BATCH]]
            try:
                left = await self._bind(batch)
            except (RouterError, StoreError) as error:
                logger.warning("keys wait for an owner: %s", error)
                left = batch
            if not left:
                pause = _SOON
                continue
            for link in left:
                self._waiting.setdefault((link.service, link.key), link)
            if len(left) == len(batch):
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LATE)

    async def _bind(self, batch: Sequence[KeyLink]) -> list[KeyLink]:
        """Give keys to pods; return those that have to wait."""
        by_service: dict[str, list[KeyLink]] = defaultdict(list)
        for link in batch:
            by_service[link.service].append(link)
        left: list[KeyLink] = []
        links: list[KeyLink] = []
        for name, keys in by_service.items():
            routes = await self._routes(self._services[name], keys)
            for link in keys:
                route = routes.get(link.key)
                if isinstance(route, Route):
                    links.append(KeyLink(name, link.key, route.pod, route.instance, route.epoch))
                    self._told.discard((name, link.key))
                else:
                    self._tell(name, link.key, route)
                    left.append(link)
        return left + await self._store_links(links)

    def _tell(self, service: str, key: str, why: Exception | None) -> None:
        """Say once of a key why it gets no owner, if that will not pass by itself; its jobs wait."""
        if isinstance(why, RouterDataError) and (service, key) not in self._told:
            self._told.add((service, key))
            logger.error("service %s: key %r gets no owner, its jobs wait: %s", service, key, why)

    async def _routes(self, service: Sticky, keys: Sequence[KeyLink]) -> Mapping[str, Route | Exception]:
        # Whoever has given its key up, as a draining pod does, was not lost with it.
        lost = [link for link in keys if link.pod is not None and service.on_lost is not OnLost.REBIND]
        free = [link for link in keys if link not in lost] if lost else keys
        for link in keys:
            # What the store knows of a key is newer than what the router may have lost.
            self._router.forget(service.name, link.key, floor=link.epoch)
        routes: dict[str, Route | Exception] = {}
        if free:
            routes.update(await self._router.find_many(service.name, [link.key for link in free]))
        if lost and service.on_lost is OnLost.WAIT:
            routes.update(await self._same_pod(service, lost))
        elif lost:
            routes.update(await self._to_me(service, lost))
        return routes

    async def _same_pod(self, service: Sticky, keys: Sequence[KeyLink]) -> Mapping[str, Route | Exception]:
        """Give keys to the new incarnation of the pod that had them; those whose pod is not back wait."""
        pods = await self._router.pods(service.name)
        owners = {}
        for link in keys:
            state = None if link.pod is None else pods.get(link.pod)
            if state is not None and is_available(state):
                owners[link.key] = Owner(state.pod, state.instance)
        return await self._take(service, keys, owners)

    async def _to_me(self, service: Sticky, keys: Sequence[KeyLink]) -> Mapping[str, Route | Exception]:
        """Take keys of a lost pod whose waiting jobs shall fail: this process fails them."""
        me = self._me()
        if me is None:
            return {}
        routes = await self._take(service, keys, {link.key: me for link in keys})
        lost_at = await self._lost_at()
        for link in keys:
            route = routes.get(link.key)
            if isinstance(route, Route) and route.instance == me.instance:
                self._failed((service.name, link.key), lost_at.get(link.instance, 0.0))
        return routes

    async def _lost_at(self) -> Mapping[str, float]:
        """Until when a job may have waited for each process: to the end of its lease, as its loss is known from then on.

        A key of which no job waited is found lost by the next one that comes, maybe hours later: that one runs.
        """
        now = self._store.now()
        return {one.id: min(now, one.heartbeat_at + one.lease) for one in await self._store.instances()}

    async def _take(
        self, service: Sticky, keys: Sequence[KeyLink], owners: Mapping[str, Owner]
    ) -> Mapping[str, Route | Exception]:
        executor, ns = self._router.executor, self._router.options.namespace
        stored = await executor.links(ns, list(owners), service.name)
        found: dict[str, Route | Exception] = {}
        wanted: dict[str, Want] = {}
        for link in keys:
            stands = stored.get(link.key)
            if isinstance(stands, RouterDataError):
                found[link.key] = stands
            elif link.key in owners:
                wanted[link.key] = Want(owners[link.key], link.epoch, stands.epoch if stands is not None else None)
        for key, answer in (await self._router.link_many(service.name, wanted)).items():
            if isinstance(answer, RouterDataError):
                found[key] = answer
            elif answer.ok and answer.current is not None:
                found[key] = Route(answer.current, answer.instance, answer.epoch, 0.0)
        return found

    async def _store_links(self, links: list[KeyLink]) -> list[KeyLink]:
        """Write links to the store; return those that it refused, to be tried again."""
        if not links:
            return []
        left = []
        for link, answer in zip(links, await self._store.bind(links), strict=True):
            if answer.accepted:
                self.bound += 1
                continue
            self.refused += 1
            self._router.forget(link.service, link.key, floor=answer.link.epoch)
            logger.debug("service %s: key %r waits: %s", link.service, link.key, answer.why)
            left.append(answer.link)
        return left
