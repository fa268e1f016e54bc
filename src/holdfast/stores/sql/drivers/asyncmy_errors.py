"""What the errors of MySQL, MariaDB and of their driver mean for us: one table, and one function that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.stores.sql.drivers.meanings import Meaning, in_our_words

if TYPE_CHECKING:
    from holdfast.errors import HoldfastError


MEANINGS: Final[dict[int, Meaning]] = {
    1213: Meaning.AGAIN,  # deadlock
    1205: Meaning.AGAIN,  # lock wait timeout
    1062: Meaning.AGAIN,  # duplicate key: another was first; the repeat finds what it stored
    1020: Meaning.AGAIN,  # the record has changed since it was read
    1412: Meaning.AGAIN,  # the table's definition has changed
    1290: Meaning.RENEW,  # the server is read-only: it became a replica
    1836: Meaning.RENEW,  # the same
    2006: Meaning.LOST,  # server has gone away
    2013: Meaning.LOST,  # lost connection during a query
    2014: Meaning.LOST,  # commands out of sync
    2055: Meaning.LOST,  # lost connection, with the system's error
    1053: Meaning.LOST,  # server shutdown in progress
    1317: Meaning.LOST,  # query was interrupted: somebody killed it
    1927: Meaning.LOST,  # connection was killed
    1158: Meaning.LOST,  # errors and time-outs in reading and writing packets
    1159: Meaning.LOST,
    1160: Meaning.LOST,
    1161: Meaning.LOST,
    4031: Meaning.LOST,  # disconnected for inactivity
    2002: Meaning.AWAY,  # can not connect, by socket
    2003: Meaning.AWAY,  # can not connect, by host
    1040: Meaning.AWAY,  # too many connections
    1203: Meaning.AWAY,  # too many connections of this user
    1226: Meaning.AWAY,  # the user's resources are used up
    1041: Meaning.AWAY,  # out of memory
    1021: Meaning.FULL,  # disk full
    1114: Meaning.FULL,  # table full
    1044: Meaning.RIGHTS,  # access denied to the database
    1142: Meaning.RIGHTS,  # command denied
    1143: Meaning.RIGHTS,  # column denied
    1227: Meaning.RIGHTS,  # a privilege is missing
    1146: Meaning.SCHEMA,  # no such table
    1054: Meaning.SCHEMA,  # no such column
    1045: Meaning.SETTING,  # access denied: wrong user or password
    1049: Meaning.SETTING,  # no such database
    1130: Meaning.SETTING,  # this host may not connect
    1251: Meaning.SETTING,  # authentication that the client does not know
    1698: Meaning.SETTING,  # access denied by a plugin
    2059: Meaning.SETTING,  # authentication plugin can not be loaded
}


def code_of(error: BaseException) -> int:
    """Return the number of an error, or 0."""
    code = error.args[0] if error.args else 0
    # The driver hands the number of the server on as its first argument; the system's errors have numbers too.
    return code if isinstance(code, int) and not isinstance(error, OSError) else 0


def meaning_of(error: BaseException) -> Meaning:
    """Return what an error of the driver means."""
    if isinstance(error, OSError | EOFError | TimeoutError):
        return Meaning.LOST
    found = MEANINGS.get(code_of(error))
    if found is not None:
        return found
    # Without a number the driver speaks of its own connection.
    closed = code_of(error) == 0 and any(word in str(error).lower() for word in ("not connected", "closed", "lost"))
    return Meaning.LOST if closed else Meaning.OURS


def as_ours(error: BaseException, where: str) -> HoldfastError:
    """Return the error of our tree that says this one; for an error after which nothing is stored."""
    return in_our_words(error, meaning_of(error), where)
