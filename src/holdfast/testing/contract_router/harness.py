"""What the router's suite holds in its hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from holdfast.router import PERMANENT, Link, LinkAnswer, Linked, Owner, PodState, RoutingState, ServiceState

if TYPE_CHECKING:
    from holdfast.clock import ManualClock
    from holdfast.router import StatefulExecutor

feature = pytest.mark.feature
NS, UID, SERVICE = "game", "user:42", "chat"


def link_answer(told: Linked) -> LinkAnswer:
    """What was told of one uid of many, which is no fault."""
    assert isinstance(told, LinkAnswer), told
    return told


class RouterHarness:
    """An executor, empty, on a steered clock. One on real time overrides `brief` and `pass_time`."""

    #: Seconds of a link that shall end soon, and of one that shall not end in a test.
    brief, long = 10.0, 5_000.0

    def __init__(self, executor: StatefulExecutor, clock: ManualClock | None = None) -> None:
        """Hold `executor`, whose clock is `clock` (None: it has its own)."""
        self.x, self.clock = executor, clock

    async def open(self) -> None:
        """Make it ready and empty."""
        await self.x.open()

    async def close(self) -> None:
        """Let everything go."""
        await self.x.close()

    async def pass_time(self, seconds: float) -> None:
        """Return when so much time has passed by the executor's clock."""
        assert self.clock is not None, "an executor with a clock of its own overrides this"
        self.clock.advance(seconds)

    async def damage(self, ns: str, uid: str, service: str) -> bool:
        """Put a value that is not Holdfast's where a link is; False: this executor has no such place."""
        return False

    # Short words.

    async def set(self, pod: int, seconds: float = PERMANENT, instance: str = "") -> LinkAnswer:
        """Link the one user of these tests."""
        return await self.x.set_linked_pod(NS, UID, SERVICE, Owner(pod, instance), seconds)

    async def try_set(
        self, pod: int, seconds: float = PERMANENT, instance: str = "", replaces: int | None = None
    ) -> LinkAnswer:
        """Try to link it."""
        owner = Owner(pod, instance)
        return await self.x.try_set_linked_pod(NS, UID, SERVICE, owner, seconds, replaces=replaces)

    async def absent(self, pod: int, seconds: float = PERMANENT, instance: str = "") -> LinkAnswer:
        """Link it if it has no link."""
        return await self.x.set_linked_pod_if_absent(NS, UID, SERVICE, Owner(pod, instance), seconds)

    async def get(self) -> Link | None:
        """Read its link."""
        return await self.x.get_linked_pod(NS, UID, SERVICE)

    async def remove(self, seconds: float = PERMANENT) -> LinkAnswer:
        """Remove its link."""
        return await self.x.remove_linked_pod(NS, UID, SERVICE, seconds)

    async def pod(
        self,
        pod: int,
        *,
        load: float = 0.0,
        routing: RoutingState = RoutingState.READY,
        state: ServiceState = ServiceState.READY,
        instance: str = "",
        lease: float | None = None,
    ) -> None:
        """Publish a pod."""
        record = PodState(pod=pod, instance=instance or f"i{pod}", load=load, routing=routing, state=state)
        await self.x.set_service_state(NS, SERVICE, record, lease or self.long)


@pytest.mark.asyncio
class RouterSuite:
    """Tests of a `StatefulExecutor`. The adapter supplies the fixture `router_factory`."""

    @pytest_asyncio.fixture
    async def h(self, router_factory: Callable[[], RouterHarness]) -> AsyncIterator[RouterHarness]:
        """Open a fresh executor."""
        harness = router_factory()
        await harness.open()
        yield harness
        await harness.close()
