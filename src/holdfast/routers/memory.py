"""Links and states in this process: for one node, and for tests on a steered clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast import router as port
from holdfast.clock import Clock, SystemClock
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
    is_available,
    is_routable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_LINK: Final = LinkAnswer(ok=False, current=None, previous=None, epoch=0)


class _Stored(msgspec.Struct, frozen=True, gc=False):
    pod: int
    instance: str
    epoch: int
    until: float | None  # None: permanent

    def is_of(self, owner: Owner) -> bool:
        return (self.pod, self.instance) == (owner.pod, owner.instance)


class MemoryExecutor:
    """The StatefulExecutor port in memory. Every call is done in one go, so each is atomic within its loop."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        """`clock` is the machine's unless given."""
        self._clock: Clock = clock or SystemClock()
        self._links: dict[tuple[str, str, str], _Stored] = {}  # (ns, uid, service)
        self._services: dict[tuple[str, str], dict[str, None]] = {}  # (ns, uid) -> permanent ones
        self._users: dict[tuple[str, str, int], dict[str, None]] = {}  # (ns, service, pod)
        self._pods: dict[tuple[str, str], dict[int, PodState]] = {}
        self._workloads: dict[tuple[str, str], WorkloadState] = {}
        self._fields: dict[tuple[str, str, str], _Stored] = {}
        self._epoch = 0

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Keep everything: the next open finds it."""

    def now(self) -> float:
        """The clock's time."""
        return self._clock.now()

    # --- states

    async def set_service_state(self, ns: str, service: str, state: PodState, lease: float) -> None:
        """Publish a pod's state for `lease` seconds."""
        port.check_names(ns, service)
        port.check_state(state)
        port.check_lease(lease)
        now = self.now()
        stored = msgspec.structs.replace(state, updated_at=now, expires_at=now + lease)
        self._pods.setdefault((ns, service), {})[state.pod] = stored

    def _live(self, ns: str, service: str) -> dict[int, PodState]:
        known = self._pods.get((ns, service), {})
        now = self.now()
        # Pods publish themselves from threads of their own meanwhile: what is walked over is a copy.
        for pod in [pod for pod, state in list(known.items()) if state.expires_at <= now]:
            known.pop(pod, None)
        return known

    async def get_service_state(self, ns: str, service: str) -> dict[int, PodState]:
        """All pods whose state is not over."""
        port.check_names(ns, service)
        return dict(sorted(self._live(ns, service).items()))

    async def remove_service_state(self, ns: str, service: str, pod: int, instance: str = "") -> bool:
        """Forget a pod's state."""
        port.check_names(ns, service)
        port.check_pod(pod)
        known = self._live(ns, service)
        if pod not in known or (instance and known[pod].instance != instance):
            return False
        del known[pod]
        return True

    async def allocate_pod(self, ns: str, service: str, instance: str, lease: float) -> int:
        """Take the lowest free number."""
        port.check_names(ns, service, instance, "instance")
        port.check_lease(lease)
        known = self._live(ns, service)
        mine = [pod for pod, state in known.items() if state.instance == instance]
        pod = mine[0] if mine else next(n for n in range(len(known) + 1) if n not in known)
        if not mine:
            pending = PodState(pod=pod, instance=instance, state=port.ServiceState.PENDING)
            await self.set_service_state(ns, service, pending, lease)
        return pod

    async def set_workload_state(self, ns: str, service: str, state: WorkloadState) -> None:
        """Publish a service's state."""
        port.check_names(ns, service)
        self._workloads[ns, service] = msgspec.structs.replace(state, updated_at=self.now())

    async def get_workload_state(self, ns: str, service: str) -> WorkloadState | None:
        """A service's state."""
        port.check_names(ns, service)
        return self._workloads.get((ns, service))

    async def get_workload_states(self, ns: str, services: Sequence[str]) -> dict[str, WorkloadState]:
        """The states of many services."""
        port.check_names(ns, "-")
        found = {service: await self.get_workload_state(ns, service) for service in services}
        return {service: state for service, state in found.items() if state is not None}

    # --- links

    def _find(self, ns: str, uid: str, service: str) -> _Stored | None:
        port.check_names(ns, service, uid)
        link = self._links.get((ns, uid, service))
        if link is not None and link.until is not None and link.until <= self.now():
            self._drop(ns, uid, service)
            return None
        return link

    def _drop(self, ns: str, uid: str, service: str) -> None:
        old = self._links.pop((ns, uid, service), None)
        if old is not None:
            self._users[ns, service, old.pod].pop(uid, None)
        permanent = self._services.get((ns, uid), {})
        permanent.pop(service, None)
        if not permanent:
            self._services.pop((ns, uid), None)

    def _put(self, ns: str, uid: str, service: str, stored: _Stored) -> None:
        self._drop(ns, uid, service)
        self._links[ns, uid, service] = stored
        self._users.setdefault((ns, service, stored.pod), {})[uid] = None
        if stored.until is None:
            self._services.setdefault((ns, uid), {})[service] = None

    def _next_epoch(self, least: int) -> int:
        # One counter for all links: a link that was removed leaves no epoch behind.
        self._epoch = max(self._epoch + 1, least + 1, int(self.now() * 1e6))
        return self._epoch

    def _save(
        self, ns: str, uid: str, service: str, owner: Owner, seconds: float, floor: int, *, shorten: bool
    ) -> LinkAnswer:
        """Link to `owner`. The epoch grows unless it has the link already."""
        old = self._find(ns, uid, service)
        until = None if seconds == PERMANENT else self.now() + seconds
        if old is not None and old.is_of(owner) and old.epoch > floor:
            if not shorten:
                until = _later(old.until, until)
            epoch = old.epoch
        else:
            epoch = self._next_epoch(max(floor, old.epoch if old else 0))
        self._put(ns, uid, service, _Stored(owner.pod, owner.instance, epoch, until))
        changed = old is None or not old.is_of(owner)
        return LinkAnswer(True, owner.pod, old.pod if old else None, epoch, owner.instance, changed)

    async def set_linked_pod(
        self, ns: str, uid: str, service: str, owner: Owner, persist_seconds: float, *, floor: int = 0
    ) -> LinkAnswer:
        """Link, whatever there was."""
        _check(owner, persist_seconds)
        return self._save(ns, uid, service, owner, persist_seconds, floor, shorten=True)

    async def try_set_linked_pod(
        self,
        ns: str,
        uid: str,
        service: str,
        owner: Owner,
        persist_seconds: float,
        *,
        replaces: int | None = None,
        floor: int = 0,
    ) -> LinkAnswer:
        """Link if the rules let it."""
        _check(owner, persist_seconds)
        old = self._find(ns, uid, service)
        if old is not None and not old.is_of(owner):
            confirms = persist_seconds == PERMANENT and old.until is not None
            if not (old.epoch == replaces if replaces is not None else confirms):
                return _refused(old)
        return self._save(ns, uid, service, owner, persist_seconds, floor, shorten=False)

    async def set_linked_pod_if_absent(
        self, ns: str, uid: str, service: str, owner: Owner, persist_seconds: float, *, floor: int = 0
    ) -> LinkAnswer:
        """Link if there is none."""
        _check(owner, persist_seconds)
        old = self._find(ns, uid, service)
        if old is not None and not old.is_of(owner):
            return _refused(old)
        return self._save(ns, uid, service, owner, persist_seconds, floor, shorten=False)

    async def link_pods(
        self, ns: str, service: str, wanted: Mapping[str, Want], persist_seconds: float
    ) -> dict[str, Linked]:
        """Link many uids at once."""
        port.check_names(ns, service)
        answers: dict[str, Linked] = {}
        for uid, want in wanted.items():
            where = (ns, uid, service, want.owner, persist_seconds)
            if want.replaces is None:
                answers[uid] = await self.set_linked_pod_if_absent(*where, floor=want.floor)
            else:
                answers[uid] = await self.try_set_linked_pod(*where, replaces=want.replaces, floor=want.floor)
        return answers

    async def renew_links(
        self, ns: str, service: str, epochs: Mapping[str, int], owner: Owner, persist_seconds: float
    ) -> dict[str, Linked]:
        """Lengthen links that `owner` has."""
        port.check_names(ns, service)
        _check(owner, persist_seconds)
        answers: dict[str, Linked] = {}
        for uid, epoch in epochs.items():
            old = self._find(ns, uid, service)
            if old is None or not old.is_of(owner) or old.epoch != epoch:
                answers[uid] = _NO_LINK if old is None else _refused(old)
            else:
                answers[uid] = self._save(ns, uid, service, owner, persist_seconds, 0, shorten=False)
        return answers

    async def get_linked_pod(self, ns: str, uid: str, service: str) -> Link | None:
        """The link of a uid."""
        link = self._find(ns, uid, service)
        if link is None:
            return None
        left = None if link.until is None else link.until - self.now()
        return Link(link.pod, link.epoch, link.instance, left)

    async def get_linked_pod_if_persist(self, ns: str, uid: str, service: str) -> Link | None:
        """The link, only if it is permanent."""
        link = await self.get_linked_pod(ns, uid, service)
        return link if link is not None and link.permanent else None

    async def remove_linked_pod(self, ns: str, uid: str, service: str, persist_seconds: float) -> LinkAnswer:
        """Remove a link, now or after a grace."""
        return self._remove(ns, uid, service, persist_seconds, lambda _: True)

    async def remove_linked_pod_with_id(
        self, ns: str, uid: str, service: str, persist_seconds: float, owner: Owner
    ) -> LinkAnswer:
        """Remove a link that is `owner`'s."""
        port.check_owner(owner)
        return self._remove(
            ns, uid, service, persist_seconds, lambda old: old.is_of(owner) if owner.instance else old.pod == owner.pod
        )

    def _remove(self, ns: str, uid: str, service: str, seconds: float, may: Callable[[_Stored], bool]) -> LinkAnswer:
        port.check_persist(seconds)
        old = self._find(ns, uid, service)
        if old is None:
            return _NO_LINK
        if not may(old):
            return _refused(old)
        if seconds == PERMANENT:
            self._drop(ns, uid, service)
            return LinkAnswer(True, None, old.pod, old.epoch, old.instance, True)
        until = self.now() + seconds
        self._put(ns, uid, service, msgspec.structs.replace(old, until=min(until, old.until or until)))
        return LinkAnswer(True, old.pod, old.pod, old.epoch, old.instance)

    async def get_link_service(self, ns: str, uid: str) -> dict[str, int]:
        """The services that a uid is linked to permanently."""
        port.check_names(ns, "-", uid)
        return {service: self._links[ns, uid, service].pod for service in sorted(self._services.get((ns, uid), ()))}

    async def batch_get_linked_pod(self, ns: str, uids: Sequence[str], service: str) -> dict[int, list[str]]:
        """Uids by pod."""
        return by_pod(await self.links(ns, uids, service))

    async def links(self, ns: str, uids: Sequence[str], service: str) -> dict[str, Found]:
        """The links of many uids."""
        port.check_names(ns, service)
        found = {uid: await self.get_linked_pod(ns, uid, service) for uid in uids}
        return {uid: link for uid, link in found.items() if link is not None}

    async def users_of_pod(self, ns: str, service: str, pod: int, limit: int = 1_000) -> list[str]:
        """Uids that are linked to a pod now."""
        port.check_names(ns, service)
        port.check_pod(pod)
        users = list(self._users.get((ns, service, pod), ()))
        return [uid for uid in users if self._find(ns, uid, service) is not None][:limit]

    async def links_of_pod(self, ns: str, service: str, pod: int, limit: int = 1_000) -> dict[str, Link]:
        """The same with their links."""
        users = await self.users_of_pod(ns, service, pod, limit)
        return {uid: link for uid in users if (link := await self.get_linked_pod(ns, uid, service)) is not None}

    async def compute_link_if_absent(self, ns: str, service: str, field: str, max_age: float) -> LinkAnswer:
        """Give a field to the freest available pod."""
        port.check_names(ns, service, field, "field")
        port.check_lease(max_age)
        old, pods = self._fields.get((ns, service, field)), self._live(ns, service)
        known = pods.get(old.pod) if old is not None else None
        if old is not None and is_routable(known) and known is not None and known.instance == old.instance:
            return LinkAnswer(True, old.pod, old.pod, old.epoch, old.instance)
        fresh = [pod for pod in pods.values() if is_available(pod) and pod.updated_at >= self.now() - max_age]
        if not fresh:
            return LinkAnswer(False, None, old.pod if old else None, old.epoch if old else 0)
        best = min(fresh, key=lambda pod: (pod.load, pod.pod))
        epoch = self._next_epoch(old.epoch if old else 0)
        self._fields[ns, service, field] = _Stored(best.pod, best.instance, epoch, None)
        return LinkAnswer(True, best.pod, old.pod if old else None, epoch, best.instance, True)


def by_pod(links: Mapping[str, Found]) -> dict[int, list[str]]:
    """Group uids by the pod that they are linked to. Raises RouterDataError."""
    found: dict[int, list[str]] = {}
    for uid, link in links.items():
        if not isinstance(link, Link):
            raise link
        found.setdefault(link.pod, []).append(uid)
    return found


def _check(owner: Owner, seconds: float) -> None:
    port.check_owner(owner)
    port.check_persist(seconds)


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _refused(old: _Stored) -> LinkAnswer:
    return LinkAnswer(False, old.pod, old.pod, old.epoch, old.instance)
