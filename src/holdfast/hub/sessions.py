"""Sessions of people: a one-time link opens one, a cookie carries it, a CSRF token proves that our own page sent a change.

    code = sessions.invite("ann", scopes)        # holdfast hub open prints the link with it
    cookie, session = sessions.redeem(code)      # once, within INVITE_LIFE

There is no secret to configure or to leak: links and cookies are kept as hashes, in the memory of one process, or in a file
of the data folder, 0600. Hubs that share the folder then share the sessions, and a restart ends none. The file is looked at
before each use (one `stat`), so that a session that was opened or ended counts at once in all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.hub.private import locked, stamp, write
from holdfast.hub.scopes import Scope  # msgspec reads it from the fields below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE: Final = "sessions.json"
COOKIE: Final = "holdfast_session"
#: How long a one-time link may lie about, how long a session lasts, and how long without a request; in seconds.
INVITE_LIFE: Final = 600.0
LIFE: Final = 12 * 3_600.0
IDLE: Final = 2 * 3_600.0
#: How many of each are kept; the oldest go first.
INVITES_MAX: Final = 100
SESSIONS_MAX: Final = 1_000
#: How much later than it was a request is written down, in seconds; a file is not written for each of them.
SEEN_EVERY: Final = 60.0
logger: Final = logging.getLogger("holdfast.hub")


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


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """All links and sessions, by the hashes of their secrets, and when somebody last came with each session."""

    invites: dict[str, _Invite] = {}
    sessions: dict[str, Session] = {}
    seen: dict[str, float] = {}


class Sessions:
    """The sessions of one process, or of all that share the file `path`. `now`: seconds since the epoch."""

    def __init__(self, now: Callable[[], float], path: Path | None = None) -> None:
        self._now, self._path = now, path
        self._kept = _Kept()
        self._stamp: tuple[int, int, int] | None = None

    def invite(self, who: str, scopes: frozenset[Scope]) -> str:
        """Return a code that opens one session for `who`."""
        code = secrets.token_urlsafe(32)
        with self._changing() as kept:
            kept.invites[_digest(code)] = _Invite(who, scopes, self._now() + INVITE_LIFE)
            while len(kept.invites) > INVITES_MAX:
                del kept.invites[next(iter(kept.invites))]
        return code

    def redeem(self, code: str) -> tuple[str, Session] | None:
        """Open the session of a code: return the cookie's value and the session; None for one that opens nothing."""
        key, now = _digest(code), self._now()
        if key not in self._current().invites:  # so that guessing writes no file
            return None
        with self._changing() as kept:
            invite = kept.invites.pop(key, None)
            if invite is None or now >= invite.ends_at:
                return None
            cookie = secrets.token_urlsafe(32)
            session = Session(who=invite.who, scopes=invite.scopes, csrf=secrets.token_urlsafe(32), opened_at=now)
            kept.sessions[_digest(cookie)], kept.seen[_digest(cookie)] = session, now
            while len(kept.sessions) > SESSIONS_MAX:
                _end(kept, next(iter(kept.sessions)))
        return cookie, session

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie's value while it lasts."""
        key, now, kept = _digest(cookie), self._now(), self._current()
        session = kept.sessions.get(key)
        if session is None:
            return None
        seen = kept.seen.get(key, session.opened_at)
        if now >= session.opened_at + LIFE or now >= seen + IDLE:
            self.end(cookie)
            return None
        if self._path is None or now >= seen + SEEN_EVERY:
            with self._changing() as changed:
                if key in changed.sessions:
                    changed.seen[key] = now
        return session

    def end(self, cookie: str) -> None:
        """End a session; an unknown one is ended already."""
        with self._changing() as kept:
            _end(kept, _digest(cookie))

    # --- the file

    def _current(self) -> _Kept:
        if self._path is not None:
            seen = stamp(self._path)
            if seen != self._stamp:
                self._kept, self._stamp = self._read(self._path) if seen else _Kept(), seen
        return self._kept

    def _read(self, path: Path) -> _Kept:
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (msgspec.MsgspecError, FileNotFoundError) as error:
            # Whoever had a session opens another one; nothing else is lost.
            logger.warning(
                "%s: expected the sessions of people, found something else (%s): all are ended.", path, error
            )
            return _Kept()

    @contextmanager
    def _changing(self) -> Iterator[_Kept]:
        """Change what is kept; no two processes at once."""
        if self._path is None:
            yield self._kept
            return
        with locked(self._path.parent):
            kept = self._current()
            yield kept
            write(self._path, msgspec.json.encode(kept))
            self._stamp = stamp(self._path)


def _end(kept: _Kept, key: str) -> None:
    kept.sessions.pop(key, None)
    kept.seen.pop(key, None)


def same(found: str, expected: str) -> bool:
    """Compare secrets without telling by the time how much of them is right."""
    return hmac.compare_digest(found.encode("utf-8", "replace"), expected.encode())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
