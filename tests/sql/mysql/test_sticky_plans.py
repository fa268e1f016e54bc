"""Claims of a pod find its keys, and those without an owner, by index: keys of others cost them nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import pytest

from holdfast.job import commands as c
from holdfast.job.model import Instance, InstanceState
from holdfast.stores.sql import links
from holdfast.stores.sql.schema import JOB_COLUMNS
from tests.features import feature
from tests.sql.mysql.crowd import rows_read
from tests.sql.mysql.harness import DatabaseHarness, ask
from tests.support.servers.mariadb import MariaDB

CROWD: Final = 10_000
PODS: Final = 50
MINE: Final = 10
#: Rows that one claim may look at: some for each process, and for each key of ours.
LOOKED: Final = 8 * PODS + 50 * MINE
ME: Final = "me"
WANT: Final = c.Want(queues=(c.QueueWant("default", 100),), limit=100, instance=ME, worker="w", pod=0, sticky=("chat",))


@pytest.fixture(params=["stale", "fresh"])
async def h(request: pytest.FixtureRequest, server: MariaDB) -> AsyncIterator[DatabaseHarness]:
    """A store with a few keys of ours and of nobody, and many of others; statistics of an empty one, or the truth."""
    name = server.new_name()
    ask(server, None, f"CREATE DATABASE {name}")
    made = DatabaseHarness(server, name)
    await made.open()
    for table in ("job", "link"):
        ask(server, name, f"ALTER TABLE holdfast_{table} STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")
        ask(server, name, f"ANALYZE TABLE holdfast_{table}")
    for pod in (ME, *(f"pod-{n}" for n in range(PODS))):
        record = Instance(id=pod, worker="w", state=InstanceState.READY, lease=600.0)
        await made.store.heartbeat(c.Beat(instance=record, lease=600.0))
    for n in range(2 * MINE):
        await made.add(key=f"u{n}", sticky="chat", queue="default")
    await made.store.bind([c.KeyLink("chat", f"u{n}", 0, ME, 1) for n in range(MINE)])
    crowd(made)
    if request.param == "fresh":
        ask(server, name, "ANALYZE TABLE holdfast_job, holdfast_link")
    yield made
    await made.close()
    ask(server, None, f"DROP DATABASE {name}")


def crowd(h: DatabaseHarness) -> None:
    """Ready jobs like one of ours: of a service that this process has not, without an owner; and of other processes."""
    names = (*JOB_COLUMNS, "owner")

    def rows(first: int, tag: str, service: str, owner: str) -> str:
        changes = {"seq": f"s.seq + {first}", "id": f"concat('{tag}-', s.seq)", "lane_key": f"concat('{tag}-', s.seq)"}
        changes |= {"ready": "3", "sticky": f"'{service}'", "owner": owner}
        picked = ", ".join(changes.get(name, f"j.{name}") for name in names)
        return f"INSERT INTO holdfast_job ({', '.join(names)}) SELECT {picked} FROM seq_1_to_{CROWD} AS s JOIN one AS j"

    ask(
        h.server,
        h.database,
        "CREATE TEMPORARY TABLE one AS SELECT * FROM holdfast_job ORDER BY seq LIMIT 1",
        rows(1_000_000, "far", "far", "'@far'"),
        rows(2_000_000, "pod", "chat", f"concat('pod-', s.seq % {PODS})"),
        "INSERT INTO holdfast_link (service, lane_key, pod, instance, epoch)"
        f" SELECT sticky, lane_key, seq % {PODS}, owner, 1 FROM holdfast_job WHERE seq > 2000000",
    )


@feature("T16", "T26")
async def test_keys_of_others_and_of_unknown_services_cost_a_pod_nothing(h: DatabaseHarness) -> None:
    looked, (mine, ownerless) = await rows_read(h, partial(links.look, want=WANT))
    assert mine
    assert {link.key for link in ownerless} == {f"u{n}" for n in range(MINE, 2 * MINE)}
    assert looked <= LOOKED
    looked, claims = await rows_read(h, partial(h.store._hot.claim, want=WANT))
    assert len(claims.items) == MINE
    assert looked <= 2 * LOOKED
