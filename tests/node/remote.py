"""A store behind a real server on a real socket, as the contract suites hold it."""

import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

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


class RemoteHarness(StoreHarness):
    """The ledger in memory, reached over HTTP."""

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
        parts = Parts(store=self.inner, new_id=IdMaker(self._clock.now), node=info)
        await self._stack.enter_async_context(serving(Door(make_api(parts), TRUSTED), self._socket))
        await super().open()

    async def close(self) -> None:
        """Close both."""
        await super().close()
        await self._stack.aclose()
        await self.inner.close()
        self._folder.cleanup()

    async def leave_schedule(self, schedule: Schedule) -> None:
        """The API refuses rules that it can not read, so it is left in the store behind."""
        await self.inner.save_schedule(schedule)

    def faults(self) -> list[str]:
        """Return the contradictions in the ledger behind."""
        return [f"{fault.job_id}: {fault.what}" for fault in validate(self.inner.ledger)]
