"""Keys over HTTP and on the command line."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.main import run
from tests.features import feature
from tests.node.processes import NodeProcess, eventually
from tests.sticky.fleet import Pods, here, results, send
from tests.support.servers import redis

Cli = Callable[..., Any]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in a thread of its own, without settings from outside; return what it wrote."""
    import os

    for name in [name for name in os.environ if name.startswith("HOLDFAST_")]:
        monkeypatch.delenv(name)

    def command(*arguments: object, code: int = 0) -> Any:
        capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return json.loads(captured.out) if "--json" in arguments and not code else captured.out + captured.err

    return command


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node whose app has a sticky service."""
    started = NodeProcess(tmp_path / "data", app="tests.sticky.served:app")
    yield started
    started.kill()


@feature("S7", "S8")
def test_over_http_keys_are_listed_moved_let_go_and_drained(node: NodeProcess) -> None:
    status, made = node.ask("POST", "/api/v1/jobs", {"task": "say", "payload": {"text": "x"}, "key": "u1"})
    assert status == 201, made
    status, problem = node.ask("POST", "/api/v1/jobs", {"task": "say", "payload": {"text": "x"}})
    assert (status, "key" in problem["detail"]) == (422, True)
    eventually(lambda: node.state(made["id"]) == "succeeded")
    status, page = node.ask("GET", "/api/v1/links?service=chat")
    assert (status, [(one["key"], one["pod"], one["live"]) for one in page["items"]]) == (200, [("u1", 0, True)])
    status, moved = node.ask("POST", "/api/v1/links/move", {"service": "chat", "key": "u1", "pod": 0})
    assert (status, moved["count"], moved["pod"]) == (200, 1, 0)
    status, problem = node.ask("POST", "/api/v1/links/move", {"service": "chat", "key": "u1", "pod": 7})
    assert (status, problem["code"]) == (503, "NoPod")
    status, problem = node.ask("POST", "/api/v1/links/drain", {"service": "chat", "pod": 0})
    assert (status, problem["code"]) == (503, "NoPod")
    for unknown in ({"service": "chat", "pod": 9}, {"service": "chit", "pod": 0}):
        status, problem = node.ask("POST", "/api/v1/links/drain", unknown)
        assert (status, problem["code"]) == (404, "UnknownPod")
        assert str(unknown["service"]) in problem["detail"]
    status, gone = node.ask("POST", "/api/v1/links/move", {"service": "chat", "key": "u1"})
    assert (status, gone["count"]) == (200, 1)
    _, page = node.ask("GET", "/api/v1/links?service=chat&key=u1")
    assert [(one["pod"], one["live"]) for one in page["items"]] == [(None, False)]


@feature("S7", "S8")
async def test_on_the_command_line_keys_are_listed_moved_and_drained(tmp_path: Path, cli: Cli) -> None:
    import asyncio

    def ask(*arguments: object, **more: Any) -> Any:
        return cli("sticky", *arguments, "--data", pods.node.data, **more)

    with Pods(tmp_path, workers=2) as pods:
        router = ("--router", pods.redis.url)
        async with pods.app() as app:
            await here(app, 2)
            told = await results(app, await send(app, [0], ["a", "b", "c", "d"]))
            pod = next(one["pod"] for one in told if one["key"] == "a")
            listed = await asyncio.to_thread(ask, "ls", "chat", *router, "--json")
            assert [link["key"] for link in listed["links"]] == ["a", "b", "c", "d"]
            assert {one["pod"] for one in listed["pods"]} == {0, 1}
            text = await asyncio.to_thread(ask, "ls", "chat", *router)
            assert "ready" in text
            assert "warning" not in text
            owner = await asyncio.to_thread(ask, "owner", "chat", "a", *router, "--json")
            assert owner["store"]["pod"] == owner["router"][0] == pod
            assert f"pod {pod}" in await asyncio.to_thread(ask, "owner", "chat", "a", *router)
            assert "nobody" in await asyncio.to_thread(ask, "owner", "chat", "unknown")
            moved = await asyncio.to_thread(ask, "move", "chat", "a", 1 - pod, *router)
            assert f"pod {1 - pod}" in moved
            assert [one["pod"] for one in await results(app, await send(app, [1], ["a"]))] == [1 - pod]
            drained = await asyncio.to_thread(ask, "drain", "chat", 1 - pod, *router, "--json")
            assert drained["moved"] >= 1
            again = await results(app, await send(app, [2], ["a", "b", "c", "d"]))
            assert {one["pod"] for one in again} == {pod}
            assert "unknown pod 7" in await asyncio.to_thread(ask, "drain", "chat", 7, *router, code=9)
            assert "'chit'" in await asyncio.to_thread(ask, "drain", "chit", 0, *router, code=9)
            assert "--router" in await asyncio.to_thread(ask, "move", "chat", "a", 0, code=3)


def test_the_doctor_warns_of_a_redis_that_may_drop_links(tmp_path: Path, cli: Cli) -> None:
    redis.need()
    with redis.RedisServer() as server:

        def look() -> dict[str, Any]:
            run_code = {0, 12}
            sys.stdout.flush()
            for code in run_code:
                try:
                    found = cli("doctor", "--data", tmp_path, "--router", server.url, "--json", code=code)
                except AssertionError:
                    continue
                checks = json.loads(found) if isinstance(found, str) else found
                return {one["name"]: one for one in checks}
            raise AssertionError("doctor ended with another code")

        assert look()["router"]["state"] == "ok"
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert look()["router"]["state"] == "warn"
        assert "allkeys-lru" in look()["router"]["found"]
    assert look()["router"]["state"] == "fail"
