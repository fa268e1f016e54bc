"""A worker process as a pod: its number, and what it publishes of itself while it lives."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from holdfast.errors import RouterError
from holdfast.router import OVERLOADED, Owner, PodState, RoutingState, ServiceState, workload_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.router import StatefulExecutor
    from holdfast.sticky.router import Router

#: Under this name a process keeps its number; the numbers of all services of a namespace are one line.
NUMBERS: Final = "holdfast.pods"
#: How much the keys that a pod has weigh in its load, beside the jobs that it runs (seed: CPU factor).
KEY_FACTOR: Final = 0.7
logger: Final = logging.getLogger("holdfast.sticky")


class Pod:
    """Publishes this process for `lease` seconds. keys, busy: shares (0 … 1) of what it can hold and run.

    `publish` is called in the worker's loop, and from the heart's thread with an executor of its own.
    """

    def __init__(
        self,
        router: Router,
        services: Sequence[str],
        instance: str,
        *,
        number: int | None,
        lease: float,
        keys: Callable[[str], float],
        busy: Callable[[], float],
    ) -> None:
        self._router, self._services, self._instance = router, services, instance
        self._number, self._lease, self._keys, self._busy = number, lease, keys, busy
        self._given = number is not None
        self.routing = RoutingState.READY

    @property
    def number(self) -> int | None:
        """The number of the pod; None until it has one."""
        return self._number

    @property
    def owner(self) -> Owner:
        """This process as the owner of links."""
        assert self._number is not None, "it was published"
        return Owner(self._number, self._instance)

    async def publish(self, executor: StatefulExecutor | None = None) -> None:
        """Tell what this process is doing now, for `lease` seconds. Raises RouterUnavailable. executor: not the router's."""
        executor, ns = executor or self._router.executor, self._router.options.namespace
        if self._number is None:
            self._number = await executor.allocate_pod(ns, NUMBERS, self._instance, self._lease)
        if not self._given:
            keeps = PodState(pod=self._number, instance=self._instance)
            await executor.set_service_state(ns, NUMBERS, keeps, self._lease)
        await asyncio.gather(*(self._publish(executor, service, self._number) for service in self._services))

    async def _publish(self, executor: StatefulExecutor, service: str, number: int) -> None:
        load = OVERLOADED * (KEY_FACTOR * self._keys(service) + (1 - KEY_FACTOR) * self._busy())
        state = PodState(
            pod=number, instance=self._instance, state=ServiceState.READY, routing=self.routing, load=round(load, 4)
        )
        ns = self._router.options.namespace
        await executor.set_service_state(ns, service, state, self._lease)
        pods = await executor.get_service_state(ns, service)
        found = pods.get(number)
        if found is not None and found.instance != self._instance:
            logger.error(
                "service %s: expected pod %s to be this process, found %s there too: two live processes have one number. "
                "Give each its own HOLDFAST_POD_INDEX, or none.",
                service,
                number,
                found.instance,
            )
        if pods and number == min(pods):
            # One pod is enough to tell of the service; the lowest live one does.
            await executor.set_workload_state(ns, service, workload_of(pods, executor.now()))

    async def deny(self) -> None:
        """Take no new keys from now on, and tell so at once."""
        self.routing = RoutingState.DENY_NEW_CALL
        if self._number is not None:
            await self.publish()

    async def leave(self) -> None:
        """Forget this pod. The router may be away: then its state ends by itself."""
        if self._number is None:
            return
        executor, ns = self._router.executor, self._router.options.namespace
        try:
            for service in (*self._services, NUMBERS):
                await executor.remove_service_state(ns, service, self._number, self._instance)
        except RouterError as error:
            logger.warning("pod %s leaves without a word: %s", self._number, error)
