"""The router: who has a key now, and who gets it if nobody has.

    cache ─► link ─► is its pod routable? ─► else the best pod by load ─► link it, or replace the dead owner's link ─► cache

- A link in the cache ends before the link itself does, so that no cached answer outlives it.
- A link whose pod is not routable, or restarted since, is replaced by naming its epoch: of many routers that find the
  owner dead one wins, and the others are told who.
- Concurrent look-ups of one key share one answer; look-ups of many keys share round trips.
- States are read from the executor, at most `states_for` seconds old; before a pod is called dead they are read anew.
- While the executor is away, cached links go on, with the states that were known last, for `states_grace` seconds.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.batch import Gatherer
from holdfast.clock import Clock, SystemClock
from holdfast.errors import NoPod, RouterDataError, RouterError, RouterUnavailable
from holdfast.router import (
    PERMANENT,
    Found,
    Link,
    LinkAnswer,
    Linked,
    Owner,
    PodState,
    Want,
    WorkloadState,
    is_routable,
    workload_of,
)
from holdfast.sticky.choice import Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.router import StatefulExecutor

#: How often a look-up begins again when others changed the link under its hands.
_ROUNDS: Final = 5
_CACHE_MAX: Final = 100_000
_PAGE: Final = 1_000


class RouterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. link: of the links it makes. cache: how long an answer is kept at most; always less than its
    link has left. states_for: how old known states may be; states_grace: and while the executor is away."""

    namespace: str = "holdfast"
    link: float = 300.0
    cache: float = 240.0
    states_for: float = 1.0
    states_grace: float = 30.0
    cache_max: int = _CACHE_MAX


class Route(msgspec.Struct, frozen=True, gc=False):
    """Who has a key. until: by the monotonic clock, when this may no longer be believed."""

    pod: int
    instance: str
    epoch: int
    until: float


class Counts(msgspec.Struct):
    """What a router did, ever. hits, misses: keys whose owner was known here, and those that the executor was asked for;
    a job of a held key counts as well."""

    hits: int = 0
    misses: int = 0
    made: int = 0
    moved: int = 0
    refused: int = 0


class _Known(msgspec.Struct, frozen=True):
    pods: Mapping[int, PodState]
    at: float  # monotonic


