"""The front door of a router: times, logs and spans of every call, added once for all adapters."""

from __future__ import annotations

import bisect
import logging
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast

from holdfast.router import LinkAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from holdfast.router import StatefulExecutor
    from holdfast.sticky.router import Router

#: Upper bounds of the histogram of call times, in seconds.
BOUNDS: Final = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
_WRITES: Final = frozenset(
    {
        "set_linked_pod",
        "try_set_linked_pod",
        "set_linked_pod_if_absent",
        "link_pods",
        "remove_linked_pod",
        "remove_linked_pod_with_id",
        "renew_links",
        "compute_link_if_absent",
    }
)
VERBS: Final = _WRITES | {
    "set_service_state",
    "get_service_state",
    "remove_service_state",
    "allocate_pod",
    "set_workload_state",
    "get_workload_state",
    "get_workload_states",
    "get_linked_pod",
    "get_linked_pod_if_persist",
    "get_link_service",
    "batch_get_linked_pod",
    "links",
    "users_of_pod",
    "links_of_pod",
}
logger: Final = logging.getLogger("holdfast.router")


class Times:
    """How long the calls of one verb took."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # per bound; the last one: above all
        self.seconds = 0.0
        self.errors = 0

    def add(self, seconds: float) -> None:
        """Count one call."""
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Watched:
    """An executor whose calls are timed, logged and traced. Spans come where OpenTelemetry's API is installed."""

    def __init__(
        self,
        executor: StatefulExecutor,
        monotonic: Callable[[], float],
        tracer: Any = None,
        times: dict[str, Times] | None = None,
    ) -> None:
        self._executor, self._monotonic = executor, monotonic
        self._tracer = _tracer() if tracer is None else tracer
        self.times: dict[str, Times] = {} if times is None else times

    def __getattr__(self, name: str) -> Any:
        """A call of the executor; those of the port are watched."""
        call = getattr(self._executor, name)
        if name not in VERBS:
            return call
        watched = self._watched(name, call)
        self.__dict__[name] = watched
        return watched

    def _watched(self, verb: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        times = self.times.setdefault(verb, Times())
        changes = verb in _WRITES

        async def watched(*arguments: Any, **more: Any) -> Any:
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("%s %s", verb, _shown(arguments), extra={"verb": verb})
            started = self._monotonic()
            try:
                with self._span(verb, arguments):
                    answer = await call(*arguments, **more)
            except Exception:
                times.errors += 1
                raise
            finally:
                times.add(self._monotonic() - started)
            if changes and logger.isEnabledFor(logging.INFO):
                if isinstance(answer, dict):
                    for uid, one in answer.items():
                        _log_change(verb, (arguments[0], uid, arguments[1]), one)
                else:
                    _log_change(verb, arguments[:3], answer)
            return answer

        return watched

    def _span(self, verb: str, arguments: tuple[Any, ...]) -> AbstractContextManager[Any]:
        if self._tracer is None:
            return nullcontext()
        attributes = {"holdfast.router.namespace": str(arguments[0])} if arguments else {}
        return cast(
            "AbstractContextManager[Any]",
            self._tracer.start_as_current_span(f"router.{verb}", attributes=attributes),
        )


def _log_change(verb: str, where: tuple[Any, ...], answer: Any) -> None:
    """Log what a write of a link changed: a first link, another owner, or the end of one."""
    if not isinstance(answer, LinkAnswer) or not answer.changed:
        return
    now, before, epoch = answer.current, answer.previous, answer.epoch
    more = {"verb": verb, "pod": now, "previous": before, "epoch": epoch}
    logger.info("%s %s: pod %s, before %s, epoch %s", verb, _shown(where), now, before, epoch, extra=more)


def _shown(arguments: tuple[Any, ...]) -> str:
    return " ".join(f"{value!r:.80}" for value in arguments)


def _tracer() -> Any:
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.trace") is None:
        return None
    return import_module("opentelemetry.trace").get_tracer("holdfast")


def watched(
    executor: StatefulExecutor,
    monotonic: Callable[[], float],
    tracer: Any = None,
    times: dict[str, Times] | None = None,
) -> StatefulExecutor:
    """Return the front door of an executor. times: where its calls are counted, if others count there as well."""
    return cast("StatefulExecutor", Watched(executor, monotonic, tracer, times))


class StickyCollector:
    """What Prometheus is told of sticky services; `register` it. `router`: the one that is open, or None."""

    def __init__(self, router: Callable[[], Router | None]) -> None:
        self._router = router

    def collect(self) -> Iterator[Any]:
        """Link hits, misses, moves and refusals; how long the router's calls take."""
        core = import_module("prometheus_client.core")
        router = self._router()
        if router is None:
            return
        counts = core.CounterMetricFamily("sticky_links", "What became of look-ups and links.", labels=["event"])
        for event in router.counts.__struct_fields__:
            counts.add_metric([event], getattr(router.counts, event))
        yield counts
        times: Mapping[str, Times] = getattr(router.executor, "times", {})
        family = core.HistogramMetricFamily(
            "sticky_router_seconds", "How long calls of the router take.", labels=["verb"]
        )
        errors = core.CounterMetricFamily("sticky_router_errors", "Calls of the router that failed.", labels=["verb"])
        for verb, one in sorted(times.items()):
            buckets, total = [], 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), one.counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric([verb], buckets, one.seconds)
            errors.add_metric([verb], one.errors)
        yield family
        yield errors
