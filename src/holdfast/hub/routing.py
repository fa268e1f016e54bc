"""A route is a value: address, what it takes, what it answers, and the function between. OpenAPI is made from the values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from holdfast.hub.intake import Intake
from holdfast.hub.parts import Parts
from holdfast.hub.scopes import OWNER, Principal, Scope
from holdfast.store import Store

__all__ = ["BATCH_BODY_MAX", "BODY_MAX", "EVENTS", "JSON", "LOCAL", "Call", "Route", "Scope"]

KIB: Final = 1024
#: The most bytes that a body may have: for a batch of jobs (8 MiB of payload and what surrounds it), and for all else.
BATCH_BODY_MAX: Final = 24 * KIB * KIB
BODY_MAX: Final = 2 * KIB * KIB
JSON: Final = "application/json"
#: Who acts when nobody says: somebody on this machine, with the node's own token or through its socket.
LOCAL: Final = "local"
EVENTS: Final = "text/event-stream"


class Call(msgspec.Struct, frozen=True):
    """One request, decoded. `query` and `body` are of the types that the route names."""

    parts: Parts
    path: str  # the last part of the address, when the route has one: an id or a name
    query: Any
    body: Any
    principal: Principal = OWNER
    headers: Mapping[str, str] = {}
    base_path: str = ""

    @property
    def who(self) -> str:
        """Who acts, for the records: the holder of the token or session, else what the body says, else "local"."""
        return self.principal.name or getattr(self.body, "who", "") or LOCAL

    @property
    def sees_payload(self) -> bool:
        """Whether the caller may see what is in the jobs."""
        return Scope.READ_PAYLOAD in self.principal.scopes

    @property
    def intake(self) -> Intake:
        """What takes jobs in."""
        intake = self.parts.intake
        assert intake is not None, "make_api makes it"
        return intake

    @property
    def store(self) -> Store:
        """The store behind the API."""
        return self.parts.store


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One address. `path` may end in {id} or {name}, which takes the rest of the address, slashes included."""

    method: str
    path: str
    handle: Callable[[Call], Awaitable[Any] | AsyncIterator[str]]
    scope: Scope
    answer: Any
    summary: str
    body: Any = None
    query: Any = None
    body_max: int = BODY_MAX
    status: int = 200
    media: str = JSON  # EVENTS: `handle` returns an async iterator of texts
    shows_all: bool = False  # what is in the jobs is the caller's own work, and not hidden from it
    held: bool = False  # it may be open for long, and is given up when the caller goes away
    alias_of: str = ""  # the address that this one, of an older system, stands for

    @property
    def operation(self) -> str:
        """Its name in the OpenAPI description."""
        return self.handle.__name__.strip("_")
