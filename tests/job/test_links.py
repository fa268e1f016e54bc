"""Who owns which key, and what a sticky job waits for."""

from typing import Final

import pytest

from holdfast.errors import ContentError
from holdfast.job import commands as c
from holdfast.job.facts import InstanceGone
from holdfast.job.ledger import Ledger, execute, validate
from holdfast.job.ledger.links import links_of
from holdfast.job.ledger.snapshot import records_of, restore
from holdfast.job.model import Instance, InstanceState, NewJob
from tests.features import feature
from tests.job.histories import Life

QUEUE: Final = "a"


class Pods(Life):
    """A ledger with two live processes."""

    def __init__(self) -> None:
        super().__init__(0)
        for name in ("i1", "i2"):
            self.do(c.Beat(instance=Instance(id=name, worker="w", state=InstanceState.READY)))

    def add(self, *keys: str) -> None:
        """Enqueue sticky jobs."""
        self.do(
            c.Enqueue(jobs=tuple(NewJob(id=f"{key}-job", task="t", queue=QUEUE, key=key, sticky="s") for key in keys))
        )

    def link(self, key: str, instance: str, epoch: int, pod: int | None = 1) -> c.BoundKey:
        """Give a key to a process."""
        [answer] = self.do(c.Bind((c.KeyLink("s", key, pod, instance, epoch),)))
        assert isinstance(answer, c.BoundKey)
        return answer

    def want(self, instance: str, limit: int = 10) -> c.Claims[object]:
        """Claim for a process."""
        wanted = (c.QueueWant(QUEUE, limit),)
        claims: c.Claims[object] = self.do(c.Want(queues=wanted, limit=limit, instance=instance, sticky=("s",)))
        return claims


@pytest.fixture
def pods() -> Pods:
    return Pods()


@feature("S8")
def test_an_owner_claims_all_its_keys_and_nobody_elses(pods: Pods) -> None:
    pods.add("k1", "k2", "k3", "k4")
    for key, instance in (("k1", "i1"), ("k2", "i1"), ("k3", "i2")):
        assert pods.link(key, instance, 1).accepted
    assert validate(pods.ledger) == []
    claims = pods.want("i1")
    assert [claim.id for claim in claims.items] == ["k1-job", "k2-job"]
    assert [link.key for link in claims.ownerless] == ["k4"]
    assert validate(pods.ledger) == []


def test_a_link_of_another_service_under_the_same_key_moves_nothing(pods: Pods) -> None:
    pods.add("k1")
    pods.do(c.Bind((c.KeyLink("other", "k1", 1, "i1", 9),)))
    assert pods.want("i1").items == ()


def test_a_restored_ledger_gives_sticky_jobs_to_the_same_owners(pods: Pods) -> None:
    pods.add("k1", "k2", "k3")
    pods.link("k1", "i1", 1)
    pods.link("k2", "gone", 1)
    fresh = Ledger()
    restore(fresh, records_of(pods.ledger))
    assert fresh.index.line(QUEUE).sticky.where == pods.ledger.index.line(QUEUE).sticky.where
    assert validate(fresh) == []


def test_the_links_of_a_process_that_is_forgotten_are_forgotten(pods: Pods) -> None:
    pods.add("k1", "k2")
    pods.link("k1", "i1", 1)
    pods.link("k2", "i2", 1)
    pods.ledger.apply(InstanceGone("i1"))
    assert [link.key for link in links_of(pods.ledger, c.LinkFilter())] == ["k2"]


def test_links_are_found_by_each_part_of_a_filter(pods: Pods) -> None:
    for key, instance in (("k1", "i1"), ("k2", "i2"), ("k3", "i1")):
        pods.link(key, instance, 1)

    def keys(**which: object) -> list[str]:
        return [link.key for link in links_of(pods.ledger, c.LinkFilter(**which))]  # type: ignore[arg-type]

    assert keys() == ["k1", "k2", "k3"]
    assert keys(service="s", key="k2") == ["k2"]
    assert keys(service="s", key="none") == []
    assert keys(key="k2") == ["k2"]
    assert keys(service="none") == []
    assert keys(instance="i1") == ["k1", "k3"]
    assert keys(instance="none") == []
    assert keys(after=("s", "k1"), limit=1) == ["k2"]


def test_why_a_link_was_refused_names_the_one_that_holds(pods: Pods) -> None:
    pods.link("k1", "i1", 5)
    assert "pod 1 (i1)" in pods.link("k1", "i2", 5).why
    assert "older than 5" in pods.link("k1", "i2", 4).why
    pods.link("k1", "i1", 5, pod=None)
    assert "given up" in pods.link("k1", "i1", 5).why
    assert "'nobody'" in pods.link("k1", "nobody", 6).why


def test_a_sticky_job_needs_a_key(pods: Pods) -> None:
    with pytest.raises(ContentError, match="using\\(key=…\\)"):
        execute(pods.ledger, c.Enqueue(jobs=(NewJob(id="x", task="t", sticky="s"),)), pods.clock.now(), pods.draw)
