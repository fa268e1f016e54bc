"""A worker's own metrics: counted in its process, served while it works, and a busy port keeps nothing from working."""

import asyncio
import logging
import socket
import urllib.request
from typing import Any

import pytest

from holdfast import Holdfast
from holdfast.errors import ConfigError
from holdfast.stores.memory import MemoryStore
from tests.features import feature
from tests.node.processes import free_port
from tests.node.test_metrics import samples

PATIENCE = 60.0


def shop(**options: Any) -> Holdfast:
    """An app with one task, which enqueues another."""
    app = Holdfast(**options)

    @app.task("buy")
    async def buy(number: int) -> int:
        if number:
            await buy.enqueue(0)
        return number

    return app


async def ask(port: int) -> dict[str, float]:
    """The samples at a port."""

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode())

    return samples(await asyncio.to_thread(get))


@feature("B50", "B53")
async def test_a_worker_counts_what_its_process_does_and_what_its_handlers_enqueue() -> None:
    app, port = shop(), free_port()
    async with app:
        async with app.worker(metrics_port=port):
            task = app.tasks.get("buy")
            assert task is not None
            for number in (1, 2, 3):
                await (await task.enqueue(number)).result(PATIENCE)
            async with asyncio.timeout(PATIENCE):
                while (found := await ask(port))["queue_jobs_completed_total"] < 6:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert found["queue_jobs_enqueued_total"] == found["queue_jobs_dispatched_total"] == 6
            assert found["queue_job_duration_seconds_count"] == 6
            assert (found["queue_store_up"], found["queue_depth"]) == (1, 0)
        with pytest.raises(OSError, match="refused"):
            await ask(port)
        assert isinstance(await app.open(), MemoryStore), "the store is as it was before"


async def test_a_port_in_use_is_warned_of_and_the_worker_works(caplog: pytest.LogCaptureFixture) -> None:
    app = shop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with caplog.at_level(logging.WARNING, "holdfast.metrics"):
            async with app, app.worker(metrics_port=port):
                task = app.tasks.get("buy")
                assert task is not None
                assert await (await task.enqueue(0)).result(PATIENCE) == 0
    assert str(port) in caplog.text


@pytest.mark.parametrize("port", [-1, 65_536, "9090", True, 1.5])
async def test_what_is_no_port_is_refused_when_the_worker_starts(port: Any) -> None:
    app = shop()
    with pytest.raises(ConfigError, match="metrics_port"):
        async with app, app.worker(metrics_port=port):
            pytest.fail("it must not start")
