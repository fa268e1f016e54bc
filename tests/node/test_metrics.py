"""The metrics of a node: the names people know, with the values that are true."""

import http.client
import re
import urllib.request
from collections.abc import Callable

from tests.features import feature
from tests.node.processes import NodeProcess, eventually, free_port

Start = Callable[..., NodeProcess]


def samples(text: str) -> dict[str, float]:
    """Sum every metric over its labels, with `le` kept for buckets."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
            bound = re.search(r'le="([^"]+)"', labels or "")
            key = f"{name}[{bound[1]}]" if bound else name
            found[key] = found.get(key, 0.0) + float(value)
    return found


@feature("A23", "B50", "B51", "B52", "B53", "BW23")
def test_a23_counters_histogram_and_gauges_are_true_on_both_addresses(start: Start) -> None:
    node = start("--metrics-port", free_port(), "--workers", 4)
    good = [node.enqueue("mail.welcome", user_id=number) for number in range(7)]
    flaky = node.enqueue("shop.flaky")
    bad = node.enqueue("shop.bad")
    for job_id in [*good, flaky]:
        eventually(lambda job_id=job_id: node.state(job_id) == "succeeded", "a success")  # type: ignore[misc]
    eventually(lambda: node.state(bad) == "failed", "the failure")
    node.ask("PATCH", "/api/v1/queues/mail", {"paused": True})
    node.enqueue("mail.welcome", user_id=0)
    with urllib.request.urlopen(node.info["metrics"]) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        own = samples(answer.read().decode())
    for found in (own, samples(node.ask("GET", "/metrics")[1])):
        assert found["queue_jobs_enqueued_total"] == 10
        assert found["queue_jobs_dispatched_total"] == 10
        assert found["queue_jobs_completed_total"] == 8
        assert found["queue_jobs_retried_total"] == 1
        assert found["queue_jobs_failed_total"] == 2
        assert found["queue_jobs_dead_total"] == 1
        assert found["queue_job_duration_seconds_count"] == 10
        assert found["queue_job_duration_seconds_bucket[+Inf]"] == 10
        for bound in ("0.1", "0.5", "1.0", "2.0", "5.0"):
            assert f"queue_job_duration_seconds_bucket[{bound}]" in found
        assert found["queue_depth"] == 1
        assert found["queue_recovery_seconds"] > 0


def test_the_metrics_address_serves_nothing_else_and_only_known_hosts(start: Start) -> None:
    node = start("--metrics-port", free_port())
    port = int(node.info["metrics"].rpartition(":")[2].partition("/")[0])
    for path, host, status in (("/api/v1/stats", "localhost", 404), ("/metrics", "evil.example", 421)):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path, headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()
