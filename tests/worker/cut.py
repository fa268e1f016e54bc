"""A source whose network can be cut, for the worker's tests."""

import asyncio
from collections.abc import Sequence
from typing import Any

from holdfast.errors import StoreUnavailable
from holdfast.job.commands import Beat, Claims, Progress, Rescued, Settled, Settlement, Signals, Want
from holdfast.stores.memory import MemoryStore


class CutSource:
    """The store, over a network with faults: `away` fails every call before it reaches the store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.capabilities = store.capabilities
        self.away = False
        self.beats = 0
        self.lose_answer_of_next_claim = False
        self.lose_answer_of_next_settle = False
        self.refuse: dict[str, Exception] = {}  # job id -> what its settle raises, with content
        self.settles: list[list[str]] = []
        self.settle_away = False  # only outcomes are refused
        self.slow_claim: asyncio.Event | None = None  # answers of claims wait until it is set
        self.slow_progress: asyncio.Event | None = None  # reports wait until it is set

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("the network is cut")

    async def claim(self, want: Want) -> Claims[Any]:
        self._check()
        claims = await self._store.claim(want)
        if self.slow_claim is not None:
            await self.slow_claim.wait()
        if self.lose_answer_of_next_claim and claims.items:
            self.lose_answer_of_next_claim = False
            raise StoreUnavailable("the answer was lost on the way")
        return claims

    async def settle(self, settlements: Sequence[Settlement[Any]]) -> list[Settled]:
        self._check()
        if self.settle_away:
            raise StoreUnavailable("outcomes do not get through")
        self.settles.append([settlement.claim.id for settlement in settlements])
        for settlement in settlements:
            if settlement.claim.id in self.refuse and getattr(settlement.ending, "result", None) is not None:
                raise self.refuse[settlement.claim.id]
        answers = await self._store.settle(settlements)
        if self.lose_answer_of_next_settle:
            self.lose_answer_of_next_settle = False
            raise StoreUnavailable("the answer was lost on the way")
        return answers

    async def progress(self, reports: Sequence[Progress[Any]]) -> list[Settled]:
        self._check()
        if self.slow_progress is not None:
            await self.slow_progress.wait()
        return await self._store.progress(reports)

    async def heartbeat(self, beat: Beat) -> Signals:
        self._check()
        signals = await self._store.heartbeat(beat)
        self.beats += 1
        return signals

    async def rescue(self, limit: int = 1_000) -> Rescued:
        self._check()
        return await self._store.rescue(limit)

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        self._check()
        return await self._store.wait(queues, cursor, timeout)
