"""All claims that this worker holds: from the claim's answer until the store has taken their outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.worker.execution import Execution


class HeldClaims:
    """Executions by the store's reference. Read by the heartbeat's thread, written by the loop alone."""

    def __init__(self) -> None:
        self._by_ref: dict[int | str, Execution] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._by_ref)

    def __iter__(self) -> Iterator[Execution]:
        """Go through a copy, so that the loop may go on while another thread looks."""
        return iter(list(self._by_ref.values()))

    def get(self, ref: int | str) -> Execution | None:
        """The execution of an item, if it is held."""
        return self._by_ref.get(ref)

    def add_all(self, executions: Iterable[Execution]) -> list[Execution]:
        """Hold them. Returns the older executions of the same items, which have lost their claims by that."""
        by_ref, lost = self._by_ref, []
        for execution in executions:
            ref = execution.claim.ref
            older = by_ref.setdefault(ref, execution)
            if older is not execution:
                by_ref[ref] = execution
                lost.append(older)
        return lost

    def remove(self, execution: Execution) -> None:
        """The claim is over, or no longer ours."""
        self.remove_all((execution,))

    def remove_all(self, executions: Iterable[Execution]) -> None:
        """These claims are over."""
        by_ref = self._by_ref
        for execution in executions:
            ref = execution.claim.ref
            if by_ref.get(ref) is execution:
                del by_ref[ref]
        if self._waiting and not by_ref:
            self._tell()

    def _tell(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def emptied(self) -> None:
        """Return when nothing is held."""
        while self._by_ref:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
