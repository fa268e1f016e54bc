"""Enqueue in the caller's own transaction, on stores that can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from holdfast.errors import TooLarge, UsageError
from holdfast.job.commands import ENQUEUE_JOBS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.commands import Define, Enqueued, OnDuplicate
    from holdfast.job.model import NewJob
    from holdfast.store import JoinsTransactions, Store


def joining(store: Store) -> JoinsTransactions:
    """Return the store as one that joins transactions. Raises UsageError for one that has none of the caller's."""
    if getattr(store, "enqueue_within", None) is None or not store.capabilities.transactional:
        raise UsageError(
            "tx=: expected a store on a database (sqlite:, postgresql:, mysql:) whose transactions you share, found one that "
            "has none. Leave tx= out, or move the jobs into your database."
        )
    return cast("JoinsTransactions", store)


async def enqueue_within(
    store: Store, tx: Any, jobs: Sequence[NewJob], on_duplicate: OnDuplicate, define: Sequence[Define] = ()
) -> list[Enqueued]:
    """Store jobs, all or none, in the transaction of `tx`, behind definitions of their tasks."""
    _check(jobs)
    return await joining(store).enqueue_within(tx, jobs, on_duplicate=on_duplicate, define=define)


def enqueue_here(
    store: Store, tx: Any, jobs: Sequence[NewJob], on_duplicate: OnDuplicate, define: Sequence[Define] = ()
) -> list[Enqueued]:
    """The same in the calling thread. Raises UsageError for an async handle."""
    _check(jobs)
    answer: Any = joining(store).enqueue_within(tx, jobs, on_duplicate=on_duplicate, define=define)
    if hasattr(answer, "close"):  # a coroutine: the handle is async
        answer.close()
        raise UsageError(
            "tx=: .sync needs a connection that is not async. In async code write `await task.using(tx=…).enqueue(…)`."
        )
    found: list[Enqueued] = answer.value
    return found


def _check(jobs: Sequence[NewJob]) -> None:
    if len(jobs) > ENQUEUE_JOBS_MAX:
        advice = "A transaction takes one batch: enqueue fewer, or without tx=."
        raise TooLarge("one enqueue", len(jobs), ENQUEUE_JOBS_MAX, "jobs", advice)
