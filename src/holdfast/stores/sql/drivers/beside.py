"""Work that is done while a database thinks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

T = TypeVar("T")


async def beside(question: Coroutine[Any, Any, T], work: Iterator[None]) -> T:
    """Put a question, and do `work` piece by piece until it is answered; then do what is left of it. Return the answer.

    What the work raises is raised when the question was answered, so that its connection can be used on.
    """
    asking = asyncio.get_running_loop().create_task(question, name="holdfast-ask")
    try:
        # One turn until it is begun, one more until it is on its way.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in work:
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        asking.cancel()
        await asyncio.wait([asking])
        raise
    except Exception:
        await asyncio.wait([asking])
        if not asking.cancelled():
            asking.exception()  # the work's word goes before the database's
        raise
    return await asking
