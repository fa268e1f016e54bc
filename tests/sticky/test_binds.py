"""Many at once bind, enqueue, claim and settle the same keys on a database: heads and links never part."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest

from holdfast.job import commands as c
from holdfast.job.model import Instance, InstanceState, NewJob
from holdfast.testing.contract.harness import StoreHarness
from tests.sql.mysql.harness import MariadbHarness
from tests.sql.postgresql.harness import PostgresHarness
from tests.sql.sqlite.harness import SqliteHarness

KEYS: Final = ("a", "b")
PODS: Final = ("i0", "i1", "i2")
SERVICES: Final = ("chat",)


@pytest.fixture(params=[SqliteHarness, PostgresHarness, MariadbHarness], ids=["sqlite", "postgresql", "mysql"])
async def h(request: pytest.FixtureRequest) -> AsyncIterator[StoreHarness]:
    make: Callable[[], StoreHarness] = request.param
    harness = make()
    await harness.open()
    yield harness
    await harness.close()


async def test_i18_a_hundred_callers_bind_one_key_and_one_epoch_has_one_owner(h: StoreHarness) -> None:
    await _live(h)
    await h.add(key="a", sticky="chat")
    wanted = [
        c.KeyLink("chat", "a", n % len(PODS), PODS[n % len(PODS)], epoch) for epoch in range(1, 5) for n in range(25)
    ]
    answers = [answer for [answer] in await asyncio.gather(*(h.store.bind([link]) for link in wanted))]
    owners = {answer.link.epoch: set[str]() for answer in answers}
    for answer in answers:
        owners[answer.link.epoch].add(answer.link.instance)
    assert all(len(found) == 1 for found in owners.values()), owners
    [link] = await h.store.links(c.LinkFilter())
    claimed = {one: await h.claim_ids(instance=one, sticky=SERVICES) for one in PODS}
    assert {one: len(ids) for one, ids in claimed.items()} == {one: int(one == link.instance) for one in PODS}


async def test_heads_are_for_their_links_process_whoever_binds_enqueues_claims_and_settles_meanwhile(
    h: StoreHarness,
) -> None:
    await _live(h)
    epochs = itertools.count(1)

    async def bind(rounds: int) -> None:
        for n in range(rounds):
            pod = n % len(PODS)
            await h.store.bind([c.KeyLink("chat", key, pod, PODS[pod], next(epochs)) for key in KEYS])

    async def enqueue(who: int, rounds: int) -> None:
        for n in range(rounds):
            await h.store.enqueue(
                [NewJob(id=f"{who}-{n}-{key}", task="t", queue=h.queue, key=key, sticky="chat") for key in KEYS]
            )

    async def work(instance: str, rounds: int) -> None:
        for _ in range(rounds):
            for claim in await h.claim(instance=instance, sticky=SERVICES):
                assert claim.item.pod == int(instance[1:])
                await h.settle(claim)

    await asyncio.gather(
        *(bind(20) for _ in range(2)), *(enqueue(n, 10) for n in range(2)), *(work(one, 15) for one in PODS)
    )
    assert h.faults() == []
    links = {link.key: link for link in await h.store.links(c.LinkFilter())}
    assert {link.epoch for link in links.values()} <= set(range(next(epochs)))
    while any(claims := [await h.claim(instance=one, sticky=SERVICES) for one in PODS]):
        for claim in itertools.chain(*claims):
            assert claim.item.pod_epoch == links[claim.item.key or ""].epoch
            await h.settle(claim)
    assert {job.state.value for job in await h.all_jobs()} == {"succeeded"}


async def _live(h: StoreHarness) -> None:
    for name in PODS:
        record = Instance(id=name, worker="w", state=InstanceState.READY, lease=600.0)
        await h.store.heartbeat(c.Beat(instance=record, lease=600.0))
