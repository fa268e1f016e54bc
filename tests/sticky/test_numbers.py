"""The number of a pod: given by the environment or the name of the host, however the worker is started; else a free one."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from holdfast import Holdfast
from holdfast.errors import ConfigError
from tests.features import feature
from tests.node.processes import LIMIT, ROOT, NodeProcess, environment, eventually, free_port
from tests.node.test_metrics import samples
from tests.sticky.test_worker import PATIENCE, Log, chat_app, say
from tests.support.servers import redis

_KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"


@pytest.fixture(autouse=True)
def _no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (_KUBERNETES, "HOLDFAST_POD_INDEX"):
        monkeypatch.delenv(name, raising=False)


async def pod_of(app: Holdfast, **options: Any) -> int:
    """The pod that a job of this app runs on, in a worker that is embedded."""
    async with app, app.worker(**options):
        told = await (await say(app, "u").enqueue("x")).result(PATIENCE)
        return int(told[2])


@feature("A26")
async def test_an_embedded_worker_is_the_pod_that_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await pod_of(chat_app(Log())) == 0
    monkeypatch.setattr(socket, "gethostname", lambda: "chat-4")
    assert await pod_of(chat_app(Log())) == 0, "only a StatefulSet's host says a number"
    monkeypatch.setenv(_KUBERNETES, "10.0.0.1")
    assert await pod_of(chat_app(Log())) == 4
    monkeypatch.setenv("HOLDFAST_POD_INDEX", "7")
    assert await pod_of(chat_app(Log())) == 7
    assert await pod_of(chat_app(Log()), pod=2) == 2


async def test_a_number_that_is_none_keeps_the_worker_from_starting_and_matters_to_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOLDFAST_POD_INDEX", "first")
    with pytest.raises(ConfigError, match="HOLDFAST_POD_INDEX"):
        await pod_of(chat_app(Log()))
    app = Holdfast()

    @app.task("plain")
    async def plain() -> int:
        return 1

    async with app, app.worker():
        assert await (await plain.enqueue()).result(PATIENCE) == 1


def test_a_node_is_the_pod_that_the_environment_says(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "data", app="tests.sticky.served:app", HOLDFAST_POD_INDEX="5")
    try:
        status, made = node.ask("POST", "/api/v1/jobs", {"task": "say", "payload": {"text": "x"}, "key": "u1"})
        assert status == 201, made
        eventually(lambda: node.state(made["id"]) == "succeeded")
        _, page = node.ask("GET", "/api/v1/links?service=chat")
        assert [one["pod"] for one in page["items"]] == [5]
    finally:
        node.kill()


async def test_processes_under_one_parent_take_free_numbers_and_serve_metrics_on_ports_side_by_side(
    tmp_path: Path,
) -> None:
    redis.need()
    with redis.RedisServer() as server:
        port = free_ports(2)
        more = ("--data", str(tmp_path / "data"), "--metrics-port", str(port))
        started = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "worker", "tests.sticky.served:app", "--processes", "2", *more],
            cwd=ROOT,
            env=environment(HOLDFAST_POD_INDEX="3", SERVED_ROUTER=server.url),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            app = Holdfast(f"journal:{tmp_path / 'data'}", router=server.url, role="client")
            router = await app.stickies.router()
            async with asyncio.timeout(LIMIT):
                while len(found := await router.executor.get_service_state("holdfast", "chat")) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert set(found) == {0, 1}
            for _ in range(4):
                job = await app.enqueue("say", {"text": "x"}, key="u1")
                await job.result(PATIENCE)
            await app.close()
            texts = [await asyncio.to_thread(metrics_of, port + place) for place in (0, 1)]
            told = [samples(text) for text in texts]
            assert sum(one.get("queue_jobs_dispatched_total", 0) for one in told) == 4
            hits = [re.search(r'sticky_links_total{event="hits"} (\S+)', text) for text in texts]
            assert sum(float(found[1]) for found in hits if found) == 3
            assert all('sticky_router_seconds_count{verb="set_service_state"}' in text for text in texts)
        finally:
            started.send_signal(signal.SIGTERM)
            _, log = started.communicate(timeout=LIMIT)
        assert started.returncode == 0, log


def metrics_of(port: int) -> str:
    """What a process tells on its port, as soon as it answers."""
    import urllib.request

    found: list[str] = []

    def asked() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                found.append(answer.read().decode())
        except OSError:
            return False
        return True

    eventually(asked, "metrics")
    return found[0]


def free_ports(count: int) -> int:
    """The first of so many ports that are free now, one after the other."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
