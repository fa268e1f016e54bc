"""`holdfast workers` and the evidence of attempts: shown and steered against a live node."""

from tests.cli.conftest import Command
from tests.features import feature
from tests.node.processes import NodeProcess, eventually


@feature("H11", "H12", "HW8", "HW10")
def test_a_worker_is_shown_configured_and_steered_while_it_runs(at: Command, node: NodeProcess) -> None:
    [process] = at("workers", "--json").json
    name = process["worker"]
    try:
        assert f"{name}: enabled; queues default=7:2" in at("workers", "set", name, "-q", "default=7:2").out
        assert "default=7:2" in at("workers", "show", name).out
        assert at("workers", "disable", name, "--json").json["enabled"] is False
        assert "disabled" in at("workers").out
        shown = at("workers", "show", name, "--json").json
        assert shown["instances"][0]["pid"] == node.info["pid"]
    finally:
        at("workers", "set", name, "-q", "none")
        at("workers", "enable", name)
    assert at("workers", "ls", "--offline", "3600", "--json").json == []


def test_what_can_not_be_is_refused_with_what_is_expected(at: Command, node: NodeProcess) -> None:
    for arguments, said in (
        (("show", "nobody"), "unknown worker"),
        (("drain", "nobody"), "unknown worker"),
        (("set", "w"), "something to change"),
        (("set", "w", "--create", "-q", "mail"), "NAME=N"),
        (("set", "w", "--create", "-q", "mail=0"), "1 to 100,000"),
        (("set", "w", "--create", "-q", "mail=1", "-q", "mail=2"), "each queue once"),
    ):
        answer = at("workers", *arguments)
        assert answer.code != 0
        assert said in answer.err


@feature("H7")
def test_an_attempt_is_shown_with_all_that_it_keeps(at: Command, node: NodeProcess) -> None:
    job_id = node.enqueue("shop.bad", text="no such order")
    eventually(lambda: node.state(job_id) == "failed")
    shown = at("jobs", "show", job_id, "--attempt", "1").out
    for said in ("no such order", "ValueError", "Traceback", "token", "waited", "heard of", "failed"):
        assert said in shown
    answer = at("jobs", "show", job_id, "--attempt", "9")
    assert (answer.code != 0, "expected one that job" in answer.err) == (True, True)
