"""What a router's calls leave behind: times, logs, spans."""

import logging
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ContentError
from holdfast.router import PERMANENT, LinkAnswer, Owner, Want
from holdfast.routers.memory import MemoryExecutor
from holdfast.sticky.router import Router
from holdfast.sticky.watch import VERBS, StickyCollector, watched
from tests.features import feature

LINK = ("ns", "user:1", "chat")


@feature("S16")
async def test_every_call_is_timed_and_logged_on_entry_and_every_change_on_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = watched(MemoryExecutor(), SystemClock().monotonic)
    with caplog.at_level(logging.DEBUG, "holdfast.router"):
        await door.set_linked_pod(*LINK, Owner(0), PERMANENT)
        await door.set_linked_pod(*LINK, Owner(0), PERMANENT)
        await door.get_linked_pod(*LINK)
        with pytest.raises(ContentError):
            await door.get_linked_pod("", "", "")
    levels = [(record.levelname, record.__dict__["verb"]) for record in caplog.records]
    assert levels == [
        ("DEBUG", "set_linked_pod"),
        ("INFO", "set_linked_pod"),
        ("DEBUG", "set_linked_pod"),
        ("DEBUG", "get_linked_pod"),
        ("DEBUG", "get_linked_pod"),
    ]
    times: Any = door.times  # type: ignore[attr-defined]  # of the front door alone
    assert {verb: (sum(one.counts), one.errors) for verb, one in times.items()} == {
        "set_linked_pod": (2, 0),
        "get_linked_pod": (2, 1),
    }


@feature("S16")
async def test_of_many_links_made_at_once_each_change_is_logged_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = watched(MemoryExecutor(), SystemClock().monotonic)
    await door.set_linked_pod("ns", "taken", "chat", Owner(5), PERMANENT)
    old = await door.set_linked_pod("ns", "restarted", "chat", Owner(1, "old"), PERMANENT)
    mine = await door.set_linked_pod("ns", "mine", "chat", Owner(1, "new"), PERMANENT)
    wanted = {uid: Want(Owner(1, "new")) for uid in ("first", "taken", "mine")}
    wanted["restarted"] = Want(Owner(1, "new"), replaces=old.epoch)
    with caplog.at_level(logging.INFO, "holdfast.router"):
        answers = await door.link_pods("ns", "chat", wanted, PERMANENT)
        await door.renew_links("ns", "chat", {"mine": mine.epoch}, Owner(1, "new"), PERMANENT)
    restarted = answers["restarted"]
    assert isinstance(restarted, LinkAnswer)
    assert restarted.epoch > old.epoch
    told = [(record.message.split(":")[0], record.__dict__["epoch"]) for record in caplog.records]
    assert [where for where, _ in told] == ["link_pods 'ns' 'first' 'chat'", "link_pods 'ns' 'restarted' 'chat'"]
    assert told[1][1] == restarted.epoch


def test_every_call_of_the_port_is_watched() -> None:
    rest = {"open", "close", "now"}
    assert {name for name in vars(MemoryExecutor) if not name.startswith("_")} - rest == VERBS


@feature("S16")
async def test_calls_are_spans_where_open_telemetry_is_installed() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    door = watched(MemoryExecutor(), SystemClock().monotonic, provider.get_tracer("holdfast"))
    await door.set_linked_pod(*LINK, Owner(0), PERMANENT)
    assert [span.name for span in spans.get_finished_spans()] == ["router.set_linked_pod"]
    provider.shutdown()


async def test_prometheus_is_told_of_hits_misses_moves_refusals_and_times() -> None:
    prometheus = pytest.importorskip("prometheus_client")
    router = Router(watched(MemoryExecutor(), SystemClock().monotonic))
    router.counts.hits = 3
    await router.owner("chat", "u")
    registry = prometheus.CollectorRegistry()
    registry.register(StickyCollector(lambda: router))
    text = prometheus.generate_latest(registry).decode()
    assert 'sticky_links_total{event="hits"} 3.0' in text
    assert 'sticky_router_seconds_count{verb="get_linked_pod"} 1.0' in text
    assert 'sticky_router_errors_total{verb="get_linked_pod"} 0.0' in text
    for event in ("misses", "moved", "refused", "made"):
        assert f'event="{event}"' in text
    empty = prometheus.CollectorRegistry()
    empty.register(StickyCollector(lambda: None))
    assert prometheus.generate_latest(empty) == b""
