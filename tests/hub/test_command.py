"""`holdfast hub` as a process: over any store, with a link that lets one person in, and no secret in its log."""

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.node.processes import LIMIT, ROOT, environment, holdfast


class HubProcess:
    """A hub on a port; ready when the constructor returns."""

    def __init__(self, data: Path, *arguments: object, **variables: str) -> None:
        self.data, self.log = data, data.parent / f"{data.name}.log"
        log = self.log.open("w")
        given = ["--data", data, "--port", 0, "--metrics-port", 0, "--json", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "hub", *map(str, given)],
            cwd=ROOT,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.info: dict[str, Any] = json.loads(line)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
        """Send a request over TCP; return status, headers and text."""
        place = urlsplit(self.info["url"])
        connection = http.client.HTTPConnection("127.0.0.1", place.port or 0, timeout=LIMIT)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, place.path + path, body, given)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    @property
    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    def end(self) -> int:
        self.process.terminate()
        code = self.process.wait(LIMIT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., HubProcess]]:
    started: list[HubProcess] = []

    def begin(*arguments: object, data: str = "data", **variables: str) -> HubProcess:
        started.append(HubProcess(tmp_path / data, *arguments, **variables))
        return started[-1]

    yield begin
    for hub in started:
        if hub.process.poll() is None:
            hub.end()


def test_two_hubs_serve_one_database_without_a_worker_and_end_cleanly(
    start: Callable[..., HubProcess], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'q.db'}"
    one, two = start("--url", url), start("--url", url, data="other")
    assert (one.info["store"], one.info["slots"]) == (url, 0)
    header = {"authorization": f"Bearer {one.token}", "content_type": "application/json"}
    body = json.dumps({"definitions": [{"alias": "mail"}]})
    assert one.ask("POST", "/api/v1/definitions", body, **header)[0] == 200
    assert one.ask("POST", "/api/v1/jobs", json.dumps({"task": "mail"}), **header)[0] == 201
    assert json.loads(two.ask("GET", "/api/v1/job-count")[2]) == {"count": 1, "estimated": False}
    assert '<div class="number">1</div>' in two.ask("GET", "/")[2]
    assert (one.end(), two.end()) == (0, 0)
    assert not (one.data / "node.sock").exists()


def test_hub_open_prints_a_link_that_lets_one_browser_in(start: Callable[..., HubProcess], tmp_path: Path) -> None:
    hub = start("--url", f"sqlite:///{tmp_path / 'q.db'}", "--base-path", "/jobs")
    done = holdfast("hub", "open", "--data", hub.data, "--scope", "read")
    link = urlsplit(done.stdout.strip())
    assert (done.returncode, link.path) == (0, "/jobs/session")
    status, _, page = hub.ask("GET", f"/session?{link.query}")
    assert (status, "Open the hub" in page) == (200, True)
    host = urlsplit(hub.info["url"]).netloc
    form = {"origin": f"http://{host}", "host": host, "content_type": "application/x-www-form-urlencoded"}
    status, headers, _ = hub.ask("POST", "/session", link.query, **form)
    assert (status, headers["location"]) == (303, "/jobs/")
    cookie = headers["set-cookie"].partition(";")[0]
    assert "Sign out" in hub.ask("GET", "/", cookie=cookie)[2]
    assert hub.ask("POST", "/session", link.query, **form)[0] == 403
    hub.end()
    for secret in (link.query.partition("=")[2], cookie.partition("=")[2]):
        assert secret not in hub.log.read_text()
        assert secret not in json.dumps(hub.info)


def test_without_a_hub_there_is_no_link(tmp_path: Path) -> None:
    done = holdfast("hub", "open", "--data", tmp_path)
    assert done.returncode == 5
    assert "no node" in done.stderr.lower() or "expected a" in done.stderr


def test_another_address_is_refused_until_there_is_a_token(tmp_path: Path) -> None:
    arguments = (
        "hub",
        "--host",
        "0.0.0.0",
        "--port",
        0,
        "--data",
        tmp_path / "d",
        "--url",
        f"sqlite:///{tmp_path / 'q.db'}",
    )
    done = holdfast(*arguments)
    assert (done.returncode, "expected a loopback address" in done.stderr) == (3, True)
    weak = holdfast(*arguments, HOLDFAST_API_TOKEN="changeme" * 4)
    assert (weak.returncode, "can be guessed" in weak.stderr) == (3, True)
    assert "changeme" not in weak.stderr
