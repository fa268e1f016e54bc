"""The keys that this process has, each with its state: built once, kept while its link stays ours, closed at the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.sticky.service import Sticky

Address = tuple[str, str]  # service and key
logger: Final = logging.getLogger("holdfast.sticky")


class Hold:
    """A key that this process has.

    running: jobs that use its state now. confirmed: until when (monotonic) the link is known to be ours. closed: its state
    is closed. gone: set when the link was given up as well, so that the key may be held anew.
    """

    def __init__(self, service: Sticky, key: str, epoch: int) -> None:
        self.service, self.key, self.epoch = service, key, epoch
        self.running = 0
        self.used = 0.0
        self.confirmed = 0.0
        self.closed = False
        self.gone = asyncio.Event()
        self._lock = asyncio.Lock()
        self._unused = asyncio.Event()
        self._unused.set()
        self._closing: asyncio.Task[None] | None = None
        self._context: AbstractAsyncContextManager[Any] | None = None
        self._state: Any = None

    @property
    def address(self) -> Address:
        """Service and key."""
        return self.service.name, self.key

    def enter(self) -> None:
        """A job begins to use the state."""
        self.running += 1
        self._unused.clear()

    def leave(self) -> None:
        """A job has ended."""
        self.running -= 1
        if not self.running:
            self._unused.set()

    async def state(self) -> Any:
        """The state, built now if it is not. Raises what the builder raises; then the next job tries again."""
        async with self._lock:
            if self._context is None:
                context = self.service.build(self.key)
                self._state = await context.__aenter__()
                self._context = context
            return self._state

    async def end(self, grace: float) -> None:
        """Close the state as soon as no job uses it. Returns after `grace` seconds at the latest: then it is cancelled, or
        left to the job that does not end."""
        closing = self._closing = asyncio.create_task(self._close(), name="holdfast-close")
        await asyncio.wait((closing,), timeout=grace)
        if closing.done():
            return
        which, after = f"service {self.service.name}: key {self.key!r}", f"after {grace:g} s"
        if self.running:
            logger.warning("%s: its job still runs %s; its state closes when that ends", which, after)
        else:
            logger.error("%s: its state has not closed %s and is cancelled", which, after)
            closing.cancel()

    async def _close(self) -> None:
        """Close the state. What that raises is logged: the key is gone all the same."""
        await self._unused.wait()
        async with self._lock:
            context, self._context, self._state = self._context, None, None
            if context is not None:
                try:
                    await context.__aexit__(None, None, None)
                except Exception:
                    logger.exception("service %s: the state of key %r did not close well", self.service.name, self.key)


class Holds:
    """All keys of this process, by service and key; the one used longest ago is first. A key that leaves is apart: no job
    may have it, and its state counts until it is closed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_address: dict[Address, Hold] = {}
        self._leaving: dict[Address, Hold] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def __iter__(self) -> Iterator[Hold]:
        return iter(tuple(self._by_address.values()))

    def count(self, service: str) -> int:
        """How many states of a service there are, those that close included."""
        return self._counts.get(service, 0)

    def get(self, address: Address) -> Hold | None:
        """The hold of a key, if there is one that jobs may have."""
        return self._by_address.get(address)

    def put(self, hold: Hold) -> None:
        """Hold a key."""
        self._by_address[hold.address] = hold
        self._counts[hold.service.name] = self.count(hold.service.name) + 1

    def touch(self, hold: Hold) -> None:
        """A job of this key begins or ends: it was used just now."""
        hold.used = self._monotonic()
        if self._by_address.get(hold.address) is hold:
            del self._by_address[hold.address]
            self._by_address[hold.address] = hold

    # --- leaving

    def leave(self, hold: Hold) -> bool:
        """Give a key to no more jobs; False: it has left before."""
        if self._by_address.get(hold.address) is not hold:
            return False
        del self._by_address[hold.address]
        self._leaving[hold.address] = hold
        return True

    def closed(self, hold: Hold) -> None:
        """The state of a key that leaves is closed."""
        hold.closed = True
        self._counts[hold.service.name] -= 1

    def forget(self, hold: Hold) -> None:
        """A key has left; it may be held anew."""
        del self._leaving[hold.address]
        hold.gone.set()

    def leaving(self, address: Address) -> Hold | None:
        """The hold of a key that leaves, if there is one."""
        return self._leaving.get(address)

    def all_leaving(self) -> list[Hold]:
        """All that leave."""
        return list(self._leaving.values())

    # --- which may leave

    def idle(self) -> list[Hold]:
        """Those that no job has used for their service's ttl."""
        now = self._monotonic()
        return [hold for hold in self if not hold.running and hold.used + hold.service.ttl <= now]

    def is_full(self, service: Sticky) -> bool:
        """Whether a service has as many states as it may have."""
        return self.count(service.name) >= service.max_keys

    def unused(self, service: Sticky) -> Hold | None:
        """The one of a service that was used longest ago, of those that no job uses now."""
        return next((hold for hold in self if hold.service is service and not hold.running), None)
