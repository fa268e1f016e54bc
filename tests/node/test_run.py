"""`holdfast run`: a node from its start to its end, in real processes with real sockets and signals."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.features import feature
from tests.node.processes import ROOT, SHOP, NodeProcess, environment, eventually, holdfast

Start = Callable[..., NodeProcess]


def done(node: NodeProcess, job_id: str, state: str = "succeeded") -> None:
    eventually(lambda: node.state(job_id) == state, f"{state} of {job_id}")


@feature("B55", "A22")
def test_a22_a_node_says_where_everything_is_and_runs_jobs(start: Start) -> None:
    node = start("--workers", 3)
    assert node.info["state"] == "ready"
    assert node.info["durable"] is True
    assert node.info["slots"] == 3
    assert set(node.info["tasks"]) >= {"mail.welcome", "shop.bad"}
    assert set(node.info["queues"]) == {"default", "mail"}
    assert node.ask("GET", "/healthz", over="tcp") == (200, {"status": "ok", "checks": {"service": "running"}})
    done(node, node.enqueue("mail.welcome", user_id=42))
    assert node.stop() == 0


@feature("B55")
def test_the_banner_tells_a_person_where_everything_is(tmp_path: Path) -> None:
    arguments = [
        "run",
        SHOP,
        "--data",
        str(tmp_path / "d"),
        "--port",
        "0",
        "--metrics-port",
        "0",
        "-w",
        "2",
        "-t",
        "3s",
        "-s",
        "2s",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast", *arguments],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines = []
        while "ready" not in lines:
            line = process.stdout.readline()
            assert line, "it ended before it was ready"
            lines.append(line.strip())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    text = "\n".join(lines)
    for word in ("pid", "data", "node.sock", "http://127.0.0.1:", "/metrics", "recovery", "workers", "mail.welcome"):
        assert word in text, word


def test_without_an_app_a_node_serves_store_and_api_alone(start: Start) -> None:
    assert start().stop() == 0  # the tasks of the app are known to the journal from now on
    node = start(app=None)
    assert node.info["slots"] == 0
    waiting = node.enqueue("mail.welcome", user_id=1)
    assert node.state(waiting) == "queued"
    _, answer = node.ask("GET", f"/api/v1/jobs/{waiting}")
    assert [reason["code"] for reason in answer["why"]] == ["no_worker"]
    assert node.stop() == 0


@feature("B58")
def test_jobs_survive_a_node_that_is_killed(start: Start, tmp_path: Path) -> None:
    node = start()
    opened = tmp_path / "gate"
    running = node.enqueue("shop.gate", opened=str(opened))
    eventually(opened.with_suffix(".begun").exists, "the start of the handler")
    ready = [node.enqueue("mail.welcome", user_id=number) for number in range(10)]
    node.process.kill()
    node.wait()
    opened.write_text("open")
    again = start()
    assert again.info["recovery"] is not None
    for job_id in [running, *ready]:
        done(again, job_id)
    _, answer = again.ask("GET", f"/api/v1/jobs/{running}")
    assert [attempt["end"] for attempt in answer["job"]["attempts"]] == ["lost", "succeeded"]
    assert again.stop() == 0


def test_a_first_signal_lets_handlers_finish_and_gives_back_what_waits(start: Start, tmp_path: Path) -> None:
    node = start("--workers", 1)
    opened = tmp_path / "gate"
    running = node.enqueue("shop.gate", opened=str(opened))
    eventually(opened.with_suffix(".begun").exists, "the start of the handler")
    waiting = node.enqueue("mail.welcome", user_id=1)
    node.signal(signal.SIGINT)
    eventually(lambda: node.ask("GET", "/api/v1/node")[1]["state"] == "draining", "the drain")
    assert node.ask("GET", "/readyz")[0] == 503
    opened.write_text("open")
    assert node.wait() == 0
    offline = holdfast("jobs", "ls", "--offline", "--json", "--data", node.data)
    states = {job["id"]: job["state"] for job in json.loads(offline.stdout)["items"]}
    assert states == {running: "succeeded", waiting: "queued"}


def test_a_second_signal_cancels_the_handlers_and_their_jobs_are_given_back(start: Start, tmp_path: Path) -> None:
    node = start()
    opened = tmp_path / "gate"
    job_id = node.enqueue("shop.gate", opened=str(opened))
    eventually(opened.with_suffix(".begun").exists, "the start of the handler")
    node.signal()
    eventually(lambda: node.ask("GET", "/api/v1/node")[1]["state"] == "draining", "the drain")
    node.signal()
    assert node.wait() == 0
    opened.write_text("open")
    again = start()
    done(again, job_id)
    _, answer = again.ask("GET", f"/api/v1/jobs/{job_id}")
    assert [attempt["end"] for attempt in answer["job"]["attempts"]] == ["released", "succeeded"]
    assert answer["job"]["failures"] == 0


def test_a_third_signal_ends_the_node_at_once(start: Start, tmp_path: Path) -> None:
    node = start()
    begun = tmp_path / "stubborn"
    node.enqueue("shop.stubborn", begun=str(begun))
    eventually(begun.exists, "the start of the handler")
    node.signal()
    eventually(lambda: node.ask("GET", "/api/v1/node")[1]["state"] == "draining", "the drain")
    node.signal()
    eventually(begun.with_suffix(".asked").exists, "the cancel")
    node.signal()
    assert node.wait() == 128 + signal.SIGTERM


def test_a_handler_that_never_stops_does_not_keep_the_node_from_ending(start: Start, tmp_path: Path) -> None:
    node = start("--grace", "10ms")
    begun = tmp_path / "deaf"
    node.enqueue("shop.deaf", begun=str(begun))
    eventually(begun.exists, "the start of the handler")
    assert node.stop() == 0
    assert begun.with_suffix(".asked").exists()
    assert not (node.data / "node.sock").exists()


def test_socket_and_token_are_for_the_owner_alone_and_each_start_makes_a_new_token(start: Start) -> None:
    node = start()
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (node.data, node.data / "node.sock", node.data / "token")]
    assert modes == [0o700, 0o600, 0o600]
    first = node.token
    assert node.stop() == 0
    assert not (node.data / "node.sock").exists()
    assert not (node.data / "token").exists()
    assert start().token != first


def test_a_port_in_use_is_told_before_the_journal_is_touched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = holdfast("run", "--data", tmp_path / "d", "--port", port)
    assert answer.returncode == 8
    assert f"port {port} of 127.0.0.1: expected a free port, found one in use" in answer.stderr
    assert "--port" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "d").exists()


def test_a_busy_metrics_port_is_warned_of_and_the_node_goes_on(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = start("--metrics-port", taken.getsockname()[1])
        assert node.info["metrics"] == f"{node.info['url']}/metrics"
        assert "no metrics of their own port" in node.log()


@feature("BW17")
def test_a_second_node_on_the_folder_is_refused_and_told_who_holds_it(start: Start) -> None:
    node = start()
    answer = holdfast("run", "--data", node.data, "--port", 0, "--metrics-port", 0)
    assert answer.returncode == 6
    assert str(node.info["pid"]) in answer.stderr
    assert "Traceback" not in answer.stderr
    assert node.ask("GET", "/healthz")[0] == 200
    done(node, node.enqueue("mail.welcome", user_id=1))


def test_an_address_that_others_reach_needs_a_token_of_some_length(tmp_path: Path, start: Start) -> None:
    for token in ("", "short"):
        command = ("run", "--data", tmp_path / "d", "--host", "0.0.0.0", "--port", 0)
        answer = holdfast(*command, HOLDFAST_API_TOKEN=token)
        assert answer.returncode == 3
        assert "expected a loopback address" in answer.stderr
    assert not (tmp_path / "d").exists()
    secret = "a-token-of-some-length"
    node = start("--host", "0.0.0.0", HOLDFAST_API_TOKEN=secret)
    port = node.info["url"].rpartition(":")[2]
    node.info["url"] = f"http://127.0.0.1:{port}"
    assert node.ask("GET", "/api/v1/stats", over="tcp")[0] == 401
    assert node.ask("GET", "/healthz", over="tcp")[0] == 200
    assert node.ask("GET", "/api/v1/stats", over="tcp", headers={"Authorization": f"Bearer {secret}"})[0] == 200
    assert secret not in node.log()


@pytest.mark.parametrize(
    ("app", "word"),
    [("nowhere.to:app", "no module"), ("tests.node.shop:nothing", "has no 'nothing'"), ("shop", "module:attribute")],
)
def test_an_app_that_can_not_be_found_is_told_and_nothing_is_started(tmp_path: Path, app: str, word: str) -> None:
    answer = holdfast("run", app, "--data", tmp_path / "d")
    assert answer.returncode == 3
    assert word in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "d").exists()


def test_the_socket_alone_is_served_when_http_is_switched_off(start: Start) -> None:
    node = start("--no-http")
    assert node.info["url"] is None
    done(node, node.enqueue("mail.welcome", user_id=1))


@feature("BW24")
def test_a_time_limit_of_the_node_holds_for_tasks_without_one(start: Start, tmp_path: Path) -> None:
    node = start("--timeout", "50ms", HOLDFAST_MAX_RETRY="1")
    job_id = node.enqueue("shop.gate", opened=str(tmp_path / "never"))
    done(node, job_id, "failed")
    _, answer = node.ask("GET", f"/api/v1/jobs/{job_id}")
    assert [attempt["end"] for attempt in answer["job"]["attempts"]] == ["timed_out"]


def test_a_data_folder_with_a_long_path_works_too(tmp_path: Path, start: Start) -> None:
    folder = "d" * 60 + "/" + "e" * 60
    node = start(data=folder)
    answer = holdfast("status", "--data", node.data, "--json")
    assert answer.returncode == 0, answer.stderr
    assert len(str(node.data)) > 108
