"""What stands before the API on each address: who may come in. Pure ASGI, so that it guards whatever is behind it.

- The Host must be one that is served here. A page of another site that lets its name point to this machine (DNS
  rebinding) is turned away with 421.
- Over TCP a change needs a bearer token: the node's own, which stands in a file that only the user can read, or one that
  `holdfast tokens` made. A page of another site can not know it, so it can not forge a change either.
- On an address that others reach too, reads need a token as well; only health checks do not.
- A token that is wrong, revoked or expired is turned away, also where none would be needed.
- The socket in the data folder needs none: the rights of the folder say who may open it.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.hub.tokens import OWNER, READER, Principal, TokenFile
from holdfast.wire.problems import MEDIA_TYPE, http_problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Under this name a request tells the API who calls.
PRINCIPAL: Final = "holdfast.principal"
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")
_SAFETY: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Who may come in through one address. trusted: nobody needs a token.

    tokens: any of these opens everything. keys: tokens with scopes. now: seconds since the epoch, for their end.
    """

    hosts: frozenset[str] = LOOPBACK_HOSTS
    tokens: tuple[str, ...] = ()
    keys: TokenFile | None = None
    now: Callable[[], float] = time.time
    trusted: bool = False
    reads_need_token: bool = False


class Door:
    """Serves `app` to those whom `policy` lets in."""

    def __init__(self, app: Any, policy: Policy) -> None:
        """`app`: any ASGI application."""
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or turn it away."""
        if scope["type"] != "http":
            return
        refusal = self._wrong_host(scope)
        if refusal is not None:
            await _turn_away(send, 421, refusal)
            return
        principal = self._principal(scope)
        if principal is None:
            await _turn_away(send, 401, _NO_TOKEN)
            return
        scope[PRINCIPAL] = principal
        await self._app(scope, receive, _with_safety(send))

    def _wrong_host(self, scope: Scope) -> str | None:
        hosts = self._policy.hosts
        host = _one(scope["headers"], b"host")
        found = _HOST.fullmatch(host)
        if found is not None and found["name"].lower() in hosts:
            return None
        known = ", ".join(sorted(hosts))
        return f"expected Host to be one of {known}, found {host!r:.100}. To serve another name set `hosts`."

    def _principal(self, scope: Scope) -> Principal | None:
        """Who calls; None: they may not come in."""
        if self._policy.trusted:
            return OWNER
        if scope["path"] in _OPEN:
            return READER
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if given:
            return self._holder(given)
        needed = self._policy.reads_need_token or scope["method"] not in _READS
        return None if needed else READER

    def _holder(self, given: list[bytes]) -> Principal | None:
        scheme, _, secret = given[0].decode("latin-1").partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer":
            return None
        policy, secret = self._policy, secret.strip()
        # All tokens are compared, so that the time tells nothing of them.
        right = [hmac.compare_digest(secret.encode(), token.encode()) for token in policy.tokens]
        if any(right):
            return OWNER
        return policy.keys.find(secret, policy.now()) if policy.keys is not None else None


_NO_TOKEN: Final = (
    "expected 'Authorization: Bearer …' with a token that is known here, not revoked and not expired: the one of this node "
    "(the file `token` in its data folder), or one that `holdfast tokens make` printed."
)


def _one(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    """The value of a header that must stand there once; else an empty text, which no rule accepts."""
    values = [value for key, value in headers if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


async def _turn_away(send: Send, status: int, detail: str) -> None:
    body = msgspec.json.encode(http_problem(status, detail))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()), *_SAFETY]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_safety(send: Send) -> Send:
    async def safely(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_SAFETY]
        await send(message)

    return safely
