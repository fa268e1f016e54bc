"""`holdfast worker` and `app.run(processes=…)`: worker processes on a journal that has one owner, in real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.features import feature
from tests.node.processes import LIMIT, ROOT, SHOP, NodeProcess, environment, eventually, holdfast

Start = Callable[..., NodeProcess]


@contextmanager
def running(tmp_path: Path, *command: object, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program; what it wrote is shown when the test fails."""
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=environment(**variables),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT)
        sys.stdout.write((tmp_path / "worker.log").read_text())


def worker(tmp_path: Path, *arguments: object, **variables: str) -> Any:
    return running(tmp_path, "-m", "holdfast", "worker", SHOP, *arguments, **variables)


def ask(*arguments: object) -> Any:
    """The answer of a command as JSON; None where it fails."""
    answer = holdfast(*arguments, "--json")
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def workers(data: Path, state: str = "ready") -> list[int]:
    """The processes that the store of a folder knows in a state."""
    return [one["pid"] for one in ask("workers", "--data", data) or () if one.get("state") == state]


def enqueued(data: Path, task: str, **payload: object) -> str:
    [answer] = ask("enqueue", task, json.dumps(payload), "--data", data)
    return str(answer["id"])


def job(data: Path, job_id: str) -> dict[str, Any]:
    found = ask("jobs", "show", job_id, "--data", data)
    return dict(found.get("job", found))


def ended(data: Path, job_id: str) -> dict[str, Any]:
    return eventually(lambda: (found := job(data, job_id))["finished_at"] and found, f"the end of {job_id}")


def at_the_gate(data: Path, tmp_path: Path, count: int) -> tuple[list[str], set[int], Path]:
    """Have `count` handlers wait at a gate; return their jobs, the processes they are in, and the file that opens it."""
    gates = [tmp_path / f"gate{number}" for number in range(count)]
    jobs = [enqueued(data, "shop.where", opened=str(gate)) for gate in gates]
    began = [gate.with_suffix(".begun") for gate in gates]
    eventually(lambda: all(path.exists() and path.read_text() for path in began), "the start of the handlers")
    return jobs, {int(path.read_text()) for path in began}, gates[0]


@feature("T14", "B37", "B49")
def test_two_worker_processes_share_the_jobs_of_a_journal_that_a_node_serves(start: Start, tmp_path: Path) -> None:
    node = start(app=None)
    with worker(tmp_path, "--data", node.data, "--processes", 2, "-w", 1) as parent:
        eventually(lambda: len(workers(node.data)) == 2, "two workers")
        jobs, pids, _ = at_the_gate(node.data, tmp_path, 2)
        assert pids == set(workers(node.data))
        assert parent.pid not in pids
        for number in range(2):
            (tmp_path / f"gate{number}").write_text("open")
        assert {int(ended(node.data, job_id)["result"]) for job_id in jobs} == pids
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT) == 0
    assert sorted(workers(node.data, "stopped")) == sorted(pids)
    assert node.stop() == 0


@feature("A5")
def test_a_worker_process_of_a_journal_that_is_killed_is_replaced_and_its_job_goes_on(
    start: Start, tmp_path: Path
) -> None:
    node = start(app=None)
    with worker(tmp_path, "--data", node.data, "--processes", 2, "--lease", "10m") as parent:
        eventually(lambda: len(workers(node.data)) == 2, "two workers")
        [job_id], [pid], gate = at_the_gate(node.data, tmp_path, 1)
        gate.write_text("open for the second attempt")
        os.kill(pid, signal.SIGSTOP)  # the handler must not see the open gate
        os.kill(pid, signal.SIGKILL)
        found = ended(node.data, job_id)
        assert [attempt["end"] for attempt in found["attempts"]][-1] == "succeeded"
        assert int(found["result"]) not in (0, parent.pid)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT) == 0


