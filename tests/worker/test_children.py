"""The worker and the process executor: outcomes, reports, middleware, cancel and death of children."""

import asyncio
from typing import Any

import msgspec

from holdfast.job.commands import Cancel, Order, Selection
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.worker.context import Context
from holdfast.worker.program import Executor
from tests.worker.rig import LEASE, PATIENCE, Rig

ONE_TRY = RetryPolicy(max_attempts=1)


def in_child(rig: Rig, *names: str) -> None:
    """Let these tasks of tests/worker_processes/toy.py run in children."""
    for name in names:

        def stands_in() -> None:
            """The child has its own function of this name."""

        stands_in.__name__ = name
        rig.task(executor=Executor.PROCESS)(stands_in)


async def until_told(rig: Rig, job_id: str) -> None:
    """Wait until the job's log has a line: its handler runs in the child."""
    async with asyncio.timeout(PATIENCE):
        while not ((job := await rig.job(job_id)).last and job.last.log):  # noqa: ASYNC110 - the store has no such event
            await asyncio.sleep(0.005)


async def test_a_child_that_dies_fails_only_its_own_job(rig: Rig) -> None:
    in_child(rig, "exits", "doubled")
    dead = await rig.enqueue("exits", {"code": 3}, retry=ONE_TRY)
    alive = await rig.enqueue("doubled", {"number": 21})
    async with rig.working():
        crashed, fine = await rig.ended(dead, alive)
    assert (fine.state, fine.result) == (State.SUCCEEDED, b"42")
    assert crashed.last is not None
    assert (crashed.state, crashed.last.end) == (State.FAILED, End.CRASHED)
    assert "exit code 3" in crashed.error
    assert [job_id for _, job_id, _ in rig.errors] == [dead]


async def test_what_a_child_tells_is_written_with_its_attempt(rig: Rig) -> None:
    in_child(rig, "reports")
    job_id = await rig.enqueue("reports")
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.state is State.SUCCEEDED, job.error
    assert job.last is not None
    assert job.last.progress
    assert job.last.log


async def test_middleware_is_wrapped_around_a_child_too(rig: Rig) -> None:
    seen: list[str] = []

    async def middleware(ctx: Context, call_next: Any) -> object:
        seen.append(ctx.task)
        return await call_next()

    in_child(rig, "doubled")
    job_id = await rig.enqueue("doubled", {"number": 2})
    async with rig.working(middleware=(middleware,)):
        [job] = await rig.ended(job_id)
    assert (job.result, seen) == (b"4", ["doubled"])


async def test_a_cancel_asked_by_a_person_reaches_the_child(rig: Rig) -> None:
    in_child(rig, "waits_and_tells")
    job_id = await rig.enqueue("waits_and_tells")
    async with rig.working():
        await until_told(rig, job_id)
        await rig.store.control(Order(action=Cancel(), selection=Selection(ids=(job_id,))))
        rig.advance(LEASE / 3 + 0.1)
        [job] = await rig.ended(job_id)
    assert job.state is State.CANCELED


async def test_a_drain_gives_the_jobs_of_children_back(rig: Rig) -> None:
    in_child(rig, "sleeps")
    job_id = await rig.enqueue("sleeps")
    worker = rig.worker(cancel_grace=0.0)
    running = asyncio.create_task(worker.run())
    await until_told(rig, job_id)
    worker.stop()
    worker.stop()
    async with asyncio.timeout(PATIENCE):
        assert await running == 0
    job = await rig.job(job_id)
    assert (job.state, job.failures) == (State.QUEUED, 0)


async def test_what_a_child_returns_is_as_good_as_what_a_coroutine_returns(rig: Rig) -> None:
    in_child(rig, "whoami")
    job_id = await rig.enqueue("whoami")
    async with rig.working():
        [job] = await rig.ended(job_id)
    assert job.result is not None
    found = msgspec.json.decode(job.result)
    assert (found["job"], found["token"]) == (job_id, job.last.token if job.last else None)
