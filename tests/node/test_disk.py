"""A node whose disk gives no more room, and one whose disk fails: what it says, what goes on, and what is there afterwards.

The system itself refuses: a limit on the size of files, set and lifted from outside while the node runs.
"""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.wal.writer import Options
from tests.node.processes import NodeProcess, eventually, holdfast

Start = Callable[..., NodeProcess]

SEGMENT = 16 * 1024 * 1024  # bytes of a segment of the journal
BIG = "x" * 1_000_000


def limit_files(node: NodeProcess, size: int) -> None:
    """From now on the system lets no file of the node grow to more than `size` bytes."""
    _, hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def lift(node: NodeProcess) -> None:
    limit_files(node, resource.RLIM_INFINITY)


def told(node: NodeProcess) -> dict[str, Any]:
    return dict(node.ask("GET", "/api/v1/node")[1])


def has_its_reserve(node: NodeProcess) -> bool:
    """Whether the segments that are made ahead are there, all of them: a node makes them just after it begins."""
    sizes = [file.stat().st_size for file in node.data.rglob("spare-*.tmp")]
    return sizes == [SEGMENT] * (Options().reserve_segments + 1)


def fill(node: NodeProcess) -> list[str]:
    """Enqueue until the node refuses; return the ids that it accepted. None begins, so that nothing eats up the reserve."""
    accepted: list[str] = []
    while len(accepted) < 100:
        status, answer = node.ask("POST", "/api/v1/jobs", {"task": "shop.bad", "payload": {"text": BIG}, "delay": 3600})
        if status != 201:
            assert (status, answer["code"]) == (507, "StoreFull"), answer
            return accepted
        accepted.append(answer["id"])
    raise AssertionError("the node never noticed that there is no more room")


def test_a_full_disk_is_told_work_is_settled_and_the_node_heals_by_itself(start: Start, tmp_path: Path) -> None:
    node = start()
    opened = tmp_path / "gate"
    running = node.enqueue("shop.gate", opened=str(opened))
    eventually(opened.with_suffix(".begun").exists, "the start of the handler")
    eventually(lambda: has_its_reserve(node), "the reserve")
    limit_files(node, SEGMENT - 1)
    fill(node)

    full = told(node)
    assert full["state"] == "full"
    assert full["problem"].endswith("Free some space: it goes on by itself.")
    assert node.ask("GET", "/readyz")[0] == 503
    assert node.ask("GET", "/healthz")[0] == 200
    shown = holdfast("status", "--data", node.data).stdout
    assert "full, pid" in shown
    assert "ready" not in shown
    eventually(lambda: "the store refuses new jobs" in node.log(), "the word in the log")
    # What had begun goes on.
    opened.write_text("open")
    eventually(lambda: node.state(running) == "succeeded", "the end of the job")

    lift(node)
    eventually(lambda: told(node)["state"] == "ready", "the end of the state")
    eventually(lambda: "takes new jobs again" in node.log(), "the word in the log")
    later = node.enqueue("mail.welcome", user_id=1)
    eventually(lambda: node.state(later) == "succeeded", "the end of a new job")
    assert node.log().count("the store refuses new jobs") == 1
    assert node.stop() == 0


def test_a_node_whose_disk_fails_says_so_stops_and_has_lost_nothing_that_it_acknowledged(start: Start) -> None:
    node = start()
    kept = [node.enqueue("mail.welcome", user_id=number) for number in range(5)]
    limit_files(node, 4096)  # the next write to the journal fails, which is no full disk
    status, answer = node.ask("POST", "/api/v1/jobs", {"task": "mail.welcome", "payload": {"user_id": 6}})
    # Whether the fault came before or in the middle of this step is the disk's affair; both are told as what they are.
    assert (status, answer["code"]) in {(500, "OutcomeUnknown"), (503, "StoreUnavailable")}, answer
    assert node.wait() == 11
    assert "the store failed, and the node stops" in node.log()
    assert "Traceback" not in node.log()

    again = start()
    for job_id in kept:
        eventually(lambda job_id=job_id: again.state(job_id) == "succeeded", "the end of what was acknowledged")  # type: ignore[misc]
    assert told(again)["problem"] == ""
    assert again.stop() == 0
