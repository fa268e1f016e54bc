"""What the API serves, given to it from outside; and what it tells of the process that it lives in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from holdfast.hub.repeats import Repeats
from holdfast.store import Store


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The process that serves the API. Times are seconds since the epoch, durations are seconds.

    recovery: how long the start took to bring the stored state back. problem: why it accepts less than usual, in words.
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


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts behind the routes.

    validate: raises BadArguments when a payload does not fit a task that this process knows. metrics: Prometheus text.
    """

    store: Store
    new_id: Callable[[], str]
    node: Callable[[], NodeInfo]
    validate: Callable[[str, bytes], None] | None = None
    metrics: Callable[[], Awaitable[bytes]] | None = None
    repeats: Repeats = msgspec.field(default_factory=Repeats)
