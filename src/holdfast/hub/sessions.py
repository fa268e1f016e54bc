"""Sessions of people: a one-time link opens one, a cookie carries it, a CSRF token proves that our own page sent a change.

    code = sessions.invite("ann", scopes)        # holdfast hub open prints the link with it
    cookie, session = sessions.redeem(code)      # once, within INVITE_LIFE

All of it lives in the memory of one process, as hashes: there is no secret to configure or to leak, and a restart ends every
session. Behind a proxy with several hubs a person must come back to the same one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.hub.scopes import Scope

COOKIE: Final = "holdfast_session"
#: How long a one-time link may lie about, how long a session lasts, and how long without a request; in seconds.
INVITE_LIFE: Final = 600.0
LIFE: Final = 12 * 3_600.0
IDLE: Final = 2 * 3_600.0
#: How many of each are kept; the oldest go first.
INVITES_MAX: Final = 100
SESSIONS_MAX: Final = 1_000


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A person at work. csrf: what each change must bring along."""

    who: str
    scopes: frozenset[Scope]
    csrf: str
    opened_at: float


class _Invite(msgspec.Struct, frozen=True):
    who: str
    scopes: frozenset[Scope]
    ends_at: float


class Sessions:
    """The sessions of one process. `now`: seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._invites: dict[str, _Invite] = {}
        self._sessions: dict[str, Session] = {}
        self._seen: dict[str, float] = {}

    def invite(self, who: str, scopes: frozenset[Scope]) -> str:
        """Return a code that opens one session for `who`."""
        code = secrets.token_urlsafe(32)
        self._invites[_digest(code)] = _Invite(who, scopes, self._now() + INVITE_LIFE)
        while len(self._invites) > INVITES_MAX:
            del self._invites[next(iter(self._invites))]
        return code

    def redeem(self, code: str) -> tuple[str, Session] | None:
        """Open the session of a code: return the cookie's value and the session; None for one that opens nothing."""
        invite = self._invites.pop(_digest(code), None)
        now = self._now()
        if invite is None or now >= invite.ends_at:
            return None
        cookie = secrets.token_urlsafe(32)
        session = Session(who=invite.who, scopes=invite.scopes, csrf=secrets.token_urlsafe(32), opened_at=now)
        key = _digest(cookie)
        self._sessions[key], self._seen[key] = session, now
        while len(self._sessions) > SESSIONS_MAX:
            self._end(next(iter(self._sessions)))
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie's value while it lasts."""
        key, now = _digest(cookie), self._now()
        session = self._sessions.get(key)
        if session is None:
            return None
        if now >= session.opened_at + LIFE or now >= self._seen[key] + IDLE:
            self._end(key)
            return None
        self._seen[key] = now
        return session

    def end(self, cookie: str) -> None:
        """End a session; an unknown one is ended already."""
        self._end(_digest(cookie))

    def _end(self, key: str) -> None:
        self._sessions.pop(key, None)
        self._seen.pop(key, None)


def same(found: str, expected: str) -> bool:
    """Compare secrets without telling by the time how much of them is right."""
    return hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
