"""Why a job is not running: one test per reason, through values alone."""

from typing import Any

import msgspec
import pytest

from holdfast.hub.why import Surroundings, explain
from holdfast.job.commands import KeyLink
from holdfast.job.model import (
    Attempt,
    CancelAsk,
    Definition,
    Instance,
    InstanceState,
    Job,
    Queue,
    QueueMode,
    TaskStatus,
)
from holdfast.job.state import End, State

NOW = 1_800_000_000.0
ABLE = Instance(
    id="i", worker="w1", host="box", pid=7, queues=("q",), tasks=("t",), slots=2, busy=1, state=InstanceState.READY
)


def job(**fields: Any) -> Job:
    return Job(**{"seq": 5, "id": "j", "task": "t", "queue": "q", "state": State.QUEUED, **fields})


def around(**fields: Any) -> Surroundings:
    return Surroundings(**{"now": NOW, "queue": Queue(name="q"), "instances": (ABLE,), **fields})


def attempt(**fields: Any) -> Attempt:
    return Attempt(**{"number": 1, "token": 1, "instance": "i", "worker": "w1", "started_at": NOW - 90, **fields})


def worker(**fields: Any) -> Instance:
    return msgspec.structs.replace(ABLE, **fields)


OFF = Definition(id="d", alias="t", status=TaskStatus.CANCELED)
STICKY = job(key="k", sticky="svc")
LINK = KeyLink("svc", "k", 0, "i", 7)
WAITING: list[tuple[str, Job, Surroundings, str]] = [
    ("next", job(), around(), "next free slot"),
    (
        "queue_paused",
        job(),
        around(queue=Queue(name="q", paused=True, paused_by="ann", paused_why="deploy", paused_at=NOW - 60)),
        "ann",
    ),
    ("task_inactive", job(), around(definition=OFF), "canceled"),
    ("queue_limit", job(), around(queue=Queue(name="q", limit=3), running=3), "runs 3 at a time"),
    ("queue_limit", job(), around(queue=Queue(name="q", mode=QueueMode.SERIAL), running=1), "runs 1 at a time"),
    (
        "key_busy",
        job(key="k"),
        around(line=(job(seq=9, id="other", key="k", state=State.RUNNING),)),
        "job other is running",
    ),
    ("key_busy", job(key="k"), around(line=(job(seq=2, id="first", key="k"),)), "job first is before it"),
    (
        "key_busy",
        job(key="k"),
        around(line=(job(seq=9, id="r", key="k", state=State.RETRYING),)),
        "waiting for its retry",
    ),
    ("unbound", job(key="k", sticky="svc"), around(), "no pod of service 'svc' has its key 'k'"),
    ("unbound", STICKY, around(link=KeyLink("svc", "k", None, "i", 7)), "waits for an owner"),
    ("owner_gone", STICKY, around(link=KeyLink("svc", "k", 3, "x", 7)), "pod 3 of service 'svc', which had its key"),
    ("owner_gone", STICKY, around(link=LINK, instances=(worker(state=InstanceState.LOST),)), "is lost"),
    ("owner_draining", STICKY, around(link=LINK, instances=(worker(state=InstanceState.DRAINING),)), "is stopping"),
    ("bound", STICKY, around(link=LINK), "Only pod 0 of service 'svc' (worker 'w1' on box, epoch 7) may run it"),
    ("bound", STICKY, around(link=LINK, instances=(worker(busy=2),)), "it has no free slot"),
    ("suspect", job(suspect=True, crashes=1), around(), "1 of 3"),
    ("no_worker", job(), around(instances=(worker(state=InstanceState.LOST),)), "No worker is running"),
    ("queue_unserved", job(), around(instances=(worker(queues=("mail",)),)), "those that run serve: mail"),
    ("no_handler", job(), around(instances=(worker(tasks=("x",)),)), "w1 lack it"),
    ("draining", job(), around(instances=(worker(state=InstanceState.DRAINING),)), "stopping"),
    ("slots_busy", job(), around(instances=(worker(busy=2),)), "All 2 slots"),
    ("paused", job(state=State.PAUSED, paused_by="ann"), around(), "held by ann"),
    ("task_inactive", job(state=State.PAUSED, paused_by="task"), around(), "switched off"),
    ("scheduled", job(state=State.SCHEDULED, run_at=NOW + 90), around(), "in 1m 30s"),
    (
        "snoozed",
        job(state=State.SCHEDULED, run_at=NOW + 5, last=attempt(end=End.SNOOZED, reason="patience")),
        around(),
        "patience",
    ),
    (
        "released",
        job(state=State.SCHEDULED, run_at=NOW + 5, last=attempt(end=End.RELEASED, reason="no handler here")),
        around(),
        "no handler here",
    ),
    (
        "backoff",
        job(
            state=State.RETRYING,
            attempt=2,
            failures=2,
            run_at=NOW + 4,
            last=attempt(end=End.FAILED, error="boom\nmore"),
        ),
        around(),
        "(2 of 5 failures): boom.",
    ),
    ("running", job(state=State.RUNNING, last=attempt()), around(), "attempt 1, worker w1 at box (pid 7)"),
    (
        "cancel_asked",
        job(state=State.RUNNING, last=attempt(), cancel=CancelAsk("ann", "enough", NOW)),
        around(),
        "ann asked it to stop (enough)",
    ),
    ("succeeded", job(state=State.SUCCEEDED, attempt=1, finished_at=NOW - 60), around(), "1m ago"),
    (
        "canceled",
        job(state=State.CANCELED, finished_at=NOW, cancel=CancelAsk("ann", "enough", NOW)),
        around(),
        "by ann",
    ),
    (
        "failed",
        job(state=State.FAILED, failures=5, finished_at=NOW, last=attempt(end=End.FAILED, error="boom")),
        around(),
        "5 of 5 failures): boom",
    ),
    (
        "failed",
        job(state=State.FAILED, failures=5, finished_at=NOW, last=attempt(end=End.FAILED, error="A sentence.")),
        around(),
        "A sentence. Retry it",
    ),
    ("poison", job(state=State.FAILED, crashes=3, finished_at=NOW), around(), "brought 3 processes down"),
]


@pytest.mark.parametrize(("code", "one", "where", "words"), WAITING, ids=[f"{code}: {w}" for code, _, _, w in WAITING])
def test_the_first_reason_is_the_one_that_holds(code: str, one: Job, where: Surroundings, words: str) -> None:
    reasons = explain(one, where)
    assert reasons[0].code == code
    assert words in reasons[0].text


def test_a_job_whose_line_is_behind_it_is_not_held_up_by_it() -> None:
    later = job(seq=9, id="later", key="k")
    assert [reason.code for reason in explain(job(key="k"), around(line=(later,)))] == ["next"]


def test_several_reasons_are_all_told() -> None:
    paused = Queue(name="q", paused=True, limit=1)
    reasons = explain(job(), around(queue=paused, running=1, instances=()))
    assert [reason.code for reason in reasons] == ["queue_paused", "queue_limit", "no_worker"]


@pytest.mark.parametrize("state", list(State))
def test_there_is_always_a_reason(state: State) -> None:
    assert explain(job(state=state, last=attempt()), around())
