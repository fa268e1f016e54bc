"""Prometheus' own tool reads what a scrape says, and the figures of the hour in it are the store's."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator

import pytest

from holdfast.connect import make_history
from holdfast.history import GroupBy, StatisticsFilter
from holdfast.job.state import State
from holdfast.telemetry.metrics import Metrics
from holdfast.telemetry.tally import OTHER
from tests.features import feature
from tests.telemetry.test_metrics import Bench, mixed_run, read, total


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Metrics(labels_max=4))
    await bench.h.open()
    yield bench
    await bench.h.close()


async def scraped(bench: Bench) -> bytes:
    history, _ = make_history(bench.door.inner)
    assert history is not None
    return await bench.metrics.scrape(bench.door, history)


@feature("A23", "B53")
async def test_promtool_finds_nothing_wrong(bench: Bench) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "promtool is not installed: scripts/servers unpacks it from Debian's package prometheus"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    for text in (await scraped(bench), await ran(bench)):
        answer = subprocess.run(
            [str(promtool), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
        )
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"")


async def ran(bench: Bench) -> bytes:
    await mixed_run(bench.h)
    return await scraped(bench)


@feature("A23")
async def test_the_figures_of_the_hour_equal_the_attempts_on_record(bench: Bench) -> None:
    samples = read(await ran(bench))
    attempts = [(job.queue, one) for job in await bench.h.all_jobs() for one in job.attempts if one.end is not None]
    for queue in ("mail", "default"):
        for outcome in ("succeeded", "failed", "timed_out", "snoozed", "canceled", "released", "crashed"):
            mine = sum(name == queue and one.end == outcome for name, one in attempts)
            assert total(samples, "queue_hour_attempts", queue=queue, outcome=outcome) == mine
    lost = sum(one.end in ("lost", "stale") for _, one in attempts)
    assert total(samples, "queue_hour_attempts", outcome="lost") == lost
    stats = await bench.door.stats()
    assert total(samples, "queue_hour_attempts", outcome="succeeded") == stats.total(State.SUCCEEDED)
    history, _ = make_history(bench.door.inner)
    assert history is not None
    for one in await history.statistics(StatisticsFilter(hours=1), GroupBy.QUEUE):
        assert total(samples, "queue_hour_success_ratio", queue=one.name) == one.success_rate
        assert total(samples, "queue_hour_running_seconds", queue=one.name, percentile="95") == one.running.p95


async def test_queues_beyond_the_bound_are_counted_as_one(bench: Bench) -> None:
    for number in range(9):
        await bench.h.add(queue=f"q{number}")
        await bench.h.settle(await bench.h.claim_one(queues=(f"q{number}",)))
    samples = read(await scraped(bench))
    queues = {dict(labels)["queue"] for name, labels in samples if name == "queue_hour_attempts"}
    assert (len(queues), OTHER in queues) == (5, True)
    assert total(samples, "queue_hour_attempts", outcome="succeeded") == 9
