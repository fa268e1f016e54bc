"""Tokens of the API: who may do what. Kept as hashes in one file; a token that is revoked opens nothing from then on.

A token is `hf_` and 43 random characters. The file holds its SHA-256: the secret has 256 bits of chance, so no slow hash is
needed to keep it from being guessed. The file is looked at before each use (one `stat`), so that a change counts at once in
every process that serves the API.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import ConfigError, Conflict
from holdfast.hub.private import locked, stamp, write
from holdfast.hub.scopes import OWNER, READER, Principal, Scope, allowed
from holdfast.job.ids import check_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FILE", "OWNER", "PREFIX", "READER", "Principal", "Token", "TokenFile"]

FILE: Final = "tokens.json"
PREFIX: Final = "hf_"
_BYTES: Final = 32


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token. digest: SHA-256 of the secret, in hex. Times are seconds since the epoch; expires_at None: never."""

    name: str
    digest: str
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None = None

    @property
    def may(self) -> frozenset[Scope]:
        """What its holder may do."""
        return allowed(self.scopes)


class TokenFile:
    """The tokens in one file, 0600, in a folder that exists. Made at the first token."""

    def __init__(self, path: Path) -> None:
        """`path`: the file; it need not exist."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._known: tuple[Token, ...] = ()

    def all(self) -> tuple[Token, ...]:
        """All tokens, by name. Raises ConfigError when the file can not be read as such."""
        seen = stamp(self._path)
        if seen != self._seen:
            self._known = self._read() if seen else ()
            self._seen = seen
        return self._known

    def find(self, secret: str, now: float) -> Principal | None:
        """Return who holds `secret` at `now` (seconds since the epoch); None: nobody, or no longer.

        Every digest is compared, so that the time tells nothing of which are there.
        """
        digest = _digest(secret)
        right = [token for token in self.all() if hmac.compare_digest(token.digest, digest)]
        live = [token for token in right if token.expires_at is None or now < token.expires_at]
        return Principal(live[0].name, live[0].may) if live else None

    def make(self, name: str, scopes: tuple[Scope, ...], *, now: float, expires_at: float | None = None) -> str:
        """Store a new token and return its secret, which is shown this once.

        Raises ConfigError for a bad name or no scope, Conflict for a name that is taken.
        """
        check_name(name, "token")
        if not scopes:
            raise ConfigError(f"token {name!r}: expected one scope or more of {', '.join(Scope)}, found none.")
        secret = PREFIX + secrets.token_urlsafe(_BYTES)
        token = Token(
            name=name,
            digest=_digest(secret),
            scopes=tuple(dict.fromkeys(scopes)),
            created_at=now,
            expires_at=expires_at,
        )

        def with_it(known: tuple[Token, ...]) -> tuple[Token, ...]:
            _refuse_taken(known, name)
            return (*known, token)

        self._change(with_it)
        return secret

    def refuse_taken(self, name: str) -> None:
        """Raise what `make` raises for a name: ConfigError for a bad one, Conflict for one that is taken."""
        check_name(name, "token")
        _refuse_taken(self.all(), name)

    def revoke(self, name: str) -> None:
        """Forget a token. Raises ConfigError for an unknown one."""

        def without_it(known: tuple[Token, ...]) -> tuple[Token, ...]:
            left = tuple(one for one in known if one.name != name)
            if len(left) == len(known):
                names = ", ".join(one.name for one in known) or "none"
                raise ConfigError(f"no token is called {name!r}; there are: {names}.")
            return left

        self._change(without_it)

    # --- the file

    def _read(self) -> tuple[Token, ...]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[Token, ...])
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"{self._path}: expected the tokens that `holdfast tokens` writes, found something else: {error}. "
                "Remove the file to begin anew; every token is then revoked."
            ) from error

    def _change(self, change: Callable[[tuple[Token, ...]], tuple[Token, ...]]) -> None:
        with locked(self._path.parent):
            known = self._read() if self._path.exists() else ()
            tokens = sorted(change(known), key=lambda token: token.name)
            write(self._path, msgspec.json.format(msgspec.json.encode(tokens), indent=2))


def _refuse_taken(known: tuple[Token, ...], name: str) -> None:
    if any(one.name == name for one in known):
        raise Conflict(f"there is a token called {name!r} already: revoke it, or choose another name.")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
