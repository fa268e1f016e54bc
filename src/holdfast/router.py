"""The port `StatefulExecutor`: which pod of a service holds the state of which user.

Words. A **service** runs in **pods**, numbered from 0; None means no pod. A **uid** is whose state it is (in Holdfast: a
job's key). A **link** says which pod has a uid, for some seconds or for good (permanent); its **epoch** grows with every
change of owner and is never used twice, so that others can refuse a former owner. A pod that restarts under its old number
is another owner: its **instance** differs.

What changes the owner of a link, and nothing else does:

- `set_linked_pod`: always. For people and tests.
- `try_set_linked_pod`: if there is none; over a temporary link of another, if it asks for a permanent one (the pod that
  loads the user confirms it); over any link whose epoch it names as `replaces` (who found that owner dead names it).
- `set_linked_pod_if_absent`: if there is none.
- `remove_linked_pod`, `remove_linked_pod_with_id`, and the end of a temporary link's time.

A call by the owner itself refreshes its link and never shortens it; only `set_linked_pod` does. An owner that asks for a
permanent link gets it.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from holdfast.errors import ConfigError, ContentError, RouterDataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: `persist_seconds` of a permanent link.
PERMANENT: Final = -1
NAMESPACE_MAX: Final = 100
NAME_MAX: Final = 512
#: A pod number above this is a mistake.
POD_MAX: Final = 1_000_000
#: The longest temporary link, in seconds: 10 years. Longer means permanent.
SECONDS_MAX: Final = 10 * 365 * 86_400.0
#: A load at which a pod counts as overloaded (seed: load state 5).
OVERLOADED: Final = 5.0


class ServiceState(StrEnum):
    """How a pod is."""

    UNKNOWN = "unknown"
    READY = "ready"
    NOT_READY = "not_ready"
    FAILED = "failed"
    PENDING = "pending"
    TERMINATING = "terminating"


class RoutingState(StrEnum):
    """What may be sent to a pod."""

    UNKNOWN = "unknown"
    READY = "ready"
    DENY_NEW_CALL = "deny_new_call"  # only users that it has
    SHUTDOWN = "shutdown"


class PodState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a pod publishes of itself. load: lower is freer. updated_at, expires_at: set by the executor, by its clock."""

    pod: int
    instance: str = ""
    state: ServiceState = ServiceState.READY
    routing: RoutingState = RoutingState.READY
    load: float = 0.0
    weight: int = 1
    metadata: dict[str, str] = {}
    updated_at: float = 0.0
    expires_at: float = 0.0


def is_routable(pod: PodState | None) -> bool:
    """Whether calls for users that a pod has may be sent to it. An unknown pod is not."""
    return pod is not None and pod.state is ServiceState.READY and pod.routing is not RoutingState.SHUTDOWN


def is_available(pod: PodState | None) -> bool:
    """Whether a pod may get users that it does not have. Every available pod is routable."""
    return is_routable(pod) and pod is not None and pod.routing is RoutingState.READY


class Load(StrEnum):
    """How busy a service is."""

    IDLE = "idle"
    NORMAL = "normal"
    HIGH = "high"
    OVERLOADED = "overloaded"
    SHUTDOWN = "shutdown"  # no pod can be routed to


class WorkloadState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a service is: its load, its pods, those that are available."""

    load: Load
    replicas: int = 0
    ready: int = 0
    updated_at: float = 0.0


def workload_of(pods: Mapping[int, PodState], now: float) -> WorkloadState:
    """Derive a service's state from its live pods (seed: idle below 1, normal from 1, high from 3, overloaded from 5)."""
    routable = [pod for pod in pods.values() if is_routable(pod)]
    ready = sum(is_available(pod) for pod in routable)
    if not routable:
        load = Load.SHUTDOWN
    else:
        mean = sum(pod.load for pod in routable) / len(routable)
        steps = ((OVERLOADED, Load.OVERLOADED), (3.0, Load.HIGH), (1.0, Load.NORMAL))
        load = next((name for least, name in steps if mean >= least), Load.IDLE)
    return WorkloadState(load=load, replicas=len(pods), ready=ready, updated_at=now)


class Link(msgspec.Struct, frozen=True, array_like=True):
    """Who has a uid. seconds_left: of a temporary link; None: it is permanent."""

    pod: int
    epoch: int
    instance: str = ""
    seconds_left: float | None = None

    @property
    def permanent(self) -> bool:
        """Whether it lasts until somebody ends it."""
        return self.seconds_left is None


class LinkAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What a write of a link did, in one shape for all of them.

    ok: whether the caller got what it asked for. current: the link's pod now (None: no link). previous: its pod before.
    epoch: of the current link, or of the one that was removed; 0: there was none. changed: whether this very call gave it
    another owner, be it another incarnation of the same pod, or ended it.
    """

    ok: bool
    current: int | None
    previous: int | None
    epoch: int
    instance: str = ""
    changed: bool = False


class Owner(msgspec.Struct, frozen=True):
    """Who asks for a link: a pod, and which incarnation of it."""

    pod: int
    instance: str = ""


#: What a call for many uids says of one: a stored value that is not ours refuses that uid alone.
Found = Link | RouterDataError
Linked = LinkAnswer | RouterDataError


class Want(msgspec.Struct, frozen=True):
    """What is asked for one uid of many: an owner, above which epoch, and which epoch's link it may replace."""

    owner: Owner
    floor: int = 0
    replaces: int | None = None


class StatefulExecutor(Protocol):
    """Links and states of pods. Every write is atomic; every call raises RouterUnavailable when the store is away,
    ContentError for a name that can not be, RouterDataError for a stored value that is not ours (calls for many uids whose
    answer has a place for it put it there)."""

    async def open(self) -> None:
        """Make it ready, in the loop that will use it."""
        ...

    async def close(self) -> None:
        """Let everything go. Calling it twice is fine."""
        ...

    def now(self) -> float:
        """Its clock as this process knows it, in seconds since the epoch."""
        ...

    # --- states

    async def set_service_state(self, ns: str, service: str, state: PodState, lease: float) -> None:
        """Publish a pod's state for `lease` seconds."""
        ...

    async def get_service_state(self, ns: str, service: str) -> dict[int, PodState]:
        """All pods whose state is not over, by number."""
        ...

    async def remove_service_state(self, ns: str, service: str, pod: int, instance: str = "") -> bool:
        """Forget a pod's state; with `instance` only if it is that one's."""
        ...

    async def allocate_pod(self, ns: str, service: str, instance: str, lease: float) -> int:
        """Return the lowest number that no live pod has, taken for `lease` seconds; the same again for the same instance."""
        ...

    async def set_workload_state(self, ns: str, service: str, state: WorkloadState) -> None:
        """Publish a service's state."""
        ...

    async def get_workload_state(self, ns: str, service: str) -> WorkloadState | None:
        """A service's state; None: nobody published one."""
        ...

    async def get_workload_states(self, ns: str, services: Sequence[str]) -> dict[str, WorkloadState]:
        """The states of many services; those without one are absent."""
        ...

    # --- links

    async def set_linked_pod(
        self, ns: str, uid: str, service: str, owner: Owner, persist_seconds: float, *, floor: int = 0
    ) -> LinkAnswer:
        """Link, whatever there was. `floor`: the new epoch is above it. persist_seconds: PERMANENT, or above 0."""
        ...

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
        """Link if the rules above let it; refused answers name the link that stands. replaces: the epoch to replace."""
        ...

    async def set_linked_pod_if_absent(
        self, ns: str, uid: str, service: str, owner: Owner, persist_seconds: float, *, floor: int = 0
    ) -> LinkAnswer:
        """Link if there is none. ok: the link is the caller's now; then it lasts at least as long as asked."""
        ...

    async def link_pods(
        self, ns: str, service: str, wanted: Mapping[str, Want], persist_seconds: float
    ) -> dict[str, Linked]:
        """Set if absent, or try to replace where an epoch is named, for many uids at once; each stands alone."""
        ...

    async def renew_links(
        self, ns: str, service: str, epochs: Mapping[str, int], owner: Owner, persist_seconds: float
    ) -> dict[str, Linked]:
        """Lengthen the links that `owner` has under these epochs; never make one, and never shorten one.

        ok: it is the owner's under that epoch. Refused answers name the link that stands; none has the epoch 0.
        """
        ...

    async def get_linked_pod(self, ns: str, uid: str, service: str) -> Link | None:
        """The link of a uid, permanent or temporary."""
        ...

    async def get_linked_pod_if_persist(self, ns: str, uid: str, service: str) -> Link | None:
        """The link, only if it is permanent."""
        ...

    async def remove_linked_pod(self, ns: str, uid: str, service: str, persist_seconds: float) -> LinkAnswer:
        """Remove a link: now (PERMANENT), or after so many seconds, for which it stays as a temporary one.

        ok: there was one. A grace never lengthens a temporary link.
        """
        ...

    async def remove_linked_pod_with_id(
        self, ns: str, uid: str, service: str, persist_seconds: float, owner: Owner
    ) -> LinkAnswer:
        """The same, only if the link is `owner`'s (of any incarnation, when owner.instance is empty)."""
        ...

    async def get_link_service(self, ns: str, uid: str) -> dict[str, int]:
        """The pods of all services that a uid is linked to permanently."""
        ...

    async def batch_get_linked_pod(self, ns: str, uids: Sequence[str], service: str) -> dict[int, list[str]]:
        """Uids by the pod that they are linked to; those without a link are absent. For the rest of a batch in which a value
        is not ours ask `links`."""
        ...

    async def links(self, ns: str, uids: Sequence[str], service: str) -> dict[str, Found]:
        """The links of many uids; those without one are absent."""
        ...

    async def users_of_pod(self, ns: str, service: str, pod: int, limit: int = 1_000) -> list[str]:
        """Up to `limit` uids that are linked to a pod now."""
        ...

    async def links_of_pod(self, ns: str, service: str, pod: int, limit: int = 1_000) -> dict[str, Link]:
        """The same with their links."""
        ...

    async def compute_link_if_absent(self, ns: str, service: str, field: str, max_age: float) -> LinkAnswer:
        """Give a field of a service (a room, a shard) to its freest available pod whose state is at most `max_age` s old.

        A field that has a live pod keeps it. ok: it has a pod. The assignment does not end by time.
        """
        ...


