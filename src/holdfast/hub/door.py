"""What stands before the API on each address: who may come in. Pure ASGI, so that it guards whatever is behind it.

- The Host must be one that is served here. A page of another site that lets its name point to this machine (DNS
  rebinding) is turned away with 421.
- Over TCP a change needs a bearer token: the node's own, which stands in a file that only the user can read, or one that
  `holdfast tokens` made. A page of another site can not know it, so it can not forge a change either.
- A person has a session instead: a cookie that no script can read, and with each change the session's CSRF token and an
  Origin that is this very address.
- On an address that others reach, reads need one of them as well; only health checks and the entrance of people do not.
- A token that is wrong, revoked or expired is turned away, also where none would be needed; after ten of them one has to
  wait. Each caller has a bucket of requests.
- The socket in the data folder needs none: the rights of the folder say who may open it.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from holdfast.hub.limits import Buckets
from holdfast.hub.refusals import Refusal
from holdfast.hub.requests import REQUEST_ID, request_id
from holdfast.hub.sessions import COOKIE, Session, Sessions, same
from holdfast.hub.tokens import OWNER, READER, Principal, TokenFile
from holdfast.wire.problems import MEDIA_TYPE, http_problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
    Headers = Iterable[tuple[bytes, bytes]]

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Under these names a request tells the API who calls, by which session, and where the API is served.
PRINCIPAL: Final = "holdfast.principal"
SESSION: Final = "holdfast.session"
BASE_PATH: Final = "holdfast.base_path"
#: Where a session begins: everybody may look at the page, and whoever has a code may send it.
ENTRANCE: Final = "/session"
CSRF_HEADER: Final = b"x-csrf-token"
#: The longest address with its query, in bytes.
URL_MAX: Final = 16 * 1024
#: How many wrong tokens one address may send at once, and how many a minute after that.
WRONG_BURST: Final = 10
WRONG_A_MINUTE: Final = 10
#: How many requests a second one caller may send, unless the setting says otherwise; twice as many at once.
RATE: Final = 10_000.0
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN: Final = frozenset({"/healthz", "/readyz", ENTRANCE, "/hub.css"})
#: Addresses that take a form of our own pages; its CSRF token stands in the form and is looked at there.
FORMS: Final = frozenset({ENTRANCE, "/session/end"})
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")
_JSON: Final = re.compile(rb"application/(json|[\w.-]+\+json)\s*(;.*)?", re.IGNORECASE)
_FORM: Final = re.compile(rb"application/x-www-form-urlencoded\s*(;.*)?", re.IGNORECASE)
_NOWHERE: Final = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_SAFETY: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_CACHE: Final = (b"cache-control", b"no-store")
_REFERRER: Final = (b"referrer-policy", b"no-referrer")
_POLICY: Final = (b"content-security-policy", _NOWHERE)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Who may come in through one address. trusted: nobody needs a token.

    tokens: any of these opens everything. keys: tokens with scopes. sessions: those of people. now: seconds since the epoch,
    for their end. base_path: where a proxy serves it. rate: requests a second of one caller.
    """

    hosts: frozenset[str] = LOOPBACK_HOSTS
    tokens: tuple[str, ...] = ()
    keys: TokenFile | None = None
    sessions: Sessions | None = None
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    trusted: bool = False
    reads_need_token: bool = False
    base_path: str = ""
    rate: float = RATE


