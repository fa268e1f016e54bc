"""An app's worker in several processes under this one.

A journal has one owner. When no other process owns it, this one does, and serves it to the worker processes, which are its
clients; a journal that a node serves, a hub and a database are shared by all alike.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from holdfast.app.preparing import loop_factory, share_journal, worker_options
from holdfast.app.reaching import reach
from holdfast.connect import make_store
from holdfast.errors import UsageError
from holdfast.worker.supervisor import LogForm, StorePlace, Supervision, supervise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdfast.app.holdfast import Holdfast
    from holdfast.app.preparing import Queues
    from holdfast.store import Store
    from holdfast.worker.options import WorkerOptions

_JOURNAL: Final = "journal:"


def run_processes(
    app: Holdfast,
    name: str,
    processes: int,
    queues: Queues | None,
    options: dict[str, Any],
    *,
    chosen: bool = False,
    log: LogForm | None = None,
) -> int:
    """Work in `processes` processes that import `name` (`module:attribute`) until a signal says stop; return the exit code.

    chosen: the store was chosen with `app.use`, so the processes must be told of it. log: how they log to standard error;
    None leaves it to the app.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(app, worker_options(app, queues, options), name, processes, log, chosen=chosen))
    raise UsageError("app.run() was called in a running event loop. Call it in a program of its own.")


async def _serve(
    app: Holdfast, set_up: WorkerOptions, name: str, processes: int, log: LogForm | None, *, chosen: bool
) -> int:
    if not await reach(app):
        return 0
    async with app:
        session = await app.session()
        await share_journal(app, session, set_up, must=True)
        async with _shared(app, session.store) as source:
            place = _place(app, chosen=chosen)
            plan = Supervision(app=name, processes=processes, options=set_up, store=place, log=log)
            return await supervise(source, plan)


@asynccontextmanager
async def _shared(app: Holdfast, store: Store) -> AsyncIterator[Store]:
    """Give the store as one that other processes may use too: a journal that this process owns, through its socket."""
    folder = getattr(store, "folder", None)
    if folder is None:
        yield store
        return
    client = make_store(f"{_JOURNAL}{folder}", clock=app.clock, role="client")
    await client.open()
    try:
        yield client
    finally:
        await client.close()


def _place(app: Holdfast, *, chosen: bool) -> StorePlace | None:
    """Return what the processes are to open instead of what the app names: a journal only as clients of its owner."""
    if app.url.startswith(_JOURNAL):
        return StorePlace(app.url, {"role": "client"})
    return StorePlace(app.url, app.store_options) if chosen else None
