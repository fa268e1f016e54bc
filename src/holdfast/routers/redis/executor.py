"""The StatefulExecutor port on Redis: each method is one script, but for the index of a pod's users.

The index lies in other slots than the links, so the two can not change in one step. A user is put into the index before
its link is made, and whoever reads the index looks at the links: a user counts only if its link says this pod. What is
left over is swept by readers, unless it was put there a short time ago by somebody who is about to make the link.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from holdfast import router as port
from holdfast.errors import RouterDataError
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
from holdfast.routers.memory import by_pod
from holdfast.routers.redis import keys
from holdfast.routers.redis.client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

#: Users that were put into an index this short a time ago are not swept: their link may be on its way. Seconds.
SWEEP_AFTER: Final = 300.0
_PAGE: Final = 1_000
_encode: Final = msgspec.json.Encoder().encode
_STATE: Final = msgspec.json.Decoder(PodState)
_WORKLOAD: Final = msgspec.json.Decoder(WorkloadState)


def _milliseconds(seconds: float) -> int:
    return -1 if seconds == PERMANENT else max(1, round(seconds * 1_000))


class RedisExecutor:
    """The StatefulExecutor port on Redis or Valkey, single or cluster."""

    def __init__(self, client: Client) -> None:
        """`client` is opened and closed with this."""
        self._client = client

    async def open(self) -> None:
        """Connect and load the scripts."""
        await self._client.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def now(self) -> float:
        """This machine's clock."""
        return time.time()

    # --- states

    async def set_service_state(self, ns: str, service: str, state: PodState, lease: float) -> None:
        """Publish a pod's state for `lease` seconds."""
        port.check_names(ns, service)
        port.check_state(state)
        port.check_lease(lease)
        text = _parts(state) + _encode(state).decode()
        await self._client.run("set_state", keys.state_key(ns, service), state.pod, _milliseconds(lease), text)

    async def get_service_state(self, ns: str, service: str) -> dict[int, PodState]:
        """All pods whose state is not over."""
        port.check_names(ns, service)
        key = keys.state_key(ns, service)
        found: list[str] = await self._client.run("get_state", key)
        return {int(pod): _state_of(key, value) for pod, value in sorted(_pairs(found), key=lambda pair: int(pair[0]))}

    async def remove_service_state(self, ns: str, service: str, pod: int, instance: str = "") -> bool:
        """Forget a pod's state."""
        port.check_names(ns, service)
        port.check_pod(pod)
        return bool(await self._client.run("remove_state", keys.state_key(ns, service), pod, instance))

    async def allocate_pod(self, ns: str, service: str, instance: str, lease: float) -> int:
        """Take the lowest free number."""
        port.check_names(ns, service, instance, "instance")
        port.check_lease(lease)
        pending = PodState(pod=0, instance=instance, state=port.ServiceState.PENDING)
        record = _encode(pending).decode().replace('"pod":0', '"pod":%d', 1)
        key = keys.state_key(ns, service)
        return int(await self._client.run("allocate_pod", key, instance, _milliseconds(lease), _parts(pending), record))

    async def set_workload_state(self, ns: str, service: str, state: WorkloadState) -> None:
        """Publish a service's state."""
        port.check_names(ns, service)
        stamped = msgspec.structs.replace(state, updated_at=self.now())
        await self._client.call("SET", keys.workload_key(ns, service), _encode(stamped))

    async def get_workload_state(self, ns: str, service: str) -> WorkloadState | None:
        """A service's state."""
        return (await self.get_workload_states(ns, [service])).get(service)

    async def get_workload_states(self, ns: str, services: Sequence[str]) -> dict[str, WorkloadState]:
        """The states of many services, wherever in a cluster they are."""
        port.check_names(ns, "-")
        for service in services:
            port.check_names(ns, service)
        commands = [("GET", keys.workload_key(ns, service)) for service in services]
        values = await self._client.pipe(commands) if commands else []
        return {
            service: _decoded(keys.workload_key(ns, service), value, _WORKLOAD)
            for service, value in zip(services, values, strict=True)
            if value is not None
        }

    # --- links

    async def set_linked_pod(
        self, ns: str, uid: str, service: str, owner: Owner, persist_seconds: float, *, floor: int = 0
    ) -> LinkAnswer:
        """Link, whatever there was."""
        return await self._link("set_link", ns, uid, service, owner, persist_seconds, floor)

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
        named = "" if replaces is None else replaces
        return await self._link("try_set_link", ns, uid, service, owner, persist_seconds, floor, named)

    async def set_linked_pod_if_absent(
        self, ns: str, uid: str, service: str, owner: Owner, persist_seconds: float, *, floor: int = 0
    ) -> LinkAnswer:
        """Link if there is none."""
        return await self._link("set_link_if_absent", ns, uid, service, owner, persist_seconds, floor)

    async def link_pods(
        self, ns: str, service: str, wanted: Mapping[str, Want], persist_seconds: float
    ) -> dict[str, Linked]:
        """Link many uids at once."""
        port.check_names(ns, service)
        # One command adds all that go to the same part of an index, and before any of their links is made.
        added: dict[str, list[Any]] = {}
        linking: list[tuple[Any, ...]] = []
        places: list[str] = []
        now = round(self.now() * 1_000)
        for uid, want in wanted.items():
            _check(ns, uid, service, want.owner, persist_seconds)
            places.append(keys.index_key(ns, service, want.owner.pod, uid))
            added.setdefault(places[-1], []).extend((now, uid))
            linking.append(self._linking(ns, uid, service, want, persist_seconds))
        commands = [*(("ZADD", key, *members) for key, members in added.items()), *linking]
        answers = await self._client.pipe(commands, apart=True) if commands else []
        faults = {key: one for key, one in zip(added, answers, strict=False) if isinstance(one, RouterDataError)}
        told = (faults.get(key) or _linked(one) for key, one in zip(places, answers[len(added) :], strict=True))
        return dict(zip(wanted, told, strict=True))

    async def renew_links(
        self, ns: str, service: str, epochs: Mapping[str, int], owner: Owner, persist_seconds: float
    ) -> dict[str, Linked]:
        """Lengthen links that `owner` has."""
        port.check_names(ns, service)
        commands = []
        for uid, epoch in epochs.items():
            _check(ns, uid, service, owner, persist_seconds)
            ours = (keys.link_key(ns, uid, service), keys.user_key(ns, uid))
            who = (service, owner.pod, owner.instance, _milliseconds(persist_seconds), epoch)
            commands.append(self._client.scripted("renew_link", *ours, *who))
        answers = await self._client.pipe(commands, apart=True) if commands else []
        return dict(zip(epochs, map(_linked, answers), strict=True))

    def _linking(self, ns: str, uid: str, service: str, want: Want, seconds: float) -> tuple[Any, ...]:
        ours = (keys.link_key(ns, uid, service), keys.user_key(ns, uid))
        who = (service, want.owner.pod, want.owner.instance, _milliseconds(seconds), want.floor)
        if want.replaces is None:
            return self._client.scripted("set_link_if_absent", *ours, *who)
        return self._client.scripted("try_set_link", *ours, *who, want.replaces)

    async def _link(
        self, name: str, ns: str, uid: str, service: str, owner: Owner, seconds: float, *rest: Any
    ) -> LinkAnswer:
        _check(ns, uid, service, owner, seconds)
        return _answer((await self._client.pipe(self._commands(name, ns, uid, service, owner, seconds, *rest)))[1])

    def _commands(
        self, name: str, ns: str, uid: str, service: str, owner: Owner, seconds: float, *rest: Any
    ) -> list[tuple[Any, ...]]:
        added = ("ZADD", keys.index_key(ns, service, owner.pod, uid), round(self.now() * 1_000), uid)
        ours = (keys.link_key(ns, uid, service), keys.user_key(ns, uid))
        who = (service, owner.pod, owner.instance, _milliseconds(seconds))
        return [added, self._client.scripted(name, *ours, *who, *rest)]

    async def get_linked_pod(self, ns: str, uid: str, service: str) -> Link | None:
        """The link of a uid."""
        port.check_names(ns, service, uid)
        key = keys.link_key(ns, uid, service)
        return _link_of(key, await self._client.run("get_link", key))

    async def get_linked_pod_if_persist(self, ns: str, uid: str, service: str) -> Link | None:
        """The link, only if it is permanent."""
        port.check_names(ns, service, uid)
        key = keys.link_key(ns, uid, service)
        return _link_of(key, await self._client.run("get_link_if_persist", key))

    async def remove_linked_pod(self, ns: str, uid: str, service: str, persist_seconds: float) -> LinkAnswer:
        """Remove a link, now or after a grace."""
        return await self._remove("remove_link", ns, uid, service, persist_seconds)

    async def remove_linked_pod_with_id(
        self, ns: str, uid: str, service: str, persist_seconds: float, owner: Owner
    ) -> LinkAnswer:
        """Remove a link that is `owner`'s."""
        port.check_owner(owner)
        return await self._remove("remove_link_with_id", ns, uid, service, persist_seconds, owner.pod, owner.instance)

    async def _remove(self, name: str, ns: str, uid: str, service: str, seconds: float, *rest: Any) -> LinkAnswer:
        port.check_names(ns, service, uid)
        port.check_persist(seconds)
        ours = (keys.link_key(ns, uid, service), keys.user_key(ns, uid))
        return _answer(await self._client.run(name, *ours, service, _milliseconds(seconds), *rest))

    async def get_link_service(self, ns: str, uid: str) -> dict[str, int]:
        """The services that a uid is linked to permanently."""
        port.check_names(ns, "-", uid)
        key = keys.user_key(ns, uid)
        found = _pairs(await self._client.run("get_link_service", key))
        return {service: _stored(key, value).pod for service, value in sorted(found)}

    async def batch_get_linked_pod(self, ns: str, uids: Sequence[str], service: str) -> dict[int, list[str]]:
        """Uids by pod."""
        return by_pod(await self.links(ns, uids, service))

    async def links(self, ns: str, uids: Sequence[str], service: str) -> dict[str, Found]:
        """The links of many uids, wherever in a cluster they are."""
        port.check_names(ns, service)
        for uid in uids:
            port.check_names(ns, service, uid)
        places = [keys.link_key(ns, uid, service) for uid in uids]
        scripted = self._client.scripted
        commands = [scripted("get_link", key) for key in places]
        answers = await self._client.pipe(commands, apart=True) if places else []
        found: dict[str, Found] = {}
        for uid, key, value in zip(uids, places, answers, strict=True):
            try:
                link = value if isinstance(value, RouterDataError) else _link_of(key, value)
            except RouterDataError as error:
                link = error
            if link is not None:
                found[uid] = link
        return found

    async def users_of_pod(self, ns: str, service: str, pod: int, limit: int = 1_000) -> list[str]:
        """Uids that are linked to a pod now."""
        return list(await self.links_of_pod(ns, service, pod, limit))

    async def links_of_pod(self, ns: str, service: str, pod: int, limit: int = 1_000) -> dict[str, Link]:
        """The same with their links; sweeps uids that were linked to the pod."""
        port.check_names(ns, service)
        port.check_pod(pod)
        found: dict[str, Link] = {}
        for shard in range(keys.SHARDS):
            if len(found) >= limit:
                break
            found.update(await self._links_of_shard(ns, service, pod, shard, limit - len(found)))
        return found

    async def _links_of_shard(self, ns: str, service: str, pod: int, shard: int, limit: int) -> dict[str, Link]:
        key = keys.shard_key(ns, service, pod, shard)
        found: dict[str, Link] = {}
        start = 0
        while len(found) < limit:
            uids: list[str] = await self._client.call("ZRANGE", key, start, start + _PAGE - 1)
            links = await self.links(ns, uids, service)
            ours = {uid: link for uid, link in links.items() if isinstance(link, Link) and link.pod == pod}
            found.update(ours)
            dropped = await self._sweep(key, [uid for uid in uids if uid not in ours])
            if len(uids) < _PAGE:
                break
            start += _PAGE - dropped
        return dict(islice(found.items(), limit))

    async def _sweep(self, key: str, uids: list[str]) -> int:
        if not uids:
            return 0
        before = round((self.now() - SWEEP_AFTER) * 1_000)
        return int(await self._client.run("sweep_users", key, before, *uids))

    async def compute_link_if_absent(self, ns: str, service: str, field: str, max_age: float) -> LinkAnswer:
        """Give a field to the freest available pod."""
        port.check_names(ns, service, field, "field")
        port.check_lease(max_age)
        ours = (keys.fields_key(ns, service), keys.state_key(ns, service))
        return _answer(await self._client.run("compute_link_if_absent", *ours, field, _milliseconds(max_age)))

    # --- for doctor

    async def eviction_policy(self) -> str:
        """What Redis does when its memory is full; empty when it does not tell. Anything but noeviction may drop links."""
        found = await self._client.call("INFO", "memory")
        nodes = found.values() if self._client.is_cluster else [found]
        return ", ".join(sorted({str(node.get("maxmemory_policy", "")) for node in nodes}))


