"""A journal for a process that may or may not be the first: a client of the node that owns it, else its owner.

Who opens first owns the folder until it closes. A node and a worker serve the folder to others; a script that only enqueues
does not, so while it owns the folder, others are refused and told who it is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from holdfast.errors import NodeNotRunning, StoreClosed, StoreUnavailable
from holdfast.stores.remote.http import Address, HttpClient
from holdfast.stores.remote.store import RemoteStore
from holdfast.wal.errors import LogHeld
from holdfast.wire.place import find_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.store import Capabilities, Store

#: A node that starts holds its folder before it answers: how often, and how long to look for its socket, in seconds.
_LOOK_EVERY: Final = 0.05
_STARTING: Final = 5.0


class _Leaving(Exception):
    """Somebody listened at the socket and then did not answer: a node that ends, or one that can not serve now."""


class AutoStore:
    """The Store port on a data folder. `role`: "auto", or "client" (never own it)."""

    def __init__(self, data: str, own: Callable[[], Store], *, role: str, clock: Clock) -> None:
        self._data, self._own, self._role, self._clock = Path(data), own, role, clock
        self._store: Store | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the store that was found can do."""
        return self._opened().capabilities

    @property
    def is_client(self) -> bool:
        """Whether another process owns the folder."""
        return isinstance(self._store, RemoteStore)

    def now(self) -> float:
        """The store's clock; before it is open, this machine's."""
        return self._clock.now() if self._store is None else self._store.now()

    async def open(self) -> None:
        """Find the node, or become the owner. Raises NodeNotRunning in role "client", and what opening a journal raises."""
        if self._store is not None:
            await self._store.open()
            return
        self._store = await self._found()

    async def close(self) -> None:
        """Let go; the next open looks again."""
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    async def _found(self) -> Store:
        """Look for the node, and become the owner where there is none, until one of both works out or time is up.

        A folder that changes hands is held before its socket answers, and its socket may still be there, or close on us,
        while its owner lets go.
        """
        deadline = self._clock.monotonic() + _STARTING
        while True:
            try:
                return await self._node() or await self._owned()
            except (LogHeld, _Leaving) as error:
                if self._clock.monotonic() >= deadline:
                    raise error.__cause__ or error from None
            await asyncio.sleep(_LOOK_EVERY)

    async def _node(self) -> Store | None:
        path = await asyncio.to_thread(find_node, self._data)
        if path is None:
            return None
        found = RemoteStore(HttpClient(Address(socket=str(path))), clock=self._clock)
        try:
            await found.open()
        except StoreUnavailable as error:
            raise _Leaving from error
        return cast("Store", found)

    async def _owned(self) -> Store:
        if self._role == "client":
            raise NodeNotRunning(str(self._data))
        store = self._own()
        await store.open()
        return store

    def _opened(self) -> Store:
        if self._store is None:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
        return self._store

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's that was found."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._opened(), name)