class Router:
    """Finds and makes links of one namespace. Bound to the loop that uses it first."""

    def __init__(
        self, executor: StatefulExecutor, options: RouterOptions | None = None, *, clock: Clock | None = None
    ) -> None:
        """`executor` is opened and closed by the caller."""
        self.executor, self.options = executor, options or RouterOptions()
        self._clock: Clock = clock or SystemClock()
        self._monotonic: Callable[[], float] = self._clock.monotonic
        self._routes: dict[tuple[str, str], Route] = {}
        self._states: dict[str, _Known] = {}
        self._reading: dict[str, asyncio.Future[_Known]] = {}
        self._asking: dict[tuple[str, str], asyncio.Future[Route]] = {}
        self._gatherers: dict[str, Gatherer[str, Route | Exception]] = {}
        self._choices: dict[str, Choice] = {}
        self._floors: dict[tuple[str, str], int] = {}
        self.counts = Counts()

    # --- looking up

    def cached(self, service: str, uid: str) -> Route | None:
        """The owner of a key, if it is known without asking and its pod is routable as far as known."""
        route = self._routes.get((service, uid))
        if route is None:
            return None
        known = self._states.get(service)
        now = self._monotonic()
        if route.until <= now or known is None or now - known.at > self.options.states_grace:
            return None
        return route if _holds(route.pod, route.instance, known.pods) else None

    async def find(self, service: str, uid: str) -> Route:
        """Return who has a key; link it to the best pod if nobody has. Raises NoPod, RouterUnavailable."""
        route = await self._known_route(service, uid)
        if route is not None:
            return route
        asking = self._asking.get((service, uid))
        if asking is None:
            asking = asyncio.ensure_future(self._ask(service, uid))
            self._asking[service, uid] = asking
            asking.add_done_callback(partial(_over, self._asking, (service, uid)))
        return await asyncio.shield(asking)

    async def _known_route(self, service: str, uid: str) -> Route | None:
        """The cached owner of a key, by states that are not old; counted as a hit or a miss."""
        known = self._states.get(service)
        if known is None or self._monotonic() - known.at > self.options.states_for:
            await self._refreshed(service)
        route = self.cached(service, uid)
        if route is None:
            self.counts.misses += 1
        else:
            self.counts.hits += 1
        return route

    async def _ask(self, service: str, uid: str) -> Route:
        gatherer = self._gatherers.get(service)
        if gatherer is None:

            async def look_up(uids: list[str]) -> list[Route | Exception]:
                found = await self._look_up(service, uids)
                return [found[uid] for uid in uids]

            whole = (RouterUnavailable, RouterError)
            gatherer = self._gatherers[service] = Gatherer(look_up, batch_max=_PAGE, whole=whole)
        answer = await gatherer.put(uid)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def find_many(self, service: str, uids: Sequence[str]) -> dict[str, Route | Exception]:
        """The same for many keys in few round trips; the error of a key that no pod can take stands in its place, and of one
        whose stored value is not ours."""
        found: dict[str, Route | Exception] = {}
        for uid in dict.fromkeys(uids):
            route = await self._known_route(service, uid)
            if route is not None:
                found[uid] = route
        left = [uid for uid in dict.fromkeys(uids) if uid not in found]
        return {**found, **await self._look_up(service, left)} if left else found

    async def _look_up(self, service: str, uids: Sequence[str]) -> dict[str, Route | Exception]:
        found: dict[str, Route | Exception] = {}
        left = list(dict.fromkeys(uids))
        for _ in range(_ROUNDS):
            pods = (await self._refreshed(service)).pods
            links = await self.executor.links(self.options.namespace, left, service)
            if any(isinstance(link, Link) and not _holds(link.pod, link.instance, pods) for link in links.values()):
                # A pod may have come in this second: nobody is called dead by old states.
                pods = (await self._refreshed(service, anew=True)).pods
            left = await self._settle(service, left, links, pods, found)
            if not left:
                return found
        busy = RouterError(f"service {service!r}: its links changed hands {_ROUNDS} times while they were looked up.")
        return {**found, **dict.fromkeys(left, busy)}

    async def _settle(
        self,
        service: str,
        uids: Sequence[str],
        links: Mapping[str, Found],
        pods: Mapping[int, PodState],
        found: dict[str, Route | Exception],
    ) -> list[str]:
        """Put into `found` what is decided; link the rest, and return those that others linked meanwhile to a dead pod."""
        wanted: dict[str, Want] = {}
        for uid in uids:
            link, floor = links.get(uid), self._floors.get((service, uid), 0)
            if isinstance(link, RouterDataError):
                self.counts.refused += 1
                found[uid] = link
                continue
            holds = link is not None and _holds(link.pod, link.instance, pods)
            if link is not None and holds and link.epoch >= floor:
                found[uid] = self._keep(service, uid, link.pod, link.instance, link.epoch, link.seconds_left)
                continue
            # An owner whose epoch was overtaken elsewhere (the executor lost its data) keeps its key under a new one.
            owner = Owner(link.pod, link.instance) if link is not None and holds else self._best(service, pods)
            if owner is None:
                found[uid] = NoPod(service, _why(pods))
                continue
            wanted[uid] = Want(owner, floor, None if link is None else link.epoch)
        answers = await self.link_many(service, wanted)
        again = []
        for uid, answer in answers.items():
            if isinstance(answer, RouterDataError):
                found[uid] = answer
            elif answer.current is not None and _holds(answer.current, answer.instance, pods):
                left = self.options.link if answer.ok else 0.0
                found[uid] = self._keep(service, uid, answer.current, answer.instance, answer.epoch, left)
            else:
                again.append(uid)
        return again

    async def link_many(
        self, service: str, wanted: Mapping[str, Want], seconds: float | None = None
    ) -> dict[str, Linked]:
        """Make links, as wanted, and count them. seconds: how long they last; None: as the options say."""
        if not wanted:
            return {}
        lasts = self.options.link if seconds is None else seconds
        answers = await self.executor.link_pods(self.options.namespace, service, wanted, lasts)
        for answer in answers.values():
            if isinstance(answer, RouterDataError) or not answer.ok:
                self.counts.refused += 1
            elif answer.changed and answer.previous is None:
                self.counts.made += 1
            elif answer.changed:
                self.counts.moved += 1
        return answers

    def _keep(self, service: str, uid: str, pod: int, instance: str, epoch: int, left: float | None) -> Route:
        """Put an answer into the cache, for less time than its link has left (None: for good; 0: not known)."""
        longest = self.options.cache if left is None else min(self.options.cache, left * 0.8)
        route = Route(pod, instance, epoch, self._monotonic() + longest)
        while len(self._routes) >= self.options.cache_max:
            del self._routes[next(iter(self._routes))]
        self._routes[service, uid] = route
        return route

    def _best(self, service: str, pods: Mapping[int, PodState]) -> Owner | None:
        choice = self._choices.get(service)
        if choice is None:
            choice = self._choices[service] = Choice()
        best = choice.best(pods)
        return None if best is None else Owner(best.pod, best.instance)

    def forget(self, service: str, uid: str, *, floor: int = 0) -> None:
        """Believe the cache no more for a key. floor: the epoch that a new link of it must be above."""
        self._routes.pop((service, uid), None)
        if floor > self._floors.get((service, uid), 0):
            self._floors[service, uid] = floor
            while len(self._floors) > self.options.cache_max:
                del self._floors[next(iter(self._floors))]

    # --- states

    async def pods(self, service: str) -> Mapping[int, PodState]:
        """The live pods of a service, as they were at most `states_for` seconds ago."""
        return (await self._refreshed(service)).pods

    async def workload(self, service: str) -> WorkloadState:
        """How a service is, as its live pods say."""
        return workload_of(await self.pods(service), self._clock.now())

    async def _refreshed(self, service: str, *, anew: bool = False) -> _Known:
        known = self._states.get(service)
        if not anew and known is not None and self._monotonic() - known.at <= self.options.states_for:
            return known
        reading = self._reading.get(service)
        if reading is None:
            reading = asyncio.ensure_future(self._read(service))
            self._reading[service] = reading
            reading.add_done_callback(partial(_over, self._reading, service))
        return await asyncio.shield(reading)

    async def _read(self, service: str) -> _Known:
        known = self._states.get(service)
        started = self._monotonic()
        try:
            pods = await self.executor.get_service_state(self.options.namespace, service)
        except RouterUnavailable:
            if known is None or started - known.at > self.options.states_grace:
                raise
            return known
        fresh = self._states[service] = _Known(pods, started)
        return fresh

    # --- steering

    async def owner(self, service: str, uid: str) -> Link | None:
        """The link of a key as it is stored now; None: nobody has it."""
        return await self.executor.get_linked_pod(self.options.namespace, uid, service)

    async def move(self, service: str, uid: str, pod: int) -> LinkAnswer:
        """Give a key to a pod, whoever has it. Raises NoPod when that pod is not there."""
        state = (await self._refreshed(service, anew=True)).pods.get(pod)
        if not is_routable(state) or state is None:
            raise NoPod(service, f"pod {pod} is not routable")
        floor = self._floors.get((service, uid), 0)
        answer = await self.executor.set_linked_pod(
            self.options.namespace, uid, service, Owner(pod, state.instance), self.options.link, floor=floor
        )
        self.forget(service, uid)
        self.counts.moved += 1
        return answer

    async def release(self, service: str, uid: str, owner: Owner | None = None, grace: float = PERMANENT) -> LinkAnswer:
        """End a link, at once or after a grace in seconds; with `owner` only if it is that one's."""
        ns = self.options.namespace
        self.forget(service, uid)
        if owner is None:
            return await self.executor.remove_linked_pod(ns, uid, service, grace)
        return await self.executor.remove_linked_pod_with_id(ns, uid, service, grace, owner)

    async def keys(self, service: str, pod: int, limit: int = _PAGE) -> list[str]:
        """Up to `limit` keys that a pod has."""
        return await self.executor.users_of_pod(self.options.namespace, service, pod, limit)

    async def fail_over(self, service: str, pod: int, limit: int = 1_000_000) -> int:
        """Give the keys of a pod that is not routable to others; return how many moved. Nothing moves from a live pod."""
        moved = 0
        links = await self.executor.links_of_pod(self.options.namespace, service, pod, limit)
        pods = (await self._refreshed(service, anew=True)).pods
        uids = list(links)
        for start in range(0, len(uids), _PAGE):
            page, found = uids[start : start + _PAGE], dict[str, Route | Exception]()
            again = await self._settle(service, page, links, pods, found)
            found.update(await self.find_many(service, again) if again else {})
            for route in found.values():
                if isinstance(route, NoPod):
                    raise route
                moved += isinstance(route, Route) and route.pod != pod
        return moved

    async def close(self) -> None:
        """Finish what is being looked up."""
        for gatherer in self._gatherers.values():
            await gatherer.close()


def _holds(pod: int, instance: str, pods: Mapping[int, PodState]) -> bool:
    """Whether the pod that a link names is there and routable, in the incarnation that the link names."""
    state = pods.get(pod)
    return is_routable(state) and state is not None and (not instance or state.instance == instance)


def _over(asked: dict[Any, asyncio.Future[Any]], name: object, done: asyncio.Future[Any]) -> None:
    """What was asked is answered. Its error is looked at here, since all who asked may have left."""
    asked.pop(name, None)
    if not done.cancelled():
        done.exception()


def _why(pods: Mapping[int, PodState]) -> str:
    if not pods:
        return "no pod has published itself lately"
    return (
        f"{len(pods)} live, but none takes new keys ({', '.join(f'{pod.pod} {pod.routing}' for pod in pods.values())})"
    )