def test_worker_processes_without_a_node_work_on_a_journal_that_their_parent_owns_and_serves(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with worker(tmp_path, "--data", data, "--processes", 2) as parent:
        eventually(lambda: len(workers(data)) == 2, "two workers")
        found = ended(data, enqueued(data, "mail.welcome", user_id=3))
        assert found["result"] == "en:3"
        assert ask("status", "--data", data)["node"]["pid"] == parent.pid
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT) == 0
    assert not (data / "node.sock").exists()
    assert ask("status", "--offline", "--data", data)["succeeded"] == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_each_worker_process_says_when_it_is_ready_in_the_form_that_was_asked_for(
    tmp_path: Path, processes: int
) -> None:
    options = ("--data", tmp_path / "data", "--processes", processes, "--log-format", "json")
    with worker(tmp_path, *options) as parent:
        lines = eventually(lambda: told if len(told := ready(tmp_path)) == processes else [], "the first words")
        assert len({line["pid"] for line in lines}) == processes
        assert (parent.pid in {line["pid"] for line in lines}) == (processes == 1)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT) == 0


def ready(tmp_path: Path) -> list[dict[str, Any]]:
    """What the log tells of processes that are ready; what is no JSON fails."""
    lines = [
        json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines(keepends=True) if line[-1] == "\n"
    ]
    return [line for line in lines if line["event"] == "worker ready"]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_store_of_the_settings_is_used_and_not_the_one_that_the_app_names(
    start: Start, tmp_path: Path, processes: int
) -> None:
    node = start(app=None)
    other = tmp_path / "other.py"
    other.write_text(
        f"from holdfast import Holdfast\napp = Holdfast('journal:{tmp_path / 'own'}')\n"
        "@app.task('one')\nasync def one() -> int:\n    return 1\n"
    )
    command = ("-m", "holdfast", "worker", "other:app", "--processes", processes)
    with running(tmp_path, *command, PYTHONPATH=f"{ROOT}/src:{tmp_path}", HOLDFAST_DATA=str(node.data)):
        eventually(lambda: len(workers(node.data)) == processes, "the workers")
        assert ended(node.data, enqueued(node.data, "one"))["state"] == "succeeded"
    assert not (tmp_path / "own").exists()


def test_without_a_setting_the_store_of_the_app_is_used(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (tmp_path / "mine.py").write_text(
        f"from holdfast import Holdfast\napp = Holdfast('journal:{own}')\n"
        "@app.task('one')\nasync def one() -> int:\n    return 1\n"
    )
    with running(tmp_path, "-m", "holdfast", "worker", "mine:app", PYTHONPATH=f"{ROOT}/src:{tmp_path}"):
        eventually(lambda: len(workers(own)) == 1, "the worker")
        assert ended(own, enqueued(own, "one"))["state"] == "succeeded"


def test_app_run_with_processes_works_in_processes_under_the_program_that_owns_the_journal(tmp_path: Path) -> None:
    data = tmp_path / "data"
    program = (
        f"import sys, tests.node.shop as shop; shop.app.use('journal:{data}'); sys.exit(shop.app.run(processes=2))"
    )
    with running(tmp_path, "-c", program) as parent:
        eventually(lambda: len(workers(data)) == 2, "two workers")
        assert parent.pid not in workers(data)
        assert ended(data, enqueued(data, "mail.welcome", user_id=3))["result"] == "en:3"
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT) == 0


def test_a_memory_store_can_not_be_shared_by_processes_and_the_message_says_what_can(tmp_path: Path) -> None:
    program = "import tests.node.shop as shop; shop.app.run(processes=2)"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert answer.returncode == 1
    assert "expected one that many processes may open, found MemoryStore" in answer.stderr


def test_a_handler_that_never_stops_does_not_keep_a_worker_process_from_ending(start: Start, tmp_path: Path) -> None:
    node = start(app=None)
    begun = tmp_path / "deaf"
    with worker(tmp_path, "--data", node.data, "--processes", 2, "--grace", "10ms") as parent:
        eventually(lambda: len(workers(node.data)) == 2, "two workers")
        enqueued(node.data, "shop.deaf", begun=str(begun))
        eventually(begun.exists, "the start of the handler")
        pids = workers(node.data)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT) == 0
    assert begun.with_suffix(".asked").exists()
    # They ended by themselves: the store saw them go.
    assert sorted(workers(node.data, "stopped")) == sorted(pids)
