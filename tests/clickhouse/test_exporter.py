"""The exporter: in batches that fit, one at a time, and never past what was acknowledged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from holdfast.clock import SystemClock
from holdfast.errors import StoreUnavailable
from holdfast.exporter import Exporter, ExportOptions
from tests.contract.adapters import ADAPTERS
from tests.features import feature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.feed import Change
    from holdfast.testing.contract.harness import StoreHarness

pytestmark = pytest.mark.asyncio
QUICK = ExportOptions(poll=0.001, retry_first=0.001, retry_most=0.002)


class SlowSink:
    """Takes no more than `most` at once in its time; it keeps what it took, and how much was on its way at once."""

    def __init__(self, most: int) -> None:
        self.most, self.taken, self.tried = most, list[str](), list[int]()
        self.under_way = self.most_under_way = 0

    async def write(self, changes: Sequence[Change]) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.tried.append(len(changes))
        await asyncio.sleep(0)
        self.under_way -= 1
        if len(changes) > self.most:
            raise StoreUnavailable("no answer within 30 s")
        self.taken += [change.job.id for change in changes if change.job is not None]


async def ended(h: StoreHarness, count: int) -> list[str]:
    """Jobs that ended one by one, so that a batch may be of any size."""
    ids = await h.make(count)
    for claim in await h.claim(count):
        await h.settle(claim)
    return ids


async def exported(h: StoreHarness, sink: SlowSink, *, limit: int) -> Exporter:
    """Export until nothing waits."""
    feed: Any = h.store
    exporter = Exporter(feed, sink, SystemClock(), QUICK)
    exporter._limit = limit
    stopping = asyncio.Event()
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
        group.create_task(exporter.run(stopping))
        while not sink.taken or (await feed.export_state()).waiting:  # noqa: ASYNC110 - the exporter tells nobody
            await asyncio.sleep(0)
        stopping.set()
    return exporter


@feature("H17")
@pytest.mark.parametrize("most", [1, 3, 10])
async def test_a_history_that_is_too_slow_for_a_whole_batch_gets_smaller_ones_and_loses_nothing(most: int) -> None:
    h = ADAPTERS["memory"]()
    await h.open()
    await h.store.start_export()  # type: ignore[attr-defined]
    ids = await ended(h, 40)
    sink = SlowSink(most)
    exporter = await exported(h, sink, limit=64)
    await h.close()
    assert sorted(set(sink.taken)) == sorted(ids)
    assert len(sink.taken) == len(ids), "what was taken is acknowledged before the next is sent"
    assert sink.most_under_way == 1
    assert sink.tried[:2] == [40, 32]
    assert exporter.figures.failures > 0
    assert (exporter.figures.problem, exporter.figures.jobs) == ("", 40)


async def test_a_batch_grows_while_it_is_taken_well() -> None:
    h = ADAPTERS["memory"]()
    await h.open()
    await h.store.start_export()  # type: ignore[attr-defined]
    await ended(h, 60)
    sink = SlowSink(1_000)
    await exported(h, sink, limit=4)
    await h.close()
    assert sink.tried == [4, 8, 16, 32]


@feature("H17")
async def test_how_much_waits_and_how_long_it_takes_is_told_while_it_catches_up() -> None:
    h = ADAPTERS["memory"]()
    await h.open()
    await h.store.start_export()  # type: ignore[attr-defined]
    await ended(h, 40)
    told = []

    class Watched(SlowSink):
        async def write(self, changes: Sequence[Change]) -> None:
            await super().write(changes)
            told.append(exporter.figures)

    feed: Any = h.store
    exporter = Exporter(feed, Watched(10), SystemClock(), replace(QUICK, batch=10, look=0.0))
    stopping = asyncio.Event()
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
        group.create_task(exporter.run(stopping))
        while exporter.figures.jobs < 40:  # noqa: ASYNC110 - the exporter tells nobody
            await asyncio.sleep(0)
        stopping.set()
    await h.close()
    assert [figures.waiting for figures in told] == [0, 30, 20, 10]
    assert all(figures.seconds_left is not None for figures in told[1:])
    assert "30 changes wait" in told[1].words
