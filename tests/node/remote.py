"""A store behind a real server on a real socket, as the contract suites hold it."""

import socket
import tempfile
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from holdfast.chance import IdMaker
from holdfast.clock import ManualClock
from holdfast.hub.api import make_api
from holdfast.hub.door import Door, Policy
from holdfast.hub.parts import NodeInfo, Parts
from holdfast.job.ledger import validate
from holdfast.job.model import Schedule
from holdfast.node.server import serving
from holdfast.node.sockets import bind_unix
from holdfast.stores.memory import MemoryStore
from holdfast.stores.remote import open_remote
from holdfast.testing.contract.harness import StoreHarness

TRUSTED: Final = Policy(trusted=True)


def info() -> NodeInfo:
    return NodeInfo(version="1", pid=1, host="here", started_at=0.0, now=0.0, store="memory:", durable=False)


class Served:
    """The store that is served at the moment. Making the API anew for each test takes longer than the tests."""

    def __init__(self) -> None:
        self.store: MemoryStore | None = None
        self.new_id: IdMaker | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def make_id(self) -> str:
        assert self.new_id is not None
        return self.new_id()


@cache
def api() -> tuple[Served, Door]:
    """The API of this process, and what says which store it serves."""
    served = Served()
    return served, Door(make_api(Parts(store=cast("Any", served), new_id=served.make_id, node=info)), TRUSTED)


class RemoteHarness(StoreHarness):
    """The ledger in memory, reached over HTTP. One at a time is open."""

    def __init__(self) -> None:
        clock = ManualClock()
        self.inner = MemoryStore(clock=clock)
        self._folder = tempfile.TemporaryDirectory()
        self._stack = AsyncExitStack()
        path = Path(self._folder.name)
        self._socket: socket.socket = bind_unix(path)
        super().__init__(open_remote(f"unix:{path / 'node.sock'}", clock=clock), clock)
        self._clock = clock

    async def open(self) -> None:
        """Open the inner store, serve it, and open the remote one."""
        await self.inner.open()
        served, door = api()
        assert served.store is None
        served.store, served.new_id = self.inner, IdMaker(self._clock.now)
        await self._stack.enter_async_context(serving(door, self._socket))
        await super().open()

    async def close(self) -> None:
        """Close both."""
        await super().close()
        await self._stack.aclose()
        api()[0].store = None
        await self.inner.close()
        self._folder.cleanup()

    async def leave_schedule(self, schedule: Schedule) -> None:
        """The API refuses rules that it can not read, so it is left in the store behind."""
        await self.inner.save_schedule(schedule)

    def count_exactly(self, jobs: int) -> None:
        """The store behind counts."""
        self.inner.count_exact = jobs

    def faults(self) -> list[str]:
        """Return the contradictions in the ledger behind."""
        return [f"{fault.job_id}: {fault.what}" for fault in validate(self.inner.ledger)]
