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
    """A key that this process has. running: jobs that use its state now. confirmed: until when (monotonic) the link is
    known to be ours."""

    def __init__(self, service: Sticky, key: str, epoch: int) -> None:
        self.service, self.key, self.epoch = service, key, epoch
        self.running = 0
        self.used = 0.0
        self.confirmed = 0.0
        self._lock = asyncio.Lock()
        self._context: AbstractAsyncContextManager[Any] | None = None
        self._state: Any = None
        self.closed = False

    @property
    def address(self) -> Address:
        """Service and key."""
        return self.service.name, self.key

    async def state(self) -> Any:
        """The state, built now if it is not. Raises what the builder raises; then the next job tries again."""
        async with self._lock:
            if self._context is None:
                context = self.service.build(self.key)
                self._state = await context.__aenter__()
                self._context = context
            return self._state

    async def close(self) -> None:
        """Close the state. What that raises is logged: the key is gone all the same."""
        async with self._lock:
            self.closed = True
            context, self._context, self._state = self._context, None, None
            if context is not None:
                try:
                    await context.__aexit__(None, None, None)
                except Exception:
                    logger.exception("service %s: the state of key %r did not close well", self.service.name, self.key)


class Holds:
    """All keys of this process, by service and key; the one used longest ago is first."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_address: dict[Address, Hold] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def __iter__(self) -> Iterator[Hold]:
        return iter(tuple(self._by_address.values()))

    def count(self, service: str) -> int:
        """How many keys of a service are held."""
        return self._counts.get(service, 0)

    def get(self, address: Address) -> Hold | None:
        """The hold of a key, if there is one."""
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

    def drop(self, hold: Hold) -> None:
        """Hold a key no more; its state is closed by the caller."""
        if self._by_address.get(hold.address) is hold:
            del self._by_address[hold.address]
            self._counts[hold.service.name] -= 1

    def idle(self) -> list[Hold]:
        """Those that no job has used for their service's ttl."""
        now = self._monotonic()
        return [hold for hold in self if not hold.running and hold.used + hold.service.ttl <= now]

    def excess(self, service: Sticky) -> list[Hold]:
        """Those to close so that a service is within its bound: the ones used longest ago that no job uses now."""
        count = self.count(service.name) - service.max_keys
        if count <= 0:
            return []
        unused = (hold for hold in self if hold.service is service and not hold.running)
        return [hold for _, hold in zip(range(count), unused, strict=False)]
