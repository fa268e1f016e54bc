"""The journal of a program that embeds it, served to other processes at the socket in its folder, as a node serves its own.

Made by `holdfast.connect.make_share`, for an app whose worker runs in a program of the user. No TCP, so no token.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

import msgspec

from holdfast.hub.door import Door, Policy
from holdfast.hub.parts import NodeInfo, Parts
from holdfast.node import sockets
from holdfast.node.about import own_version, problem_of, recovery_seconds, state_of
from holdfast.node.server import serving
from holdfast.node.watch import Watch, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from holdfast.clock import Clock
    from holdfast.store import Store


class Share:
    """Serves `store`, which is open and owns `folder`, from `start` to `stop`, in one loop. Used once.

    validate: raises BadArguments when a payload does not fit a task; tells whether it knows
    the task. The rest is what the program tells of itself.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        validate: Callable[[str, bytes], bool],
        tasks: Sequence[str] = (),
        queues: Sequence[str] = (),
        slots: int = 0,
    ) -> None:
        self._store, self._folder, self._clock = store, folder, clock
        self._parts = Parts(store=store, new_id=new_id, node=self.info, validate=validate)
        self._info = NodeInfo(
            version=own_version(),
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=clock.now(),
            now=0.0,
            store=f"journal:{folder}",
            durable=store.capabilities.durable,
            data=str(folder.resolve()),
            tasks=tuple(tasks),
            queues=tuple(queues),
            slots=slots,
            recovery=recovery_seconds(store),
        )
        self._up, self._stopping = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def info(self) -> NodeInfo:
        """What this process tells of itself."""
        state = "draining" if self._stopping.is_set() else state_of(self._store) or "ready"
        return msgspec.structs.replace(self._info, now=self._clock.now(), state=state, problem=problem_of(self._store))

    async def start(self) -> None:
        """Return when others are answered. Raises CannotListen."""
        # A task of its own: whoever ends the session may be another than who began it.
        self._task = asyncio.create_task(self._serve(), name="holdfast-share")
        up = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait((up, self._task), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.stop()
            raise
        finally:
            up.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Answer what was asked, within a bounded time, and let the socket go."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _serve(self) -> None:
        with ExitStack() as stack:
            bound = stack.enter_context(sockets.bind_unix(self._folder))
            stack.callback(sockets.forget, self._folder)
            async with serving(Door(_Later(self._parts), Policy(trusted=True)), bound):
                self._up.set()
                failure = await Watch(self._store).until(self._stopping)
                if failure:
                    logger.error("the store failed, and serves nothing more: %s", failure)
                    await self._stopping.wait()


class _Later:
    """The API, made when it is first asked: that takes a third of a second, and many programs are never asked."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._made = parts, cast("Any", None)
        self._making = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)  # handlers want their turn meanwhile
        await self._made(scope, receive, send)

    def _make(self) -> Any:
        from holdfast.hub.api import make_api

        return make_api(self._parts)
