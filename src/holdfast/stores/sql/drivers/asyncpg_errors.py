"""What the errors of PostgreSQL and of its driver mean for us: one table, and one function that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from holdfast.stores.sql.drivers.meanings import Meaning, in_our_words

if TYPE_CHECKING:
    from holdfast.errors import HoldfastError


#: By SQLSTATE; a class of two signs stands for all of it that is not named.
MEANINGS: Final[dict[str, Meaning]] = {
    "40001": Meaning.AGAIN,  # serialization_failure
    "40P01": Meaning.AGAIN,  # deadlock_detected
    "55P03": Meaning.AGAIN,  # lock_not_available (lock_timeout)
    "23505": Meaning.AGAIN,  # unique_violation: another was first; the repeat finds what it stored
    "0A000": Meaning.RENEW,  # feature_not_supported: a cached plan that a migration made invalid
    "26000": Meaning.RENEW,  # invalid_sql_statement_name: a pooler that hands out other servers' statements
    "42P05": Meaning.RENEW,  # duplicate_prepared_statement: the same
    "25006": Meaning.RENEW,  # read_only_sql_transaction: the server became a standby
    "08": Meaning.LOST,  # connection exceptions
    "57P01": Meaning.LOST,  # admin_shutdown
    "57P02": Meaning.LOST,  # crash_shutdown
    "57P05": Meaning.LOST,  # idle_session_timeout
    "25P03": Meaning.LOST,  # idle_in_transaction_session_timeout
    "57P03": Meaning.AWAY,  # cannot_connect_now: starting up, or shutting down
    "57014": Meaning.AWAY,  # query_canceled: a statement_timeout of the server's
    "53100": Meaning.FULL,  # disk_full
    "53": Meaning.AWAY,  # out of connections or memory
    "58": Meaning.AWAY,  # the server's system failed
    "42501": Meaning.RIGHTS,  # insufficient_privilege
    "42P01": Meaning.SCHEMA,  # undefined_table
    "42703": Meaning.SCHEMA,  # undefined_column
    "3F000": Meaning.SCHEMA,  # invalid_schema_name
    "28": Meaning.SETTING,  # wrong user or password
    "3D000": Meaning.SETTING,  # no such database
}
#: A pooler that does not keep prepared statements.
POOLER: Final = frozenset({"26000", "42P05"})


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error, or an empty string."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def meaning_of(error: BaseException) -> Meaning:
    """Return what an error of the driver means."""
    state = state_of(error)
    if state:
        return MEANINGS.get(state) or MEANINGS.get(state[:2]) or Meaning.OURS
    # Without a code from the server: the socket failed, or the driver found its connection closed.
    if isinstance(error, OSError | EOFError | TimeoutError | asyncpg.InternalClientError):
        return Meaning.LOST
    if isinstance(error, asyncpg.InterfaceError):
        return Meaning.LOST if "clos" in str(error) else Meaning.OURS
    return Meaning.OURS


def as_ours(error: BaseException, where: str) -> HoldfastError:
    """Return the error of our tree that says this one; for an error after which nothing is stored."""
    return in_our_words(error, meaning_of(error), where)
