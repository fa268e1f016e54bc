"""A node: it opens the store, serves it on a socket and on loopback, runs a worker, and ends in three steps.

Order of the start: addresses are bound first (a busy port is told before the journal is touched), then the store is
opened, then the socket and the token are made (the lock of the store proves that no other node has them), then it works.
Order of the end: the worker drains while the API still answers; then the servers; then the store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.app.pods import given_pod
from holdfast.app.preparing import validator
from holdfast.app.schedules import declared, scheduling
from holdfast.chance import IdMaker
from holdfast.clock import SystemClock
from holdfast.connect import feed_of, make_audit, make_history, make_store, masked, open_history
from holdfast.errors import ConfigError
from holdfast.hub.api import make_api
from holdfast.hub.door import LOOPBACK_HOSTS, Door, Policy
from holdfast.hub.events import Ring
from holdfast.hub.parts import NodeInfo, Parts
from holdfast.hub.scopes import Scope
from holdfast.hub.sessions import FILE as SESSIONS
from holdfast.hub.sessions import Sessions
from holdfast.hub.tokens import FILE as TOKENS
from holdfast.hub.tokens import TokenFile
from holdfast.node import sockets
from holdfast.node.about import own_version, problem_of, recovery_seconds, state_of
from holdfast.node.errors import PortInUse
from holdfast.node.exporting import ExportCollector, exporting
from holdfast.node.live import Live, looking
from holdfast.node.metrics import metrics_app
from holdfast.node.programs import definitions, limited
from holdfast.node.server import serving
from holdfast.node.watch import Watch
from holdfast.schedule.scheduler import firing
from holdfast.schedule.steering import declare
from holdfast.telemetry.events import StoreLog, WorkerLog
from holdfast.telemetry.front_door import FrontDoor
from holdfast.telemetry.metrics import Metrics
from holdfast.wire.place import find_node
from holdfast.worker.options import WorkerOptions
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from holdfast.app.holdfast import Holdfast
    from holdfast.audit import AuditLog
    from holdfast.clock import Clock
    from holdfast.config import Settings
    from holdfast.exporter import Exporter
    from holdfast.feed import Feed
    from holdfast.store import Store
    from holdfast.worker.options import Concurrency

logger: Final = logging.getLogger("holdfast.node")

EXIT_CLEAN: Final = 0
#: The store failed while the node was at work: what it has is safe in its files, and a new start recovers from them.
EXIT_STORE_FAILED: Final = 11


class Node:
    """One node. `app`: whose tasks it runs; without one it serves store and API alone. Used once."""

    def __init__(self, settings: Settings, app: Holdfast | None = None, *, clock: Clock | None = None) -> None:
        self._settings, self._app, self._clock = settings, app, clock or SystemClock()
        self._metrics = Metrics()
        self._url = settings.url or f"journal:{settings.data}"
        self._local = settings.url is None or settings.url.startswith("journal:")
        self._keys = TokenFile(settings.data / TOKENS)
        self._sessions = Sessions(self._clock.now, settings.data / SESSIONS)
        self._events = Ring()
        self._audit: AuditLog | None = None
        self._stopping = asyncio.Event()
        self._worker: Worker[Any] | None = None
        self._exporter: Exporter | None = None
        self._failure = ""
        self._info = NodeInfo(
            version=own_version(),
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=self._clock.now(),
            now=0.0,
            store=masked(self._url).strip("'"),
            durable=False,
            app=settings.app,
            state="starting",
        )

    # --- what can be seen and asked

    def info(self) -> NodeInfo:
        """What the node tells of itself."""
        now, state = self._clock.now(), self._info.state
        if state == "starting":
            return msgspec.structs.replace(self._info, now=now)
        # "ready" would be a lie beside a problem of the store.
        state = state_of(self._store) or state if state == "ready" else state
        problem = self._failure or problem_of(self._store)
        export = self._exporter.figures if self._exporter is not None else None
        return msgspec.structs.replace(self._info, now=now, state=state, problem=problem, export=export)

    @property
    def zombies(self) -> int:
        """How many handlers would not stop and still run."""
        return self._worker.zombies if self._worker is not None else 0

    def invite(self, who: str) -> str:
        """Return a link that opens a session of the person who runs this node, once; empty when it serves no pages."""
        if not self._info.url:
            return ""
        return f"{self._info.url}/session?code={self._sessions.invite(who, frozenset(Scope))}"

    def stop(self) -> None:
        """Go one step further in stopping: drain, then cancel the handlers. Call it in the loop."""
        self._tell(state="draining")
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    def _tell(self, **fields: Any) -> None:
        self._info = msgspec.structs.replace(self._info, **fields)

    # --- the life of it

    async def run(self, ready: Callable[[NodeInfo], None]) -> int:
        """Serve until stopped; call `ready` once everything answers. Return the exit code.

        Raises PortInUse, CannotListen, UnsafeBind, and what opening the store raises; then nothing was started.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            tcp, metrics = self._bind(stack)
            await self._open(stack)
            await self._serve(stack, tcp, metrics)
            if self._app is None:
                self._become_ready(ready)
                await self._watched()
                return self._exit_code(EXIT_CLEAN)
            async with self._worker_of(self._app) as worker:
                self._become_ready(ready)
                await self._watched()
            logger.info("the worker has stopped after at most %g s of grace", settings.grace)
            return self._exit_code(worker.exit_code)

    def _become_ready(self, ready: Callable[[NodeInfo], None]) -> None:
        if not self._stopping.is_set():
            self._tell(state="ready")
        ready(self.info())

    def _exit_code(self, code: int) -> int:
        return EXIT_STORE_FAILED if self._failure else code

    async def _watched(self) -> None:
        """Wait for the stop; a store that has failed for good stops the node as well."""
        self._failure = await Watch(self._store).until(self._stopping)
        if self._failure:
            logger.error("the store failed, and the node stops: %s", self._failure)
            self.stop()

    # --- the steps of the start

    def _bind(self, stack: AsyncExitStack) -> tuple[socket.socket | None, socket.socket | None]:
        settings = self._settings
        tcp = metrics = None
        if settings.http:
            sockets.refuse_unsafe(settings.host, settings.api_token, self._keys)
            sockets.refuse_weak(settings.api_token)
            tcp = stack.enter_context(sockets.bind_tcp(settings.host, settings.port, "--port"))
        if settings.metrics_port:
            try:
                metrics = sockets.bind_tcp(settings.metrics_host, settings.metrics_port, "--metrics-port")
                stack.enter_context(metrics)
            except PortInUse as error:
                logger.warning("no metrics of their own port: %s They are at /metrics of the API.", error)
        return tcp, metrics

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        options: dict[str, Any] = {}
        if self._local:
            sockets.prepare_folder(settings.data)
            options = {"snapshot_interval": settings.snapshot_interval}
        if self._url.startswith("journal:"):
            options["role"] = "owner"
        inner = make_store(self._url, clock=self._clock, **options)
        self._history, self._workers = make_history(inner)
        feed = feed_of(inner)
        if self._app is not None and self._app.tables:
            from holdfast.table.beside import store_beside

            inner = store_beside(inner, self._app.tables)
        self._audit = make_audit(inner)
        observers = [self._metrics, StoreLog(), Live(self._events)]
        self._store: Store = FrontDoor(inner, observers, clock=self._clock)
        await self._store.open()
        stack.push_async_callback(self._store.close)
        await self._store.migrate()
        if settings.history is not None:
            await self._open_history(stack, settings.history, feed)
        if self._app is not None and self._app.tables and self._history is not None:
            from holdfast.table.beside import history_beside

            self._history = history_beside(self._history, self._app.tables)
        if self._app is not None:
            self._app.lend(self._store)
            if self._app.stickies.services:
                self._metrics.registry.register(self._app.stickies.collector())
            stack.push_async_callback(self._app.close)
            session = await self._app.session()
            await session.define(self._app.tasks)
            await self._store.define(definitions(self._app, settings.max_retry))
            await declare(self._store, declared(self._app))
        self._tell(
            durable=self._store.capabilities.durable,
            data=str(settings.data.resolve()) if self._local else None,
            recovery=recovery_seconds(self._store),
        )

    async def _open_history(self, stack: AsyncExitStack, url: str, feed: Feed | None) -> None:
        """Show the history at `url`, and bring to it what ends in the store."""
        if feed is None or self._history is None or self._workers is None:
            raise ConfigError(
                f"history: expected a store whose past this process can read (journal, database), found {self._info.store}. "
                "Give --history to the hub or node that owns the store."
            )
        history = open_history(url, store=self._history, workers=self._workers, now=self._clock.now)
        stack.push_async_callback(history.close)
        exporter = await stack.enter_async_context(exporting(feed, history, self._clock))
        self._metrics.registry.register(ExportCollector(lambda: exporter.figures))
        self._history, self._workers, self._exporter = history.jobs, history.workers, exporter

    async def _serve(self, stack: AsyncExitStack, tcp: socket.socket | None, metrics: socket.socket | None) -> None:
        settings = self._settings
        api = make_api(self._parts())
        tokens = [settings.api_token] if settings.api_token else []
        if self._local or self._may_have_socket():
            stack.callback(sockets.forget, settings.data)
            tokens.append(sockets.write_token(settings.data))
            bound = stack.enter_context(sockets.bind_unix(settings.data))
            await stack.enter_async_context(serving(Door(api, Policy(trusted=True)), bound))
        if tcp is not None:
            policy = Policy(
                hosts=LOOPBACK_HOSTS | {host.lower() for host in settings.hosts},
                tokens=tuple(tokens),
                keys=self._keys,
                base_path=settings.base_path,
                sessions=self._sessions,
                now=self._clock.now,
                rate=settings.rate_limit,
                reads_need_token=not sockets.is_loopback(settings.host),
            )
            await stack.enter_async_context(serving(Door(api, policy), tcp))
            self._tell(url=f"http://{settings.host}:{tcp.getsockname()[1]}{settings.base_path}")
        if metrics is not None:
            door = Door(metrics_app(self._scrape), Policy(hosts=LOOPBACK_HOSTS | set(settings.hosts)))
            await stack.enter_async_context(serving(door, metrics))
            self._tell(metrics=f"http://{settings.metrics_host}:{metrics.getsockname()[1]}/metrics")
        elif self._info.url:
            self._tell(metrics=f"{self._info.url}/metrics")
        await stack.enter_async_context(looking(self._events, self._store))
        await stack.enter_async_context(self._firing())

    def _may_have_socket(self) -> bool:
        """Whether the data folder is free: on a database several nodes may share it, and the first has the socket."""
        sockets.prepare_folder(self._settings.data)
        return find_node(self._settings.data) is None

    def _firing(self) -> AbstractAsyncContextManager[object]:
        """Fire the store's schedules; a node does so also without an app, for the workers elsewhere."""
        if self._app is not None:
            return scheduling(self._app, self._store)
        return firing(self._store, self._clock, IdMaker(self._clock.now))

    def _parts(self) -> Parts:
        return Parts(
            store=self._store,
            new_id=IdMaker(self._clock.now),
            node=self.info,
            validate=validator(self._app) if self._app is not None else None,
            metrics=self._scrape,
            history=self._history,
            workers=self._workers,
            audit=self._audit,
            sessions=self._sessions if self._settings.http else None,
            events=self._events,
            keys=self._app.stickies.steering if self._app is not None and self._app.stickies.services else None,
        )

    async def _scrape(self) -> bytes:
        return await self._metrics.scrape(self._store, self._history)

    # --- the worker

    @asynccontextmanager
    async def _worker_of(self, app: Holdfast) -> AsyncIterator[Worker[Any]]:
        settings, options = self._settings, self._worker_options(app)
        hooks = app.hooks([self._metrics.worker, WorkerLog()])
        async with (
            app.lifespan_context() as state,
            app.stickies.joined(self._store, options, hooks) as (source, listening),
        ):
            programs = limited(app.programs, settings.task_timeout)
            worker = self._worker = Worker(source, programs, options, self._clock, listening, state=state)
            async with worker:
                yield worker

    def _worker_options(self, app: Holdfast) -> WorkerOptions:
        settings = self._settings
        queues = self._queues(app)
        self._tell(queues=tuple(queues), tasks=tuple(sorted(app.tasks.aliases())), slots=settings.worker_count)
        return WorkerOptions(
            queues=queues,
            slots=settings.worker_count,
            lease=settings.lease,
            grace=settings.grace,
            worker="node",
            pod=given_pod() if app.stickies.services else None,
            local=self._store.capabilities.many_processes is False,
        ).checked()

    def _queues(self, app: Holdfast) -> dict[str, Concurrency]:
        settings = self._settings
        if settings.queues:
            return dict(settings.queues)
        names = dict.fromkeys(["default", *(task.policy.queue for task in app.tasks)])
        return dict.fromkeys(names, settings.worker_count)
