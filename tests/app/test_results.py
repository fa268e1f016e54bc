"""Handles: the result of a job, typed; what it says when there is none; steering one job."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast import Context, Holdfast, JobHandle, State, Task, cancel, done, fail, injected, snooze
from holdfast.errors import BadTime, Conflict, JobCanceled, JobFailed, ResultTimeout, UnknownJob
from holdfast.job.outcome import Cancel
from holdfast.testing import ManualClock
from tests.features import feature


@dataclass
class Receipt:
    number: str
    at: datetime


@pytest.fixture
def wait_for(app: Holdfast) -> Task[..., Any]:
    """A task that fails as it is told."""

    @app.task("do", max_attempts=1)
    async def do(what: str) -> str | Cancel:
        if what == "raise":
            raise ValueError("it broke")
        if what == "cancel":
            return cancel("not needed")
        return what

    return do


async def test_a_result_comes_back_as_the_type_that_the_handler_declares(app: Holdfast) -> None:
    @app.task("pay")
    async def pay(number: str) -> Receipt:
        return Receipt(number, datetime(2030, 1, 1, tzinfo=UTC))

    handle = await pay.enqueue("o-1")
    await app.work_once()
    assert await handle.result(timeout="1s") == Receipt("o-1", datetime(2030, 1, 1, tzinfo=UTC))


async def test_a_result_that_breaks_its_own_annotation_comes_back_as_it_is(app: Holdfast) -> None:
    @app.task("liar")
    async def liar() -> int:
        return "text"  # type: ignore[return-value]

    @app.task("quiet")
    async def quiet() -> int:
        return done()  # type: ignore[return-value]

    handles: list[JobHandle[Any]] = [await liar.enqueue(), await quiet.enqueue()]
    await app.work_once()
    assert [await handle.result(1) for handle in handles] == ["text", None]


async def test_whoever_waits_is_woken_when_the_job_ends(app: Holdfast, wait_for: Task[..., Any]) -> None:
    handle = await wait_for.enqueue("fine")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(handle.result(timeout="1h"))
        async with app.worker():
            await waiting
    assert waiting.result() == "fine"


async def test_a_failed_job_raises_its_last_error(app: Holdfast, wait_for: Task[..., Any]) -> None:
    handle = await wait_for.enqueue("raise")
    await app.work_once()
    with pytest.raises(JobFailed, match=r"^job .* failed: it broke$") as caught:
        await handle.result(1)
    assert (caught.value.job_id, caught.value.state, caught.value.error) == (handle.id, "failed", "it broke")


async def test_a_canceled_job_raises_with_its_reason(app: Holdfast, wait_for: Task[..., Any]) -> None:
    by_itself, by_person = await wait_for.enqueue("cancel"), await wait_for.using(delay="1h").enqueue("x")
    await app.work_once()
    await by_person.cancel("changed my mind", who="ada")
    with pytest.raises(JobCanceled, match="canceled: not needed"):
        await by_itself.result(1)
    with pytest.raises(JobCanceled, match="canceled"):
        await by_person.result(1)


async def test_a_wait_that_ends_says_where_the_job_is_and_that_it_goes_on(
    app: Holdfast, wait_for: Task[..., Any]
) -> None:
    handle = await wait_for.using(delay="1h").enqueue("x")
    with pytest.raises(
        ResultTimeout, match=r"job .* scheduled: not ended within 0 s. It goes on: wait longer, or look"
    ):
        await handle.result(timeout=0)
    with pytest.raises(BadTime, match="timeout: expected a timedelta"):
        await handle.result(timeout="later")


async def test_one_job_is_canceled_and_retried_by_its_handle(app: Holdfast, wait_for: Task[..., Any]) -> None:
    handle = await wait_for.enqueue("fine")
    await handle.cancel()
    assert (await handle.get()).state is State.CANCELED
    with pytest.raises(Conflict):
        await handle.cancel()
    await handle.retry(who="ada")
    assert (await handle.get()).state is State.QUEUED
    with pytest.raises(Conflict):
        await handle.retry()


async def test_a_purged_job_is_unknown(app: Holdfast, wait_for: Task[..., Any]) -> None:
    handle = await wait_for.enqueue("fine")
    await app.work_once()
    await app.jobs.delete(handle.id, hard=True)
    with pytest.raises(UnknownJob, match="it was never enqueued here, or retention has purged it"):
        await handle.get()
    with pytest.raises(UnknownJob):
        await handle.result(1)


@feature("G8", "G10", "A2")
async def test_a_job_that_snoozes_three_times_keeps_its_count_and_then_is_done(
    app: Holdfast, clock: ManualClock
) -> None:
    seen: list[dict[str, Any]] = []

    @app.task("count")
    async def count(*, ctx: Context = injected) -> Any:
        data = await app.jobs.get(ctx.id)
        seen.append({"data": data.data, "snoozes": data.snoozes})
        if data.snoozes < 3:
            return snooze("5m", update={"count": data.snoozes + 1})
        return done("ready", update={"finished": True})

    handle = await count.enqueue()
    for _ in range(4):
        assert (await app.work_once()).total == 1
        assert (await app.work_once()).empty, "not before its time"
        clock.advance(300)
    job = await handle.get()
    assert [one["data"] for one in seen] == [b"", b'{"count":1}', b'{"count":2}', b'{"count":3}']
    assert job.state is State.SUCCEEDED
    assert job.data == b'{"count":3,"finished":true}'
    assert (job.failures, job.snoozes, await handle.result(1)) == (0, 3, "ready")


async def test_fail_ends_a_job_at_once(app: Holdfast) -> None:
    @app.task("give.up")
    async def give_up() -> Any:
        return fail("no such account")

    handle = await give_up.enqueue()
    await app.work_once()
    with pytest.raises(JobFailed, match="no such account"):
        await handle.result(1)
    assert (await handle.get()).attempt == 1


async def test_the_words_of_who_canceled_a_running_job_reach_who_waits_for_it(app: Holdfast) -> None:
    running = asyncio.Event()

    @app.task
    async def forever() -> None:
        running.set()
        await asyncio.Event().wait()

    async with app.worker(lease=0.3):
        handle = await forever.enqueue()
        await running.wait()
        await handle.cancel("changed my mind", who="ada")
        with pytest.raises(JobCanceled, match="canceled: changed my mind"):
            await handle.result(timeout=60)


async def test_an_update_that_is_no_dict_fails_the_attempt_with_a_word_about_it(app: Holdfast) -> None:
    wrong: Any = 5

    @app.task(max_attempts=1)
    async def reports() -> object:
        return done(1, update=wrong)

    async with app.worker():
        with pytest.raises(JobFailed, match="update: expected a dict to merge into the job's data, found 5"):
            await (await reports.enqueue()).result(timeout=60)
