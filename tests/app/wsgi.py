"""A web app without a loop, for gunicorn: each request enqueues a job, runs it, and says which process did it."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from holdfast import Holdfast

jobs = Holdfast()


@jobs.task("ping")
def ping(n: int) -> int:
    return n + 1


# Before the fork: the parent's portal and store must not be taken for the child's.
BEFORE_FORK = ping.sync.enqueue(0).id


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the result of a job, and how many jobs this process has."""
    handle = ping.sync.enqueue(int(environ["PATH_INFO"].strip("/")))
    jobs.sync(jobs.work_once())
    answer = {
        "pid": os.getpid(),
        "result": handle.sync.result(timeout=60),
        "inherited": BEFORE_FORK in [job.id for job in jobs.sync(jobs.jobs.list(limit=1_000)).items],
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
