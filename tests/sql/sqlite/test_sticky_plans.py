"""Claims of a pod find its keys, and those without an owner, by index: keys of others cost them nothing."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from holdfast.job import commands as c
from holdfast.job.ledger import Ledger
from holdfast.job.model import Instance, InstanceState, NewJob
from holdfast.stores.sql import links, upkeep
from tests.features import feature
from tests.sql.sqlite.test_plans import Counted, plan

CROWD: Final = 20_000
PODS: Final = 50
ME: Final = "me"
SCANS: Final = ("SCAN holdfast_job", "SCAN head", "SCAN holdfast_link", "SCAN its")
WANT: Final = c.Want(queues=(c.QueueWant("default", 100),), limit=100, instance=ME, worker="w", pod=0, sticky=("chat",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Counted]:
    made = Counted(tmp_path / "store")
    yield made
    made.connection.close()


def begin(store: Counted) -> None:
    """This process lives, and many others do not or no more."""
    for name, state in ((ME, InstanceState.READY), ("other", InstanceState.READY)):
        record = Instance(id=name, worker="w", state=state, lease=600.0)
        store.do(partial(upkeep.beat, command=c.Beat(instance=record, lease=600.0)))


def life(store: Counted, tag: str, epoch: int) -> dict[str, int]:
    """What it takes to be told of ten keys without an owner, to bind them, to claim their jobs and to settle those."""
    hot = store.db.hot
    jobs = tuple(NewJob(id=f"{tag}-{n}", task="t", key=f"{tag}-{n}", sticky="chat") for n in range(10))
    costs = {"enqueue": store.cost(lambda step: hot.enqueue(step, c.Enqueue(jobs=jobs)))}
    found: list[c.Claims[Any]] = []

    def claim(step: Any) -> Any:
        found.append((yield from hot.claim(step, WANT)))

    costs["look"] = store.cost(claim)
    assert {link.key for link in found[0].ownerless} == {job.key for job in jobs}
    bound = tuple(c.KeyLink("chat", link.key, 0, ME, epoch) for link in found[0].ownerless)
    costs["bind"] = store.cost(lambda step: links.bind(step, Ledger(), c.Bind(bound)))
    costs["claim"] = store.cost(claim)
    assert len(found[1].items) == len(jobs)
    settlements = [c.Settlement(one, c.Succeeded(b"1"), 0.1) for one in found[1].items]
    costs["settle"] = store.cost(lambda step: hot.settle(step, settlements))
    return costs


def crowd(store: Counted) -> None:
    """Keys without an owner of a service that this process has not, and keys of other processes; each with a ready job."""
    now = str(int(store.clock.now() * 1e6))
    alike = {"state": "2", "ready": "3", "lane": "1", "lane_key": "'key-' || n", "run_at": now, "queued_at": now}
    store.fill("job", 1_000_000, CROWD, **alike, sticky="'far'")
    store.fill("job", 2_000_000, CROWD, **alike, sticky="'chat'")
    store.connection.execute(f"UPDATE holdfast_job SET owner = 'pod-' || (seq % {PODS}) WHERE seq >= 2000000")
    store.connection.execute(
        "INSERT INTO holdfast_link (service, lane_key, pod, instance, epoch)"
        f" SELECT sticky, lane_key, seq % {PODS}, owner, 1 FROM holdfast_job WHERE sticky = 'chat' AND seq >= 2000000"
    )
    for number in range(PODS):
        record = Instance(id=f"pod-{number}", worker="w", state=InstanceState.READY, lease=600.0)
        store.do(partial(upkeep.beat, command=c.Beat(instance=record, lease=600.0)))


@feature("T16")
def test_keys_of_others_and_of_unknown_services_cost_a_pod_nothing(store: Counted) -> None:
    begin(store)
    life(store, "warm", 1)
    alone = life(store, "alone", 2)
    crowd(store)
    store.statements.clear()
    crowded = life(store, "crowded", 3)
    print(alone, crowded)
    for sql, how in {one.sql: plan(store, one) for one in store.statements}.items():
        scans = [
            step
            for step in how.split("; ")
            if step.startswith(("SCAN holdfast_job", "SCAN head", "SCAN holdfast_link"))
        ]
        assert not scans, (sql, how)
    for part, ticks in alone.items():
        assert crowded[part] <= ticks * 1.5 + 20, f"{part}: {ticks} ticks alone, {crowded[part]} beside the crowd"
