"""A full disk: new work is refused, what is under way goes on, and the state is left without help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdfast.clock import ManualClock
from holdfast.errors import StoreFull
from holdfast.job.commands import Cancel, JobFilter, Progress, Replay, Succeeded
from holdfast.job.state import State
from holdfast.stores.journal import JournalOptions, JournalStore
from holdfast.wal import Log, Recovery
from tests.features import feature
from tests.journal.simulated import SimHarness
from tests.wal.disk import SimDisk

if TYPE_CHECKING:
    from holdfast.job.model import Job

OPTIONS = JournalOptions(segment_bytes=16 * 1024, reserve_segments=2, snapshot_interval=0, freeze=False)
PAYLOAD = b'"' + b"x" * 1_000 + b'"'


class FullHarness(SimHarness):
    """A disk on which no room can be had any more. The log tries again as the clock says."""

    def __init__(self) -> None:
        super().__init__(options=OPTIONS)

    def on(self, disk: SimDisk, clock: ManualClock) -> JournalStore:
        def serve(recovery: Recovery) -> Log:
            return recovery.serve(threaded=False, monotonic=clock.monotonic)

        return JournalStore(disk, self.options, clock=clock, serve=serve)

    def fill(self) -> None:
        """Somebody else takes all that is left."""
        self.disk.room -= self.disk.free()

    def clear(self) -> None:
        """Somebody makes room."""
        self.disk.room += 1 << 30

    async def fill_up(self) -> list[Job]:
        """Enqueue until the store refuses; return what was accepted."""
        accepted: list[Job] = []
        while True:
            try:
                accepted += await self.carried_out(self.add_many(5, payload=PAYLOAD))
            except StoreFull:
                return accepted
            assert len(accepted) < 1_000, "the store never noticed that the disk is full"


async def opened() -> FullHarness:
    h = FullHarness()
    await h.start()
    h.fill()
    return h


@feature("B57")
async def test_a_full_disk_refuses_new_jobs_whole_and_says_so() -> None:
    h = await opened()
    accepted = await h.fill_up()
    assert accepted
    with pytest.raises(StoreFull, match=r"only the reserve is left.*Free some space; the journal goes on by itself"):
        await h.carried_out(h.add_many(5, payload=PAYLOAD))
    assert await h.carried_out(h.store.count(JobFilter())) == len(accepted)
    assert h.store.health is not None
    assert h.store.health.log.state == "full"
    assert h.faults() == []


async def test_on_a_full_disk_claims_settles_and_cancels_go_on_from_the_reserve() -> None:
    h = await opened()
    accepted = await h.fill_up()
    first, second, *rest = [job.id for job in accepted]
    claims = await h.carried_out(h.claim(2))
    assert [claim.id for claim in claims] == [first, second]
    assert (await h.carried_out(h.settle(claims[0], Succeeded(b"1")))).state is State.SUCCEEDED
    assert (await h.carried_out(h.settle(claims[1]))).state is not State.RUNNING
    assert (await h.carried_out(h.order(Cancel(), rest[0]))).done
    await h.carried_out(h.store.rescue())
    await h.reopen_after_kill()
    assert await h.carried_out(h.state(first)) is State.SUCCEEDED
    assert await h.carried_out(h.state(rest[0])) is State.CANCELED


async def test_on_a_full_disk_more_reports_and_copies_of_jobs_are_refused() -> None:
    h = await opened()
    accepted = await h.fill_up()
    claim = await h.carried_out(h.claim_one())
    with pytest.raises(StoreFull):
        await h.carried_out(h.store.progress([Progress(claim, value=PAYLOAD * 10)]))
    await h.carried_out(h.settle(claim, Succeeded(b"1")))
    with pytest.raises(StoreFull):
        await h.carried_out(h.order(Replay(payload=PAYLOAD * 10), accepted[0].id))


async def test_the_state_is_left_by_itself_when_there_is_room_again() -> None:
    h = await opened()
    accepted = await h.fill_up()
    h.clear()
    h.clock.advance(1.1)
    h.log.pump()
    assert h.store.health is not None
    assert h.store.health.ok
    more = [job for _ in range(10) for job in await h.carried_out(h.add_many(5, payload=PAYLOAD))]
    assert await h.carried_out(h.store.count(JobFilter())) == len(accepted) + len(more)


async def test_filling_and_clearing_ten_times_loses_nothing() -> None:
    h = await opened()
    accepted: list[str] = []
    for _ in range(10):
        accepted += [job.id for job in await h.fill_up()]
        for claim in await h.carried_out(h.claim(3)):
            await h.carried_out(h.settle(claim, Succeeded(b"1")))
        h.clear()
        h.clock.advance(1.1)
        h.log.pump()
        await h.reopen_after_kill()
        h.fill()
    assert [job.id for job in await h.carried_out(h.all_jobs())] == accepted
    assert h.faults() == []


async def test_when_the_reserve_is_used_up_even_settling_waits_for_room() -> None:
    h = await opened()
    await h.fill_up()
    with pytest.raises(StoreFull, match="the reserve is used up"):
        await h.carried_out(h.run_all(Succeeded(PAYLOAD * 8)))
    h.clear()
    h.clock.advance(1.1)
    h.log.pump()
    assert len(await h.carried_out(h.claim())) > 0
    assert h.faults() == []
