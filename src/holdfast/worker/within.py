"""Settling in the handler's own transaction: the outcome becomes true together with the handler's own writes, or not at all.

The store takes the outcome through the handler's connection; whether it stays is known only when the handler is over, and
hence asked of the store then. If it stayed, the worker settles once more in the usual way, which the store knows for a
repeat. If it did not, the transaction came to nothing, and the attempt has failed: settling it as the handler said would
be a lie about its writes.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import LeaseLost, UsageError
from holdfast.job.commands import Accepted, ErrorInfo, Failed, Settlement
from holdfast.worker.reports import encode_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.commands import Ending, Settled
    from holdfast.store import Source
    from holdfast.worker.execution import Execution

_TRIES: Final = 5
_PAUSE: Final = 0.2
NOT_COMMITTED: Final = (
    "the handler settled its job in a transaction (ctx.settle) that was not committed when it returned. Commit it before "
    "the handler ends."
)


class Nothing(Awaitable[None]):
    """What there is to wait for when all is done: nothing."""

    def __await__(self) -> Generator[Any, None, None]:
        """Return at once."""
        yield from ()


def settle_within(
    source: Source[Any], e: Execution, outcome: object, tx: object, monotonic: Callable[[], float]
) -> Awaitable[None]:
    """Settle an attempt in the transaction of `tx`; at once if that is not async, else when it is awaited.

    Raises LeaseLost when the claim is over, and UsageError for a store or a handle that can not.
    """
    join = getattr(source, "settle_within", None)
    if join is None or e.program is None:
        raise UsageError(
            "ctx.settle: expected a store on a database whose transactions the handler shares, in a handler that runs in the "
            "worker's own process. Return the outcome instead."
        )
    if e.within is not None:
        raise UsageError("ctx.settle: this attempt was settled in a transaction before. Settle it once.")
    ending = e.program.ending(outcome)
    lines = encode_lines(e.report.lines) if e.report is not None else b""
    settlement = Settlement(e.claim, ending, monotonic() - e.started, lines, e.trace_id, e.span_id)
    answer = join(tx, [settlement])
    if inspect.iscoroutine(answer):
        return _awaited(e, ending, answer)
    _taken(e, ending, answer.value)
    return Nothing()


async def _awaited(e: Execution, ending: Ending, answer: Awaitable[list[Settled]]) -> None:
    _taken(e, ending, await answer)


def _taken(e: Execution, ending: Ending, answers: list[Settled]) -> None:
    if answers[0].accepted is Accepted.STALE:
        raise LeaseLost(e.id, e.token)
    e.within = ending


async def came_true(source: Source[Any], e: Execution) -> bool | None:
    """Whether the transaction in which an attempt was settled was committed; None: the store does not say."""
    find: Any = source
    for _ in range(_TRIES):
        try:
            [job] = await find.jobs([e.id])
        except Exception:  # noqa: BLE001 - whatever the store raises: it is asked again, and then given up
            await asyncio.sleep(_PAUSE)
            continue
        return job is None or job.token != e.token or job.last is None or job.last.end is not None
    return None


def not_committed() -> Failed:
    """The ending of an attempt whose transaction came to nothing, though its handler did not say so."""
    return Failed(ErrorInfo("holdfast.errors.UsageError", NOT_COMMITTED))
