"""Which moment a transaction of somebody else's sees.

At READ COMMITTED each statement sees what was committed before it. At REPEATABLE READ and above all of them see the moment
at which the transaction began to read. Whether a unique key is free, an id was used, or a job is the first in the line of
its key can not be told from there: a line whose first job ended since would stand still for ever. On MySQL and MariaDB,
where it is what sessions begin with, looking at the newest rows all the same locks the gaps between them, and then
the whole fleet waits for the transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.stores.sql.script import Script, Step

_NEWEST: Final = ("READ COMMITTED", "READ UNCOMMITTED")


def refuse_old_view(step: Step) -> Script[None]:
    """Raise UsageError where the transaction is the caller's and may see an old moment."""
    found = (yield from step.db.isolation()) if step.within else ""
    if found and found not in _NEWEST:
        raise UsageError(
            "tx=: for jobs with a key, a unique key or an id of your own, expected a transaction at READ COMMITTED, found "
            f"{found}, which does not see what others stored since it began. With SQLAlchemy: create_engine(url, "
            "isolation_level='READ COMMITTED'); else on each connection: SET SESSION TRANSACTION ISOLATION LEVEL READ "
            "COMMITTED (PostgreSQL: SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED)."
        )
