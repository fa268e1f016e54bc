"""What stands before the API on each address: who may come in. Pure ASGI, so that it guards whatever is behind it.

- The Host must be one that is served here. A page of another site that lets its name point to this machine (DNS
  rebinding) is turned away with 421.
- Over TCP a change needs the bearer token, which stands in a file that only the user can read. A page of another site
  can not know it, so it can not forge a change either.
- On an address that others reach too, reads need the token as well; only health checks do not.
- The socket in the data folder needs none: the rights of the folder say who may open it.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.wire.problems import MEDIA_TYPE, http_problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")
_SAFETY: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Who may come in through one address. tokens: any of these opens. trusted: nobody needs one."""

    hosts: frozenset[str] = LOOPBACK_HOSTS
    tokens: tuple[str, ...] = ()
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
        refusal = self._refusal(scope)
        if refusal is not None:
            await _turn_away(send, *refusal)
            return
        await self._app(scope, receive, _with_safety(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = scope["headers"]
        policy = self._policy
        host = _one(headers, b"host")
        found = _HOST.fullmatch(host)
        if found is None or found["name"].lower() not in policy.hosts:
            known = ", ".join(sorted(policy.hosts))
            return 421, f"expected Host to be one of {known}, found {host!r:.100}. To serve another name set `hosts`."
        if policy.trusted or not self._needs_token(scope):
            return None
        scheme, _, given = _one(headers, b"authorization").partition(" ")
        # All tokens are compared, so that the time tells nothing of them.
        right = [hmac.compare_digest(given.strip().encode(), token.encode()) for token in policy.tokens]
        if scheme.lower() == "bearer" and any(right):
            return None
        return (
            401,
            "expected 'Authorization: Bearer …' with the token of this node (the file `token` in its data folder).",
        )

    def _needs_token(self, scope: Scope) -> bool:
        if scope["path"] in _OPEN:
            return False
        return self._policy.reads_need_token or scope["method"] not in _READS


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