class Door:
    """Serves `app` to those whom `policy` lets in."""

    def __init__(self, app: Any, policy: Policy) -> None:
        """`app`: any ASGI application."""
        self._app, self._policy = app, policy
        self._wrong = Buckets(WRONG_A_MINUTE / 60.0, WRONG_BURST, policy.monotonic)
        self._callers = Buckets(policy.rate, 2 * policy.rate, policy.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or turn it away."""
        if scope["type"] != "http":
            return
        scope[REQUEST_ID] = name = request_id(_one(scope["headers"], b"x-request-id"))
        try:
            self._look(scope)
        except Refusal as refusal:
            await _turn_away(send, refusal, name)
            return
        await self._app(scope, receive, _with_safety(send, name))

    def _look(self, scope: Scope) -> None:
        """Let a request in, with who sends it written on it. Raises Refusal."""
        policy = self._policy
        if len(scope["path"]) + len(scope["query_string"]) > URL_MAX:
            raise Refusal(414, f"expected an address of at most {URL_MAX:,} bytes, found more. Ask for less at a time.")
        self._refuse_wrong_host(scope["headers"])
        base = policy.base_path
        scope[BASE_PATH] = base
        if base and (scope["path"] == base or scope["path"].startswith(f"{base}/")):
            scope["path"] = scope["path"][len(base) :] or "/"
            scope["raw_path"] = scope["path"].encode()
        if policy.trusted:
            scope[PRINCIPAL] = OWNER
            return
        scope[PRINCIPAL] = principal = self._principal(scope)
        caller = principal.name or _peer(scope)
        wait = self._callers.take(caller)
        if wait:
            raise Refusal(429, f"expected at most {policy.rate:g} requests a second, found more. Send batches.", wait)
        _refuse_strange_body(scope)

    def _refuse_wrong_host(self, headers: Headers) -> None:
        hosts = self._policy.hosts
        host = _one(headers, b"host")
        found = _HOST.fullmatch(host)
        if found is None or found["name"].lower() not in hosts:
            known = ", ".join(sorted(hosts))
            raise Refusal(
                421, f"expected Host to be one of {known}, found {host!r:.100}. To serve another name set `hosts`."
            )

    def _principal(self, scope: Scope) -> Principal:
        """Who calls. Raises Refusal for those who may not come in."""
        if scope["path"] in _OPEN and scope["path"] not in FORMS:
            return READER
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if given:
            return self._holder(given, _peer(scope))
        session = self._session(scope["headers"])
        if session is not None:
            _refuse_forged(scope, session)
            scope[SESSION] = session
            return Principal(session.who, session.scopes)
        if scope["path"] in FORMS:
            if scope["method"] not in _READS:
                _refuse_other_origin(scope)
            return READER
        if self._policy.reads_need_token or scope["method"] not in _READS:
            raise Refusal(401, _NO_TOKEN)
        return READER

    def _holder(self, given: list[bytes], peer: str) -> Principal:
        wait = self._wrong.empty(peer)
        if wait:
            raise Refusal(429, "expected a token that is known here, found too many others. Wait for the next.", wait)
        principal = self._known(given)
        if principal is None:
            self._wrong.take(peer)
            raise Refusal(401, _NO_TOKEN)
        return principal

    def _known(self, given: list[bytes]) -> Principal | None:
        scheme, _, secret = given[0].decode("latin-1").partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer":
            return None
        policy, secret = self._policy, secret.strip()
        # All tokens are compared, so that the time tells nothing of them.
        right = [hmac.compare_digest(secret.encode(), token.encode()) for token in policy.tokens]
        if any(right):
            return OWNER
        return policy.keys.find(secret, policy.now()) if policy.keys is not None else None

    def _session(self, headers: Headers) -> Session | None:
        sessions = self._policy.sessions
        if sessions is None:
            return None
        cookie = cookie_of(headers)
        return sessions.find(cookie) if cookie else None


_NO_TOKEN: Final = (
    "expected 'Authorization: Bearer …' with a token that is known here, not revoked and not expired: the one of this node "
    "(the file `token` in its data folder), or one that `holdfast tokens make` printed. In a browser: holdfast hub open."
)


def cookie_of(headers: Headers) -> str:
    """Return the value of our cookie; empty when there is none."""
    text = "; ".join(value.decode("latin-1") for name, value in headers if name == b"cookie")
    if COOKIE not in text:
        return ""
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _refuse_forged(scope: Scope, session: Session) -> None:
    """A change by a session must come from a page of this very address, and bring the session's CSRF token."""
    if scope["method"] in _READS:
        return
    _refuse_other_origin(scope)
    if scope["path"] not in FORMS and not same(_one(scope["headers"], CSRF_HEADER), session.csrf):
        raise Refusal(
            403,
            "expected the header X-CSRF-Token of this session, found another or none. Reload the page.",
        )


def _refuse_other_origin(scope: Scope) -> None:
    origin = _one(scope["headers"], b"origin")
    place = urlsplit(origin) if origin else None
    host = _one(scope["headers"], b"host")
    if place is None or place.scheme not in ("http", "https") or place.netloc.lower() != host.lower():
        raise Refusal(403, f"expected a page of {host} to send this (header Origin), found {origin!r:.100}.")


def _refuse_strange_body(scope: Scope) -> None:
    """A body is JSON and not packed; what a plain form of another site can send is not accepted."""
    if scope["method"] in _READS:
        return
    for name, value in scope["headers"]:
        if name == b"content-type":
            form = scope["path"] in FORMS
            if not (_FORM if form else _JSON).fullmatch(value):
                wanted = "application/x-www-form-urlencoded" if form else "application/json"
                raise Refusal(415, f"expected Content-Type: {wanted}, found {value.decode('latin-1')!r:.100}.")
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Refusal(415, f"expected a plain body, found Content-Encoding: {value.decode('latin-1')!r:.100}.")


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return f"@{client[0]}" if client else "@"


def _one(headers: Headers, name: bytes) -> str:
    """The value of a header that must stand there once; else an empty text, which no rule accepts."""
    values = [value for key, value in headers if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


async def _turn_away(send: Send, refusal: Refusal, name: str) -> None:
    body = msgspec.json.encode(http_problem(refusal.status, refusal.detail))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.wait:
        headers.append((b"retry-after", str(max(1, round(refusal.wait))).encode()))
    safely = _with_safety(send, name)
    await safely({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await safely({"type": "http.response.body", "body": body})


def _with_safety(send: Send, name: str) -> Send:
    async def safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), *_SAFETY, (b"x-request-id", name.encode())]
            names = {key for key, _ in headers}
            headers += [default for default in (_CACHE, _POLICY, _REFERRER) if default[0] not in names]
            message["headers"] = headers
        await send(message)

    return safely
