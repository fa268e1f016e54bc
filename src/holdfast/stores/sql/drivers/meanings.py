"""What an error of a database server means for us, and how we say it; each driver has a table of its own errors."""

from __future__ import annotations

from enum import Enum
from typing import Final

from holdfast.errors import ConfigError, HoldfastError, StoreError, StoreFull, StoreUnavailable


class Meaning(Enum):
    """What may follow from an error."""

    AGAIN = "again"  # the transaction was rolled back, and may go well when it is repeated
    RENEW = "renew"  # the same, on a fresh connection
    LOST = "lost"  # the connection is gone; whether a commit under way was done is not known
    AWAY = "away"  # the server can not now: nothing was stored
    FULL = "full"
    RIGHTS = "rights"
    SCHEMA = "schema"
    SETTING = "setting"  # somebody has to change the URL, a password or the server
    OURS = "ours"  # our mistake, or one in the caller's values


_AWAY: Final = (
    StoreUnavailable,
    "does not answer",
    "Nothing was stored; it is safe to try again. Check that the server runs and can be reached from here.",
)
_WORDS: Final[dict[Meaning, tuple[type[HoldfastError], str, str]]] = {
    Meaning.AGAIN: (StoreUnavailable, "kept refusing", "Nothing was stored; it is safe to try again."),
    Meaning.RENEW: _AWAY,
    Meaning.LOST: _AWAY,
    Meaning.AWAY: _AWAY,
    Meaning.FULL: (StoreFull, "has no room", "Nothing was stored. Free disk space on the server."),
    Meaning.RIGHTS: (
        ConfigError,
        "refused a right",
        "Expected an account that may read and write Holdfast's tables, and create them for `holdfast migrate`. Grant it, or "
        "use another account.",
    ),
    Meaning.SCHEMA: (
        ConfigError,
        "has other tables than this release needs",
        "Run `holdfast migrate` (with --sql it prints the statements); if another prefix or schema was meant, give it.",
    ),
    Meaning.SETTING: (
        ConfigError,
        "does not let us in",
        "Check user, password and name of the database in the store URL.",
    ),
    Meaning.OURS: (StoreError, "refused a statement", "Nothing was stored. Please report this."),
}


def in_our_words(error: BaseException, meaning: Meaning, where: str) -> HoldfastError:
    """Return the error of our tree that says this one; for an error after which nothing is stored."""
    if isinstance(error, HoldfastError):
        return error
    kind, what, advice = _WORDS[meaning]
    return kind(f"{where} {what}: {type(error).__name__}: {error}. {advice}")