# --- checks, the same for every adapter ----------------------------------------------------------------------------

#: A closing brace would end the part of a Redis key that chooses the slot.
_UNCLEAN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff}]")


def check_names(ns: object, service: object, uid: object = "-", what: str = "uid") -> None:
    """Raise ContentError unless all three can be names."""
    _check_name("namespace", ns, NAMESPACE_MAX)
    if ":" in str(ns):
        raise ContentError(f"namespace: expected a name without a colon, found {ns!r:.80}. Use - or . instead.")
    _check_name("service", service, NAME_MAX)
    _check_name(what, uid, NAME_MAX)


def _check_name(what: str, value: object, limit: int) -> None:
    if isinstance(value, str) and value.strip() and len(value) <= limit and not _UNCLEAN.search(value):
        return
    raise ContentError(
        f"{what}: expected 1 to {limit} characters, not blank, without control characters and closing braces, "
        f"found {value!r:.80}. Choose another name, or hash it."
    )


def check_pod(pod: object) -> None:
    """Raise ContentError unless `pod` is a pod's number."""
    if not isinstance(pod, int) or isinstance(pod, bool) or not 0 <= pod <= POD_MAX:
        raise ContentError(f"pod: expected a whole number from 0 to {POD_MAX:,}, found {pod!r:.80}. No pod is None.")


def check_owner(owner: Owner) -> None:
    """Raise ContentError unless `owner` can own a link."""
    check_pod(owner.pod)
    if owner.instance:
        _check_name("instance", owner.instance, NAME_MAX)
    if "|" in owner.instance:
        raise ContentError(f"instance: expected a name without |, found {owner.instance!r:.80}. Choose another.")


def check_persist(seconds: object) -> None:
    """Raise ContentError unless `seconds` is PERMANENT or a positive time."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if number and (seconds == PERMANENT or 0.001 <= seconds <= SECONDS_MAX):  # type: ignore[operator]  # it is a number
        return
    raise ContentError(
        f"persist_seconds: expected -1 (permanent) or 0.001 to {SECONDS_MAX:,.0f} seconds, found {seconds!r:.80}. "
        "To end a link, remove it."
    )


def check_lease(lease: object) -> None:
    """Raise ContentError unless `lease` is a time that a state may live."""
    if not isinstance(lease, int | float) or not math.isfinite(lease) or not 0 < lease <= SECONDS_MAX:
        raise ContentError(f"lease: expected a positive number of seconds, found {lease!r:.80}.")


def check_state(state: PodState) -> None:
    """Raise ContentError unless a pod may publish `state`."""
    check_owner(Owner(state.pod, state.instance))
    if not math.isfinite(state.load) or state.load < 0:
        raise ContentError(f"load: expected a number from 0, found {state.load!r}. Lower is freer.")
    if state.weight < 1:
        raise ContentError(f"weight: expected a whole number from 1, found {state.weight!r}.")


# --- a pod's number ------------------------------------------------------------------------------------------------

_ORDINAL: Final = re.compile(r".+-(\d{1,6})")


def pod_from(setting: str, host: str) -> int | None:
    """Return the number that a process was given: by `setting` (HOLDFAST_POD_INDEX), or by a StatefulSet's host name.

    None: it was given none, and takes one that is free. Raises ConfigError for a setting that is no number.

    >>> pod_from("", "chat-2"), pod_from("0", "chat-2"), pod_from("", "laptop")
    (2, 0, None)
    """
    if setting.strip():
        if not setting.strip().isascii() or not setting.strip().isdigit() or int(setting) > POD_MAX:
            raise ConfigError(f"HOLDFAST_POD_INDEX: expected a whole number from 0, found {setting!r:.40}.")
        return int(setting)
    found = _ORDINAL.fullmatch(host)
    return int(found[1]) if found else None
