"""Claims are kept by beats, given up when they are lost, and never outlived."""

import asyncio
import threading

from holdfast.errors import LeaseLost, StoreUnavailable
from holdfast.job.commands import ChangeQueue, QueueWant, Signals, Want
from holdfast.job.model import InstanceState, WorkerConfig
from holdfast.job.state import End, State
from holdfast.worker.context import CancelReason, Context
from tests.features import feature
from tests.worker.cut import CutSource
from tests.worker.rig import LEASE, PATIENCE, Rig

BEAT = LEASE / 3


async def beat(rig: Rig, seconds: float = BEAT) -> None:
    """Let the next beat come, and wait for its answer."""
    before = rig.watch.count("beaten")
    rig.advance(seconds)
    await rig.watch.times("beaten", before + 1)


@feature("GW4", "T19")
async def test_a_long_job_keeps_its_claim_over_many_leases(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def long() -> None:
        rig.watch.note("running")
        await release.wait()

    job_id = await rig.enqueue("long")
    async with rig.working():
        await rig.watch.times("running", 1)
        for _ in range(10):
            await beat(rig)
            assert (await rig.store.rescue()).lost == 0
        release.set()
        [job] = await rig.ended(job_id)
    assert (job.state, job.attempt, job.losses) == (State.SUCCEEDED, 1, 0)


async def test_a_handler_that_blocks_the_loop_past_its_lease_does_not_lose_its_job(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    unblock = threading.Event()
    lost: list[int] = []

    @rig.task
    async def blocks() -> str:
        outside.start()
        unblock.wait(PATIENCE)  # the whole loop stands
        return "still mine"

    def meanwhile() -> None:
        for _ in range(9):  # three leases
            before = source.beats
            rig.advance(BEAT)
            while source.beats == before:
                pass
            lost.append(asyncio.run(rig.store.rescue()).lost)
        unblock.set()

    outside = threading.Thread(target=meanwhile)
    job_id = await rig.enqueue("blocks")
    async with rig.working():
        [job] = await rig.ended(job_id)
    outside.join()
    assert (lost, job.state, job.attempt) == ([0] * 9, State.SUCCEEDED, 1)


async def test_a_claim_that_the_store_gave_to_another_is_cancelled_and_its_outcome_dropped(rig: Rig) -> None:
    reasons: list[CancelReason | None] = []

    @rig.task
    async def slow(ctx: Context) -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(ctx.cancel_reason)
            rig.watch.note("stopped")

    job_id = await rig.enqueue("slow")
    async with rig.working() as worker:
        await rig.watch.times("running", 1)
        rig.store.ledger.index.leases[1] = 0.0  # as if the lease had passed
        await rig.store.rescue()
        other = Want(queues=(QueueWant("default", 1),), limit=1, instance="another")
        # The worker itself may be faster; both are claims with a later token.
        await rig.store.claim(other)
        await beat(rig)
        await rig.watch.times("lost", 1)
        assert worker.counts["lost"] == 1
        await rig.watch.until(lambda: reasons == [CancelReason.LOST])
        assert worker.counts["stale"] == 0
    assert [type(error) for _, failed, error in rig.errors if failed == job_id] == [LeaseLost]


async def test_a_worker_that_can_not_reach_the_store_stops_its_handlers_before_their_leases_end(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    stopped_at: list[float] = []

    @rig.task
    async def slow(ctx: Context) -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            assert ctx.cancel_reason is CancelReason.LOST
            stopped_at.append(rig.clock.monotonic())
            rig.watch.note("stopped")

    job_id = await rig.enqueue("slow")
    async with rig.working():
        await rig.watch.times("running", 1)
        claimed_at = rig.clock.monotonic()
        source.away = True
        while not stopped_at:
            rig.advance(1.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert rig.clock.monotonic() < claimed_at + LEASE, "the handler outlived its lease"
        source.away = False
        while rig.watch.count("running") < 2:  # rescued, or released as unknown: it comes back
            await beat(rig)
    assert (await rig.job(job_id)).attempts[0].end in (End.LOST, End.RELEASED)


async def test_a_confirmed_beat_moves_the_moment_at_which_a_cut_off_worker_stops(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)

    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            rig.watch.note("stopped", rig.clock.monotonic())

    await rig.enqueue("slow")
    async with rig.working():
        await rig.watch.times("running", 1)
        start = rig.clock.monotonic()
        await beat(rig)
        await beat(rig)
        confirmed = rig.clock.monotonic()
        source.away = True
        for _ in range(26):
            rig.advance(1.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not rig.watch.of("stopped")
        while not rig.watch.of("stopped"):
            rig.advance(0.5)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        [stopped] = rig.watch.of("stopped")
        assert start + LEASE < stopped < confirmed + LEASE
        source.away = False


# --- a queue with a lease of its own -------------------------------------------------------------------------------

SHORT = 6.0


async def with_a_short_lease(rig: Rig) -> None:
    await rig.store.change_queue(ChangeQueue(name="default", create=True, rescue_after=SHORT))


async def test_a_job_of_a_queue_whose_lease_is_shorter_than_the_workers_keeps_its_claim(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def long() -> None:
        rig.watch.note("running")
        await release.wait()

    await with_a_short_lease(rig)
    job_id = await rig.enqueue("long")
    async with rig.working():
        await rig.watch.times("running", 1)
        for _ in range(12):
            await beat(rig, SHORT / 3)
            assert (await rig.store.rescue()).lost == 0
        release.set()
        [job] = await rig.ended(job_id)
    assert (job.state, job.attempt, job.losses) == (State.SUCCEEDED, 1, 0)


async def test_a_worker_cut_off_from_the_store_stops_a_handler_before_the_short_lease_of_its_queue_ends(
    rig: Rig,
) -> None:
    source = rig.source = CutSource(rig.store)

    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        try:
            await asyncio.Event().wait()
        finally:
            rig.watch.note("stopped", rig.clock.monotonic())

    await with_a_short_lease(rig)
    await rig.enqueue("slow")
    async with rig.working():
        await rig.watch.times("running", 1)
        source.away = True
        cut_off = rig.clock.monotonic()
        while not rig.watch.of("stopped"):
            rig.advance(0.5)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert rig.clock.monotonic() < cut_off + LEASE
        assert rig.watch.of("stopped")[0] < cut_off + SHORT
        source.away = False


async def test_a_claim_tells_the_lease_of_its_queue_and_nothing_where_it_is_the_workers(rig: Rig) -> None:
    await rig.enqueue("any")
    [plain] = (await rig.store.claim(Want(queues=(QueueWant("default", 1),), limit=1, instance="i"))).items
    await with_a_short_lease(rig)
    await rig.enqueue("any")
    [own] = (await rig.store.claim(Want(queues=(QueueWant("default", 1),), limit=1, instance="i"))).items
    assert (plain.lease, own.lease) == (0.0, SHORT)


async def test_a_claim_whose_answer_was_lost_is_released_unspent_after_a_whole_beat(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    source.lose_answer_of_next_claim = True

    @rig.task
    async def fine(ctx: Context) -> int:
        return ctx.attempt

    job_id = await rig.enqueue("fine")
    async with rig.working():
        await rig.watch.times("error", 1)
        await beat(rig)
        await rig.pass_time(5.0)
        job = await rig.job(job_id)
        assert (job.state, job.attempt) == (State.RUNNING, 1)
        await rig.pass_time(6.0)
        [job] = await rig.ended(job_id)
    assert [attempt.end for attempt in job.attempts] == [End.RELEASED, End.SUCCEEDED]
    assert (job.failures, job.losses, job.releases) == (0, 0, 0)


async def test_the_instance_is_registered_and_shows_what_it_does(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    async with rig.working(queues={"a": 2, "b": "serial"}, worker="mailer", version="1.2") as worker:
        await rig.watch.times("beaten", 2)
        [shown] = await rig.store.instances()
        assert (shown.id, shown.worker, shown.version, shown.state) == (
            worker.instance,
            "mailer",
            "1.2",
            InstanceState.READY,
        )
        assert (shown.queues, shown.tasks, shown.slots, shown.lease) == (("a", "b"), ("fine",), 3, LEASE)
    [gone] = await rig.store.instances()
    assert gone.state is InstanceState.STOPPED
    assert rig.watch.of("moved") == [InstanceState.READY, InstanceState.DRAINING, InstanceState.STOPPED]


async def test_a_drain_asked_through_the_configuration_drains_the_worker(rig: Rig) -> None:
    worker = rig.worker(worker="mailer")
    running = asyncio.ensure_future(worker.run())
    await rig.watch.times("beaten", 2)
    await rig.store.configure_worker(WorkerConfig(name="mailer", drain=True))
    rig.advance(BEAT)
    async with asyncio.timeout(PATIENCE):
        assert await running == 0


async def test_a_worker_that_is_switched_off_claims_nothing_until_it_is_switched_on(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    await rig.store.configure_worker(WorkerConfig(name="mailer", enabled=False))
    job_id = await rig.enqueue("fine")
    async with rig.working(worker="mailer"):
        await beat(rig)
        assert (await rig.job(job_id)).state is State.QUEUED
        await rig.store.configure_worker(WorkerConfig(name="mailer", enabled=True))
        await beat(rig)
        await rig.ended(job_id)


async def test_a_store_that_is_away_is_told_once_and_beats_go_on_when_it_is_back(rig: Rig) -> None:
    source = rig.source = CutSource(rig.store)
    async with rig.working():
        await beat(rig)
        source.away = True
        for _ in range(8):
            rig.advance(2.0)
            await asyncio.sleep(0)
        source.away = False
        await beat(rig)
    kinds = [type(error) for _, job_id, error in rig.errors if job_id is None]
    assert StoreUnavailable in kinds


async def test_rescue_brings_back_what_another_worker_left(rig: Rig) -> None:
    @rig.task
    async def fine(ctx: Context) -> int:
        return ctx.attempt

    job_id = await rig.enqueue("fine")
    await rig.store.claim(Want(queues=(QueueWant("default", 1),), limit=1, lease=5.0, instance="died without a word"))
    async with rig.working():
        rig.advance(6.0)  # the lease, and then the next rescue
        rig.advance(5.0)
        [job] = await rig.ended(job_id)
    assert [attempt.end for attempt in job.attempts] == [End.LOST, End.SUCCEEDED]


async def test_a_claim_that_came_after_the_beat_was_sent_is_not_lost_by_its_answer(rig: Rig) -> None:
    release = asyncio.Event()

    @rig.task
    async def slow() -> None:
        rig.watch.note("running")
        await release.wait()

    async with rig.working() as worker:
        await rig.watch.times("beaten", 2)
        sent = rig.clock.monotonic()
        rig.advance(0.1)
        job_id = await rig.enqueue("slow")
        await rig.watch.times("running", 1)
        rig.advance(0.1)
        worker.beaten(
            Signals(()), sent, rig.clock.monotonic()
        )  # the answer took its time, and knows nothing of the job
        worker.beaten(Signals(()), sent + 0.1, rig.clock.monotonic())
        assert worker.counts["lost"] == 0
        release.set()
        [job] = await rig.ended(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


async def test_beats_go_through_a_connection_of_their_own_where_the_source_has_one(rig: Rig) -> None:
    class Own(CutSource):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    own = Own(rig.store)

    class WithOwn(CutSource):
        def beat_source(self) -> CutSource:
            return own

    source = rig.source = WithOwn(rig.store)
    async with rig.working():
        await beat(rig)
    assert (source.beats, own.closed) == (0, 1)
    assert own.beats >= 3


async def test_an_item_that_comes_back_to_the_worker_that_still_runs_it_ends_the_older_attempt(rig: Rig) -> None:
    reasons: list[CancelReason | None] = []

    @rig.task
    async def slow(ctx: Context) -> int:
        rig.watch.note("running")
        if ctx.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                reasons.append(ctx.cancel_reason)
        return ctx.attempt

    job_id = await rig.enqueue("slow")
    async with rig.working(queues={"default": 2}) as worker:
        await rig.watch.times("running", 1)
        rig.store.ledger.index.leases[1] = 0.0  # as if the lease had passed
        await rig.store.rescue()
        [job] = await rig.ended(job_id)
        await rig.watch.times("lost", 1)
        await rig.watch.times("claimed", 3)
        assert worker.busy == 0
    assert (job.result, reasons) == (b"2", [CancelReason.LOST])
