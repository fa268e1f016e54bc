"""The store of an app in this process: opened on first use, in one event loop at a time, anew after a fork."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, cast

from holdfast.app.portal import Portal, refuse_in_loop, run_in
from holdfast.app.session import Session
from holdfast.chance import IdMaker
from holdfast.connect import lives_in_process, make_store, masked
from holdfast.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from holdfast.clock import Clock
    from holdfast.store import Store

T = TypeVar("T")

_CHILD = "holdfast.worker.process.child"


class Lent:
    """A store as its owner lends it to an app: open already, and closed by its owner alone."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """Its owner closes it."""

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's."""
        return getattr(self._store, name)


class Connection:
    """Where an app's store is open, and how to get at it from any thread."""

    def __init__(self, url: str, clock: Clock, store: Store | None, options: dict[str, Any]) -> None:
        if store is not None and (url != "memory:" or options):
            raise ConfigError("expected a store URL or store=, found both. Leave one out.")
        self._clock = clock
        self._place(url, options, store)
        self._hooked = False
        self._inherited: Session | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin with nothing: at first, and in the child of a fork, whose parent keeps what there was."""
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._owner: asyncio.AbstractEventLoop | None = None  # the loop that has, or is about to have, the session
        self._opening: asyncio.Lock | None = None
        self._portal: Portal | None = None
        self._kept: Store | None = None
        self.new_id = IdMaker(self._clock.now)

    # --- which store -----------------------------------------------------------------------------------------------

    def _place(self, url: str, options: dict[str, Any], store: Store | None = None) -> None:
        self.shown = masked(url) if store is None else type(store).__name__
        self.url, self.options, self._given = url if store is None else "", options, store

    def use(self, url: str, options: dict[str, Any]) -> None:
        """Use the store of `url` from now on. Raises UsageError while a store is open."""
        self._refuse_while_open()
        self._place(url, options)
        self._kept = None

    def lend(self, store: Store) -> None:
        """Use a store that is open and stays open. Raises UsageError while a store is open."""
        self._refuse_while_open()
        self._place("", {}, cast("Store", Lent(store)))
        self.shown = type(store).__name__

    def _refuse_while_open(self) -> None:
        if self._session is not None and not self._session.closed:
            raise UsageError(
                f"expected an app whose store is closed, found {self.shown} open. Choose the store before its first use, or "
                "close the app first."
            )

    # --- from a loop -----------------------------------------------------------------------------------------------

    async def session(self) -> Session:
        """Return the session of the running loop, opened if it is not. Raises UsageError while another loop has it."""
        session = self._session
        if session is not None and session.loop is asyncio.get_running_loop() and not session.closed:
            return session
        opening = await self._become_owner(asyncio.get_running_loop())
        async with opening:
            session = self._session
            if session is None or session.closed:
                self._session = session = await self._open()
            return session

    async def _open(self) -> Session:
        try:
            return await Session.open(self._make_store(), self._clock)
        except BaseException:
            # What could not be opened here may be opened by another loop.
            with self._lock:
                self._owner = self._opening = None
            raise

    async def _become_owner(self, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
        with self._lock:
            former = self._owner
            if former is loop and self._opening is not None:
                return self._opening
            # The portal's loop gives way: what it has can be opened here just as well, and `.sync` finds it here.
            gives_way = self._portal is not None and former is self._portal.loop
            if former is not None and not former.is_closed() and not gives_way:
                raise UsageError(
                    "this app is open in another event loop of this process that still lives. Expected one loop at a time: "
                    "use the app from that loop, close it there with `await app.close()`, or call .sync from other threads."
                )
            old, self._session = self._session, None
            self._owner, self._opening = loop, asyncio.Lock()
            opening = self._opening
        if gives_way and old is not None and former is not None and former.is_running():
            async with opening:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(old.close(), former))
        return opening

    async def close(self) -> None:
        """Close the session of the running loop; nothing if there is none."""
        session = self._session
        if session is None or session.loop is not asyncio.get_running_loop():
            return
        await session.close()
        with self._lock:
            if self._session is session:
                self._session = self._owner = self._opening = None

    def _make_store(self) -> Store:
        self._hook()
        if self._given is not None:
            return self._given
        if not lives_in_process(self.url):
            return make_store(self.url, clock=self._clock, **self.options)
        _refuse_in_child()
        # Its jobs are nowhere else: the next loop must find them.
        if self._kept is None:
            self._kept = make_store(self.url, clock=self._clock, **self.options)
        return self._kept

    def _hook(self) -> None:
        if self._hooked:
            return
        self._hooked = True
        me = weakref.ref(self)

        def forget() -> None:
            connection = me()
            if connection is not None:
                # Kept from being collected: that would close it, in a loop and on files that are the parent's.
                connection._inherited = connection._session
                connection._forget()

        os.register_at_fork(after_in_child=forget)

    # --- from elsewhere --------------------------------------------------------------------------------------------

    def run_sync(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop that holds the store, or in the portal's. Raises UsageError where a loop runs."""
        refuse_in_loop(work)
        self._hook()
        with self._lock:
            loop = self._owner
            if loop is None or not loop.is_running():
                loop = self._start_portal().loop
        return run_in(loop, work)

    def _start_portal(self) -> Portal:
        if self._portal is None or not self._portal.alive:
            self._portal = Portal()
            atexit.register(self._portal.stop)
        return self._portal


def _refuse_in_child() -> None:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name == _CHILD:
        raise UsageError(
            "a handler in a child process used its app, whose store is memory: and lives in the worker's process alone. "
            "Use journal: or a database, or another executor for this task."
        )
