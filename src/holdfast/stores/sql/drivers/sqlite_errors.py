"""What the errors of SQLite mean."""

from __future__ import annotations

import sqlite3

from holdfast.errors import ConfigError, StoreCorrupt, StoreFull, StoreUnavailable


def busy(error: Exception) -> bool:
    """Tell whether another connection has the lock that was asked for."""
    return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def meaning(error: Exception, path: str) -> Exception:
    """Return what an error of the database at `path` means; any other as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    name, said = _name(error), f"{path}: {error}"
    for start, kind, advice in _MEANINGS:
        if name.startswith(start):
            return kind(f"{said}: {advice}")
    return error


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


_MEANINGS: tuple[tuple[str, type[Exception], str], ...] = (
    (
        "SQLITE_BUSY",
        StoreUnavailable,
        "another process has held the database for too long. Nothing was stored; try again, look for a long transaction, or "
        "open the store with a larger busy_timeout.",
    ),
    ("SQLITE_LOCKED", StoreUnavailable, "another connection of this process holds the database. Nothing was stored."),
    ("SQLITE_FULL", StoreFull, "there is no room on the disk. Nothing was stored. Make room and try again."),
    (
        "SQLITE_NOTADB",
        ConfigError,
        "expected a SQLite database, or no file yet. Nothing was changed. Name another file.",
    ),
    ("SQLITE_CORRUPT", StoreCorrupt, "the file is damaged. Nothing was changed. Restore it from a backup."),
    (
        "SQLITE_CANTOPEN",
        ConfigError,
        "expected a file in a folder that is there and may be written. Make it, or change the URL.",
    ),
    ("SQLITE_READONLY", ConfigError, "expected a file that may be written. Change its rights, or those of its folder."),
    ("SQLITE_IOERR", StoreUnavailable, "the disk failed. Nothing was stored."),
)
