"""A route is a value: address, what it takes, what it answers, and the function between. OpenAPI is made from the values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

from holdfast.hub.parts import Parts
from holdfast.store import Store

KIB: Final = 1024
#: The most bytes that a body may have: for a batch of jobs (8 MiB of payload and what surrounds it), and for all else.
BATCH_BODY_MAX: Final = 24 * KIB * KIB
BODY_MAX: Final = 2 * KIB * KIB


class Scope(StrEnum):
    """What a caller must be allowed to do."""

    READ = "read"
    ENQUEUE = "enqueue"
    WORK = "work"
    OPERATE = "operate"
    ADMIN = "admin"


class Call(msgspec.Struct, frozen=True):
    """One request, decoded. `query` and `body` are of the types that the route names."""

    parts: Parts
    path: str  # the last part of the address, when the route has one: an id or a name
    query: Any
    body: Any

    @property
    def store(self) -> Store:
        """The store behind the API."""
        return self.parts.store


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One address. `path` may end in {id} or {name}, which takes the rest of the address, slashes included."""

    method: str
    path: str
    handle: Callable[[Call], Awaitable[Any]]
    scope: Scope
    answer: Any
    summary: str
    body: Any = None
    query: Any = None
    body_max: int = BODY_MAX
    status: int = 200

    @property
    def operation(self) -> str:
        """Its name in the OpenAPI description."""
        return self.handle.__name__.strip("_")
