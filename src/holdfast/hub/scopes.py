"""What callers may do, and who they are."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Scope(StrEnum):
    """What a caller must be allowed to do."""

    READ = "read"
    #: Also what is in the jobs: payload, result, data, headers, errors, logs. Others see that they were hidden.
    READ_PAYLOAD = "read:payload"
    ENQUEUE = "enqueue"
    WORK = "work"
    OPERATE = "operate"
    ADMIN = "admin"


def allowed(scopes: tuple[Scope, ...] | frozenset[Scope]) -> frozenset[Scope]:
    """Return all that `scopes` allow: `admin` includes the rest, and to read payloads is to read."""
    if Scope.ADMIN in scopes:
        return frozenset(Scope)
    return frozenset(scopes) | ({Scope.READ} if Scope.READ_PAYLOAD in scopes else set())


class Principal(msgspec.Struct, frozen=True):
    """Who calls, and what they may do. `name` is empty for those who need no token."""

    name: str
    scopes: frozenset[Scope]


#: Who holds the secret of the node itself, or came through the socket in its folder.
OWNER: Final = Principal("", frozenset(Scope))
#: Who came from this machine without a token.
READER: Final = Principal("", frozenset({Scope.READ}))
