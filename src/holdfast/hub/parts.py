"""What the API serves, given to it from outside; and what it tells of the process that it lives in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from holdfast.audit import AuditLog
from holdfast.feed import ExportFigures
from holdfast.history import JobRepository, WorkerRepository
from holdfast.hub.events import Ring
from holdfast.hub.intake import Intake
from holdfast.hub.repeats import Repeats
from holdfast.hub.sessions import Sessions
from holdfast.router import Link
from holdfast.store import Store


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The process that serves the API. Times are seconds since the epoch, durations are seconds.

    recovery: how long the start took to bring the stored state back. problem: why it accepts less than usual, in words.
    export: how far the history elsewhere is; None: there is none.
    """

    version: str
    pid: int
    host: str
    started_at: float
    now: float
    store: str
    durable: bool
    data: str | None = None
    url: str | None = None
    metrics: str | None = None
    app: str | None = None
    tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    slots: int = 0
    recovery: float | None = None
    state: str = "ready"
    problem: str = ""
    export: ExportFigures | None = None


class KeyControl(Protocol):
    """What moves the keys of sticky services; the app gives it."""

    async def release(self, service: str, key: str) -> bool:
        """Let a key go."""
        ...

    async def move(self, service: str, key: str, pod: int) -> Link:
        """Give a key to a pod."""
        ...

    async def drain(self, service: str, pod: int) -> int:
        """Give all keys of a pod to the others."""
        ...


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts behind the routes.

    validate: raises BadArguments when a payload does not fit a task; tells whether this process knows it.
    metrics: Prometheus text. history, workers: what is read of the past and of workers, and where reports of other systems
    go; None: not here.
    keys: what moves sticky keys; None: this process has no router. audit: who did what. sessions: of people; None: there are
    no pages here. events: what happened lately.
    """

    store: Store
    new_id: Callable[[], str]
    node: Callable[[], NodeInfo]
    validate: Callable[[str, bytes], bool] | None = None
    metrics: Callable[[], Awaitable[bytes]] | None = None
    history: JobRepository | None = None
    workers: WorkerRepository | None = None
    keys: Callable[[], Awaitable[KeyControl]] | None = None
    audit: AuditLog | None = None
    sessions: Sessions | None = None
    events: Ring | None = None
    intake: Intake | None = None  # made by `make_api`
    repeats: Repeats = msgspec.field(default_factory=Repeats)
