"""Where things are in Redis. What stands in braces chooses the slot: all that a script touches is in one.

sf:{ns:lk:uid}service            the link of a user to a service
sf:{ns:lk:uid}                   hash: service -> link, permanent ones only
sf:{ns:state:service}            hash: pod -> state
sf:{ns:state:service}fields      hash: field -> assignment (compute_link_if_absent)
sf:{ns:workload:service}         the state of a service
sf:{ns:rv:service:pod:shard}     sorted set of users by the time of their linking: the index of a pod, in SHARDS parts
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

#: A pod's users lie in so many sets, so that a pod of a million users is no single large key, and spreads over a cluster.
SHARDS: Final = 16


def link_key(ns: str, uid: str, service: str) -> str:
    """The link of a user to a service."""
    return f"sf:{{{ns}:lk:{uid}}}{service}"


def user_key(ns: str, uid: str) -> str:
    """The hash of a user's permanent links."""
    return f"sf:{{{ns}:lk:{uid}}}"


def state_key(ns: str, service: str) -> str:
    """The hash of the states of a service's pods."""
    return f"sf:{{{ns}:state:{service}}}"


def fields_key(ns: str, service: str) -> str:
    """The hash of a service's assigned fields."""
    return f"sf:{{{ns}:state:{service}}}fields"


def workload_key(ns: str, service: str) -> str:
    """The state of a service."""
    return f"sf:{{{ns}:workload:{service}}}"


def index_key(ns: str, service: str, pod: int, uid: str) -> str:
    """The part of a pod's index in which a user is."""
    return shard_key(ns, service, pod, crc32(uid.encode()) % SHARDS)


def shard_key(ns: str, service: str, pod: int, shard: int) -> str:
    """One part of a pod's index."""
    return f"sf:{{{ns}:rv:{service}:{pod}:{shard}}}"
