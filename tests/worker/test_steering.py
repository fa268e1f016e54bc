"""A worker takes over what people change of its configuration while it runs."""

import asyncio

from holdfast.job.model import InstanceState, QueueShare, WorkerConfig
from holdfast.job.state import State
from tests.features import feature
from tests.worker.rig import Rig


async def beat(rig: Rig) -> None:
    """Let a beat be sent and answered."""
    count = rig.watch.count("beaten")
    rig.advance(10.0)
    await rig.watch.times("beaten", count + 1)
    await asyncio.sleep(0)


async def say(rig: Rig, *shares: QueueShare) -> None:
    """Configure the worker, and let it hear of it."""
    await rig.store.configure_worker(WorkerConfig(name="mailer", queues=shares))
    await beat(rig)


@feature("H11", "HW9", "HW10")
async def test_a_worker_is_known_from_its_first_beat_on(rig: Rig) -> None:
    async with rig.working(worker="mailer"):
        await rig.watch.times("beaten", 1)
        assert [config.name for config in await rig.store.workers()] == ["mailer"]
    assert [config.name for config in await rig.store.workers()] == ["mailer"]


@feature("H11", "HW9")
async def test_more_slots_are_filled_and_fewer_count_as_jobs_end(rig: Rig) -> None:
    running: dict[str, asyncio.Event] = {}

    @rig.task
    async def wait(name: str) -> None:
        running[name] = rig.gate()
        await running[name].wait()

    jobs = [await rig.enqueue("wait", {"name": f"n{number}"}) for number in range(6)]
    async with rig.working(worker="mailer", queues={"default": 1}) as worker:
        await rig.watch.times("started", 1)
        assert worker.busy == 1
        await say(rig, QueueShare(name="default", concurrency=3))
        await rig.watch.times("started", 3)
        assert worker.busy == 3
        [shown] = await rig.store.instances()
        await say(rig, QueueShare(name="default", concurrency=1))
        for name in ("n0", "n1"):
            running[name].set()
        await rig.ended(jobs[0], jobs[1])
        assert (worker.busy, rig.watch.count("started")) == (1, 3)
        running["n2"].set()
        await rig.watch.times("started", 4)
        await beat(rig)
        [shown] = await rig.store.instances()
        assert (shown.slots, shown.queues, shown.state) == (1, ("default",), InstanceState.READY)
        await say(rig)  # as it was started
        assert worker.busy == 1


@feature("H11", "HW9")
async def test_a_queue_is_taken_up_and_another_is_left(rig: Rig) -> None:
    @rig.task
    async def fine() -> None: ...

    async with rig.working(worker="mailer", queues={"a": 2}):
        await rig.ended(await rig.enqueue("fine", queue="a"))
        await say(rig, QueueShare(name="b", concurrency=2, weight=5))
        await rig.ended(await rig.enqueue("fine", queue="b"))
        left = await rig.enqueue("fine", queue="a")
        await beat(rig)
        assert (await rig.job(left)).state is State.QUEUED
        [shown] = await rig.store.instances()
        assert (shown.queues, shown.slots) == (("b",), 2)
        await say(rig)
        await rig.ended(left)
