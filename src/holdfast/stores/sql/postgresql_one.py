"""One plain job on PostgreSQL, by the shortest way: the enqueue that stands in a request, or in a loop without company.

Such a call waits for one INSERT, which takes the server less time than a dozen layers take us. So what can be known of its
job before is kept: that jobs like it can be stored, the values that they share, and, for a moment, that their queue is there
and their task is not stopped. While this is known the INSERT asks for nothing. What this process changes itself is known at
once; a task that another one stopped gets jobs for that moment more, which no claim hands out.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from holdfast.job.commands import Enqueue
from holdfast.job.ledger.enqueueing import check_batch, check_size
from holdfast.job.model import FreshJob
from holdfast.job.stack import alike
from holdfast.stores.sql.dialects.postgresql_hot import is_plain, policy_of_new
from holdfast.stores.sql.dialects.postgresql_texts import ENQUEUE_FRESH, ENQUEUE_KNOWN

if TYPE_CHECKING:
    from holdfast.job.model import NewJob
    from holdfast.stores.sql.dialects.postgresql import PostgresDialect
    from holdfast.stores.sql.drivers.asyncpg import AsyncpgDriver

#: Seconds for which a queue that was there, and a task that was not stopped, count as that. Up to 5 are allowed.
KNOWN_FOR: Final = 0.5
#: How many kinds of jobs are kept.
_KINDS_MAX: Final = 256


class _Kind:
    """Jobs that differ in id and payload alone, and can be stored."""

    __slots__ = ("known_until", "like", "values")

    def __init__(self, like: NewJob) -> None:
        self.like = like
        self.values = (like.queue, like.task, -like.priority, policy_of_new(like))
        self.known_until = 0.0


class OneByOne:
    """Stores single jobs whose ids were made for them."""

    def __init__(self, driver: AsyncpgDriver, db: PostgresDialect) -> None:
        self._driver, self._db = driver, db
        self._fresh, self._known = (text.format(**db.tables) for text in (ENQUEUE_FRESH, ENQUEUE_KNOWN))
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._changes = 0

    def forget(self) -> None:
        """Queues or tasks may have changed: whatever was known has to be asked for again."""
        self._kinds.clear()
        self._changes += 1

    async def store(self, new: NewJob) -> tuple[int, int] | None:
        """Store a job; return its number and when it came, in microseconds; None: it takes more, and was not stored.

        Raises what the job is refused for, OutcomeUnknown when it may be stored, StoreUnavailable, StoreClosed.
        """
        kind = self._kind_of(new)
        if kind is None:
            return None
        args = (new.id, new.payload, *kind.values, self._db.steered())
        if kind.known_until > monotonic():
            rows = await self._driver.ask(self._known, args)
        else:
            rows = await self._ask_first(kind, args)
        return rows[0] if rows else None

    async def _ask_first(self, kind: _Kind, args: tuple[Any, ...]) -> list[Any] | None:
        began, changes = monotonic(), self._changes
        rows = await self._driver.ask(self._fresh, args)
        if rows and changes == self._changes:
            kind.known_until = began + KNOWN_FOR
        return rows

    def _kind_of(self, new: NewJob) -> _Kind | None:
        """Return what is kept of jobs like this one, which is checked; None for a job that is no plain new one."""
        try:
            kind = self._kinds.get((new.queue, new.task))
            if kind is not None and alike(kind.like, new) and type(new.payload) is bytes and new.id.isascii():
                check_size(1, len(new.payload))
                return kind
        except (TypeError, AttributeError):
            pass  # not of the types that it declares: what is wrong with it is told below
        check_batch(Enqueue(jobs=(new,)))
        if type(new) is not FreshJob or not is_plain(new) or new.run_at is not None or new.delay is not None:
            return None
        if len(self._kinds) >= _KINDS_MAX:
            self._kinds.clear()
        self._kinds[new.queue, new.task] = kind = _Kind(new)
        return kind