def _check(ns: str, uid: str, service: str, owner: Owner, seconds: float) -> None:
    port.check_names(ns, service, uid)
    port.check_owner(owner)
    port.check_persist(seconds)


# --- what is stored --------------------------------------------------------------------------------------------------


def _parts(state: PodState) -> str:
    return f"{state.instance}|{is_routable(state):d}|{is_available(state):d}|{state.load!r}|"


def _state_of(key: str, value: str) -> PodState:
    until, since, *_, record = value.split("|", 6)
    state = _decoded(key, record, _STATE)
    return msgspec.structs.replace(state, updated_at=int(since) / 1_000, expires_at=int(until) / 1_000)


def _decoded(key: str, value: str, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(value)
    except msgspec.DecodeError as error:
        raise _foreign(key, value) from error


def _foreign(key: str, value: object) -> RouterDataError:
    return RouterDataError(
        f"router: expected a value written by Holdfast at {key}, found {value!r:.80}. "
        "Give Holdfast a database or a namespace of its own."
    )


def _stored(key: str, value: str) -> Link:
    try:
        pod, epoch, instance = value.split("|")
        return Link(int(pod), int(epoch), instance)
    except ValueError as error:
        raise _foreign(key, value) from error


def _link_of(key: str, answer: list[Any] | None) -> Link | None:
    if answer is None:
        return None
    value, left = answer
    link = _stored(key, value)
    return link if left == -1 else Link(link.pod, link.epoch, link.instance, left / 1_000)


def _answer(parts: list[Any]) -> LinkAnswer:
    ok, current, previous, epoch, instance, changed = parts
    return LinkAnswer(bool(ok), _pod(current), _pod(previous), int(epoch), instance, bool(changed))


def _linked(answer: Any) -> Linked:
    return answer if isinstance(answer, RouterDataError) else _answer(answer)


def _pod(text: str) -> int | None:
    return int(text) if text else None


def _pairs(flat: list[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def open_redis(url: str, *, shown: str = "redis", **options: Any) -> RedisExecutor:
    """Return the executor on the Redis of `url`, not opened yet. options: connections, timeout (seconds)."""
    return RedisExecutor(Client(url, shown=shown, **options))
