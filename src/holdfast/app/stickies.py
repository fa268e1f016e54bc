"""The sticky services of an app: their definitions, the router behind them, and what they add to a worker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.connect import make_router, masked, router_lives_in_process
from holdfast.durations import Duration, seconds
from holdfast.errors import ConfigError
from holdfast.router import check_names
from holdfast.sticky.router import Router, RouterOptions
from holdfast.sticky.service import MAX_KEYS, Sticky
from holdfast.sticky.steering import Steering
from holdfast.sticky.watch import StickyCollector, Times, watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from holdfast.clock import Clock
    from holdfast.router import StatefulExecutor
    from holdfast.store import Store
    from holdfast.worker.hooks import Hooks
    from holdfast.worker.options import WorkerOptions


class Stickies:
    """All sticky services of an app. The router is opened at its first use, in the loop that uses it."""

    def __init__(self, url: str, namespace: str, clock: Clock, store: Callable[[], Awaitable[Store]]) -> None:
        check_names(namespace, "-")  # at once: a worker would only find it when the first key waits
        self.url, self._namespace, self._clock, self._store = url, namespace, clock, store
        self.services: dict[str, Sticky] = {}
        self._kept: StatefulExecutor | None = None
        self._router: Router | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Lock | None = None

    def __len__(self) -> int:
        return len(self.services)

    def use(self, url: str) -> None:
        """Use the router of `url` from now on, whatever the app was made with."""
        self.url = url

    def add(self, name: str, ttl: Duration, on_lost: str, max_keys: int | None) -> Sticky:
        """Make a service."""
        if name in self.services:
            raise ConfigError(
                f"sticky service {name!r}: expected one of this name, found a second. Choose another name."
            )
        kept = MAX_KEYS if max_keys is None else max_keys
        made = Sticky(self, name, ttl=seconds(ttl, "ttl", positive=True), on_lost=on_lost, max_keys=kept)
        self.services[name] = made
        return made

    # --- the router

    async def store(self) -> Store:
        """The store, open in the running loop."""
        return await self._store()

    async def router(self) -> Router:
        """The router, open in the running loop. Raises RouterUnavailable."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A closed loop has taken its connections along; what is in this process's memory is kept.
            self._loop, self._router, self._opening = loop, None, asyncio.Lock()
        assert self._opening is not None, "made with the loop"
        async with self._opening:
            if self._router is None:
                executor = self._make()
                await executor.open()
                link = max((service.ttl for service in self.services.values()), default=RouterOptions().link)
                options = RouterOptions(namespace=self._namespace, link=link)
                self._router = Router(watched(executor, self._clock.monotonic), options, clock=self._clock)
            return self._router

    def _make(self) -> StatefulExecutor:
        if not router_lives_in_process(self.url):
            return make_router(self.url, clock=self._clock)
        if self._kept is None:
            self._kept = make_router(self.url, clock=self._clock)
        return self._kept

    def collector(self) -> StickyCollector:
        """What Prometheus is told of the services."""
        return StickyCollector(lambda: self._router)

    async def steering(self) -> Steering:
        """What moves keys, on the store and the router of the running loop."""
        return Steering(await self.router(), await self._store())

    async def close(self) -> None:
        """Close the router, if it is open in the running loop."""
        router = self._router
        if router is not None and self._loop is asyncio.get_running_loop():
            self._router = None
            await router.close()
            await router.executor.close()

    # --- a worker

    @asynccontextmanager
    async def joined(self, source: Store, options: WorkerOptions, hooks: Hooks) -> AsyncIterator[tuple[Any, Hooks]]:
        """Give what a worker claims from and listens to, with what the services add; as they were, if there are none."""
        if not self.services:
            yield source, hooks
            return
        if not source.capabilities.sticky:
            raise ConfigError(
                f"sticky services {', '.join(map(repr, self.services))}: expected a store that binds keys to pods, found one "
                "that does not. Use another store, or no sticky tasks."
            )
        from holdfast.sticky.runtime import Drains, Runtime

        router = await self.router()
        times: dict[str, Times] = getattr(router.executor, "times", {})

        def make() -> StatefulExecutor:
            return watched(self._make(), self._clock.monotonic, times=times)

        async with Runtime(self.services, router, source, options, self._clock, make_executor=make) as runtime:
            more = msgspec.structs.replace(
                hooks,
                middleware=(runtime.around, *hooks.middleware),
                observers=(*hooks.observers, Drains(runtime)),
            )
            yield runtime.source, more

    def __repr__(self) -> str:
        return f"<{len(self.services)} sticky services on {masked(self.url)}>"
