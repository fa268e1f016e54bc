"""`app.jobs`, `app.queues`, `app.definitions`: what they do is the store's; that they ask for it right is shown here."""

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast import Holdfast, State, Task
from holdfast.errors import BadTime, ConfigError, Conflict, UnknownJob, UnknownQueue, UnknownTask, UsageError
from holdfast.job.model import QueueMode
from holdfast.testing import ManualClock
from tests.features import feature


@pytest.fixture
def work(app: Holdfast) -> Task[..., Any]:
    @app.task("work", queue="mail", max_attempts=1)
    async def work(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        return n

    return work


@feature("T26")
async def test_jobs_are_found_by_what_they_are(app: Holdfast, clock: ManualClock, work: Task[..., Any]) -> None:
    first = await work.using(key="k", tags=["vip"]).enqueue(1)
    clock.advance(10)
    second = await work.using(queue="other", delay="1h").enqueue(2)
    assert (await app.jobs.get(first.id)).id == first.id
    assert [job.id for job in (await app.jobs.list()).items] == [second.id, first.id]
    assert await app.jobs.count(queue="mail", states=["queued"], key="k", tag="vip", task="work") == 1
    assert await app.jobs.count(states=State.SCHEDULED) == 1
    moment = datetime.fromtimestamp(clock.now() - 5, UTC)
    assert [job.id for job in (await app.jobs.list(created_after=moment)).items] == [second.id]
    page = await app.jobs.list(limit=1, newest_first=False)
    assert [job.id for job in page.items] == [first.id]
    assert [job.id for job in (await app.jobs.list(limit=1, newest_first=False, cursor=page.cursor)).items] == [
        second.id
    ]
    with pytest.raises(UnknownJob):
        await app.jobs.get("nobody")


@feature("T26")
async def test_a_wrong_filter_says_what_is_known(app: Holdfast) -> None:
    with pytest.raises(ConfigError, match=r"filter: unknown field 'quue'. Expected some of states, id, queue, task"):
        await app.jobs.count(quue="mail")  # type: ignore[call-arg]
    with pytest.raises(
        ConfigError, match=r"filter: Invalid enum value 'pending' .*States are scheduled, queued, running"
    ):
        await app.jobs.count(states=["pending"])
    with pytest.raises(BadTime, match="created_after: expected a datetime with a time zone"):
        await app.jobs.list(created_after=datetime(2030, 1, 1))  # noqa: DTZ001 - without a zone, on purpose


@feature("A30")
async def test_jobs_are_held_let_go_hurried_edited_and_canceled(
    app: Holdfast, clock: ManualClock, work: Task[..., Any]
) -> None:
    ids = [(await work.using(delay="1h").enqueue(n)).id for n in range(3)]
    held = await app.jobs.pause(*ids, who="ada")
    assert (held.done, [ruling.done for ruling in held.rulings]) == (3, [True] * 3)
    assert await app.jobs.count(states=[State.PAUSED]) == 3
    await app.jobs.resume(where={"states": [State.PAUSED]}, who="ada")
    await app.jobs.edit(ids[0], priority=9, queue="fast", arguments={"n": 7}, who="ada")
    await app.jobs.run_now(ids[0])
    job = await app.jobs.get(ids[0])
    assert (job.state, job.priority, job.queue, job.payload) == (State.QUEUED, 9, "fast", b'{"n":7}')
    await app.jobs.edit(ids[1], run_at=datetime.fromtimestamp(clock.now() + 5, UTC))
    assert (await app.jobs.get(ids[1])).run_at == clock.now() + 5
    counted = await app.jobs.cancel(where={"queue": "mail"}, why="spring cleaning", preview=True)
    assert (counted.matched, await app.jobs.count(states=[State.CANCELED])) == (2, 0)
    await app.jobs.cancel(where={"queue": "mail"}, why="spring cleaning", who="ada")
    assert await app.jobs.count(states=[State.CANCELED]) == 2
    assert (await app.jobs.stats()).total(State.CANCELED) == 2
    assert [operation.who for operation in await app.jobs.operations()][:1] == ["ada"]


@feature("G20", "T33")
async def test_ended_jobs_are_retried_replayed_and_deleted(app: Holdfast, work: Task[..., Any]) -> None:
    handle = await work.enqueue(-1)
    await app.work_once()
    assert (await app.jobs.retry(handle.id)).done == 1
    await app.work_once()
    made = (await app.jobs.replay(handle.id, arguments={"n": 5}, queue="again")).rulings[0].made
    assert (await app.jobs.get(made)).payload == b'{"n":5}'
    refused = await app.jobs.replay(handle.id)
    assert (refused.done, refused.refused) == (0, 1)
    assert (await app.jobs.replay(handle.id, force=True)).done == 1
    misfit = await app.jobs.replay(handle.id, arguments={"m": 5}, force=True)
    assert (misfit.done, "unknown argument 'm'" in misfit.rulings[0].why) == (0, True)
    await app.jobs.delete(handle.id)
    assert handle.id not in [job.id for job in (await app.jobs.list()).items]


async def test_an_action_for_nobody_or_for_two_selections_is_refused(app: Holdfast) -> None:
    with pytest.raises(UsageError, match=r"expected ids or where=, found neither. To mean every job write where=\{\}"):
        await app.jobs.cancel()
    with pytest.raises(UsageError, match="expected ids or where=, found both"):
        await app.jobs.retry("x", where={"queue": "mail"})
    assert (await app.jobs.cancel(where={})).matched == 0


@feature("T13", "T20")
async def test_queues_are_paused_limited_and_cleared(app: Holdfast, work: Task[..., Any]) -> None:
    await work.enqueue(1)
    assert (await app.queues.pause("mail", why="holiday", who="ada")).paused_by == "ada"
    assert (await app.work_once()).empty
    assert (await app.queues.limit("mail", 3)).limit == 3
    assert (await app.queues.mode("mail", "serial")).mode is QueueMode.SERIAL
    kept = await app.queues.keep("mail", succeeded="1h", failed=None)
    assert (kept.keep_succeeded, kept.keep_failed, kept.keep_succeeded_count) == (3_600.0, None, 10_000)
    assert (await app.queues.clear("mail", why="new start", preview=True)).matched == 1
    assert (await app.queues.clear("mail", why="new start")).done == 1
    assert not (await app.queues.resume("mail")).paused
    await app.queues.delete("mail")
    assert [queue.name for queue in await app.queues.list()] == []


async def test_a_wrong_change_of_a_queue_is_refused_with_what_to_do(app: Holdfast) -> None:
    for change in (
        app.queues.pause("none"),
        app.queues.limit("none", 1),
        app.queues.clear("none"),
        app.queues.get("none"),
    ):
        with pytest.raises(UnknownQueue, match="a queue comes into being when a job is first enqueued"):
            await change
    assert (await app.queues.limit("new", 5, create=True)).limit == 5
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(
            ConfigError, match=r"limit: expected a whole number from 1, or None, .* To stop a queue, pause it"
        ):
            await app.queues.limit("new", wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="mode: expected one of 'concurrent', 'serial', found 'parallel'"):
        await app.queues.mode("new", "parallel")
    with pytest.raises(BadTime, match="keep: expected a timedelta"):
        await app.queues.keep("new", succeeded="long")
    with pytest.raises(ConfigError, match="queue: expected 1 to 100 letters"):
        await app.queues.pause("a b", create=True)


@feature("T3", "T4")
async def test_definitions_are_made_edited_switched_and_hidden(app: Holdfast, work: Task[..., Any]) -> None:
    handle = await work.enqueue(1)
    made = await app.definitions.create("elsewhere", title="Far", memo="by hand")
    assert (await app.definitions.get(made.id)).alias == "elsewhere"
    with pytest.raises(Conflict):
        await app.definitions.create("elsewhere")
    edited = await app.definitions.edit("elsewhere", new_alias="near", title="Near", who="ada")
    assert (edited.alias, edited.title, edited.memo) == ("near", "Near", "by hand")
    await app.definitions.cancel("work", who="ada")
    assert (await handle.get()).state is State.PAUSED
    await app.definitions.activate("work")
    assert (await handle.get()).state is State.QUEUED
    await app.definitions.delete("near")
    assert [one.alias for one in await app.definitions.list()] == ["work"]
    assert [one.alias for one in await app.definitions.list(deleted=True)] == ["near", "work"]
    await app.definitions.restore("near")
    assert len(await app.definitions.list()) == 2
    with pytest.raises(UnknownTask):
        await app.definitions.get("nobody")
    with pytest.raises(ConfigError, match="new_alias: expected 1 to 100"):
        await app.definitions.edit("near", new_alias="a b")
    for wrong, found in (({"titel": "x"}, "'titel'"), ({"status": "canceled"}, "'status'"), ({}, "none")):
        with pytest.raises(UsageError, match=f"expected some of new_alias, title, description, memo, found {found}"):
            await app.definitions.edit("near", **wrong)
    await app.definitions.delete("near")
    with pytest.raises(Conflict, match="'near' is taken by a deleted task: choose another, or restore"):
        await app.definitions.create("near")
    with pytest.raises(Conflict, match="'near' is taken by a deleted task"):
        await app.definitions.edit("work", new_alias="near")
