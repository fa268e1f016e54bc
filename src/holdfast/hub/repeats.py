"""Claims whose answer was lost: a client that asks again with the same request id gets the same claims, not more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.job.commands import Claims, Want
    from holdfast.job.model import Job
    from holdfast.store import Store

#: How many answers are kept. A client repeats within seconds, or finds its claims by the next heartbeat.
KEPT: Final = 1_000


class Repeats:
    """The latest claims by instance and request id. One per process."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], asyncio.Future[Claims[Job]]] = {}

    async def claim(self, store: Store, want: Want) -> Claims[Job]:
        """Claim from the store, unless this very request was answered before, or is being answered."""
        if not want.request:
            return await store.claim(want)
        key = (want.instance, want.request)
        known = self._answers.get(key)
        if known is not None:
            return await asyncio.shield(known)
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
        while len(self._answers) > KEPT:
            self._answers.pop(next(iter(self._answers)))
        try:
            claims = await store.claim(want)
        except BaseException:
            # Nothing was handed out: whoever repeats it may try for itself.
            self._answers.pop(key, None)
            answer.cancel()
            raise
        answer.set_result(claims)
        return claims
