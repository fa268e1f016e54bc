"""What a child process needs of the app that it imports, and the import."""

from __future__ import annotations

import asyncio
import pkgutil
from typing import TYPE_CHECKING, Any, Protocol, cast

from holdfast.errors import BadAppModule
from holdfast.job.content import safe_str

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from holdfast.worker.program import Programs


class ChildApp(Protocol):
    """The app, seen from a child process."""

    @property
    def programs(self) -> Programs[Any]:
        """What can be run."""
        ...

    def lifespan_context(self) -> AbstractAsyncContextManager[Any]:
        """The app's lifespan: entered once per child, before its first job; what it yields is `ctx.state`."""
        ...


def find(name: str) -> ChildApp:
    """Import `module:attribute`. Raises BadAppModule whose cause is what the import raised."""
    try:
        app = pkgutil.resolve_name(name)
    except BaseException as error:  # the module of a user may raise anything, SystemExit too
        raise BadAppModule(f"can not import {name!r}: {type(error).__name__}: {safe_str(error)}") from error
    if not hasattr(app, "programs"):
        raise BadAppModule(
            f"expected {name!r} to be a Holdfast app, found {type(app).__name__}. Name the app's variable."
        )
    return cast("ChildApp", app)


class Lifespan:
    """An app's lifespan, entered and left by one task, as its task groups want it."""

    def __init__(self, app: ChildApp) -> None:
        self._app = app
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Any:
        """Return what the lifespan yields; raise what it raises."""
        entered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(entered), name="holdfast-lifespan")
        await asyncio.wait((entered, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            await self._task
        return await entered

    async def _live(self, entered: asyncio.Future[Any]) -> None:
        async with self._app.lifespan_context() as state:
            entered.set_result(state)
            await self._leave.wait()

    async def leave(self) -> None:
        """Let it end; raise what it raises."""
        self._leave.set()
        if self._task is not None:
            await self._task
