"""Who may come in: hosts, tokens, and the socket that needs none."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node.processes import LIMIT, NodeProcess

JOB = {"task": "mail.welcome", "payload": {"user_id": 1}}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for all tests that come to its door."""
    started = NodeProcess(tmp_path_factory.mktemp("door") / "data", HOLDFAST_HOSTS="hub.example")
    yield started
    started.kill()


def jobs_of(node: NodeProcess) -> int:
    return int(node.ask("GET", "/api/v1/job-count", over="tcp")[1]["count"])


def ask_with(node: NodeProcess, hosts: list[str], path: str = "/api/v1/stats") -> tuple[int, dict[str, Any]]:
    """Send a GET whose Host headers are exactly these."""
    _, _, port = node.info["url"].rpartition(":")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=LIMIT)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read()
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status, json.loads(text) if is_json else {}
    finally:
        connection.close()


def test_only_known_hosts_are_served_so_that_a_rebound_name_reads_nothing(node: NodeProcess) -> None:
    _, _, port = node.info["url"].rpartition(":")
    for host in ("localhost", "127.0.0.1", f"127.0.0.1:{port}", "[::1]", f"[::1]:{port}", "LOCALHOST", "hub.example"):
        assert ask_with(node, [host])[0] == 200, host
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost:x", "a b", "[::2]"):
        status, answer = ask_with(node, [host])
        assert (status, answer.get("code")) == (421, "http-421"), host
        assert "expected Host to be one of" in answer["detail"]
    assert ask_with(node, ["localhost", "evil.example"])[0] in (400, 421)
    assert ask_with(node, [""])[0] in (400, 421)


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer", "Basic {token}", "{token}"])
def test_a_change_over_tcp_without_the_token_is_refused_and_changes_nothing(
    node: NodeProcess, given: str | None
) -> None:
    before = jobs_of(node)
    headers = {} if given is None else {"Authorization": given.format(token=node.token)}
    status, answer = node.ask("POST", "/api/v1/jobs", JOB, headers=headers, over="tcp")
    assert (status, answer["code"]) == (401, "http-401")
    assert node.token not in json.dumps(answer)
    assert jobs_of(node) == before


def test_a_change_over_tcp_with_the_token_and_over_the_socket_without_is_done(node: NodeProcess) -> None:
    assert (
        node.ask("POST", "/api/v1/jobs", JOB, headers={"Authorization": f"Bearer {node.token}"}, over="tcp")[0] == 201
    )
    assert node.ask("POST", "/api/v1/jobs", JOB)[0] == 201


def test_answers_are_not_kept_and_not_guessed_at_by_browsers(node: NodeProcess) -> None:
    _, _, port = node.info["url"].rpartition(":")
    for path in ("/api/v1/stats", "/nowhere"):
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=LIMIT)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        connection.close()
