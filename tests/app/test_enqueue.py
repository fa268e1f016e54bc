"""Enqueue: stored when it returns, placed as asked, refused with a reason."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast import Holdfast, State, Task
from holdfast.errors import (
    BadArguments,
    BadTime,
    ConfigError,
    ContentError,
    DuplicateJob,
    StoreClosed,
    TaskInactive,
    TooLarge,
    UnknownTask,
    UsageError,
)
from holdfast.job.commands import Define, Enqueued, Verdict
from holdfast.job.model import FreshJob, NewJob, OnWait
from holdfast.stores.memory import MemoryStore
from holdfast.testing import ManualClock
from tests.features import feature


class CountingStore(MemoryStore):
    """A store that remembers how many jobs each enqueue stored."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.batches: list[int] = []

    async def enqueue(self, jobs: Any, **options: Any) -> list[Enqueued]:
        answers = await super().enqueue(jobs, **options)
        self.batches.append(len(answers))
        return answers


@pytest.fixture
def store(clock: ManualClock) -> CountingStore:
    return CountingStore(clock=clock)


@pytest.fixture
async def counted(store: CountingStore, clock: ManualClock) -> Any:
    async with Holdfast(store=store, clock=clock) as app:
        yield app


@pytest.fixture
def send(app: Holdfast) -> Task[..., Any]:
    @app.task("mail.send", queue="mail", max_attempts=4, priority=2, timeout="9s")
    async def send(user: int, lang: str = "en") -> None: ...

    return send


@feature("T10")
async def test_an_enqueued_job_is_stored_with_the_policy_of_its_task(app: Holdfast, send: Task[..., Any]) -> None:
    handle = await send.enqueue(42, lang="de")
    job = await handle.get()
    assert handle.created
    assert (job.task, job.queue, job.payload) == ("mail.send", "mail", b'{"user":42,"lang":"de"}')
    assert (job.state, job.priority, job.retry.max_attempts) == (State.QUEUED, 2, 4)
    assert job.timeout is None, "the worker's task decides, unless this job has its own"


async def test_using_places_one_enqueue_and_leaves_the_task_as_it_is(
    app: Holdfast, clock: ManualClock, send: Task[..., Any]
) -> None:
    view = send.using(
        delay="10m",
        priority=-3,
        queue="slow",
        key="user:42",
        id="mine-1",
        tags=["vip", "eu"],
        headers={"trace": "abc"},
        timeout="1m",
        max_attempts=9,
        on_wait="pass",
    )
    job = await (await view.enqueue(42)).get()
    assert (job.id, job.state, job.run_at) == ("mine-1", State.SCHEDULED, clock.now() + 600)
    assert (job.priority, job.queue, job.key, job.tags) == (-3, "slow", "user:42", ("vip", "eu"))
    assert (job.headers, job.timeout, job.retry.max_attempts) == (b'{"trace":"abc"}', 60.0, 9)
    assert job.on_wait is OnWait.PASS
    plain = await (await send.enqueue(1)).get()
    assert (plain.queue, plain.key, plain.tags, plain.state) == ("mail", None, (), State.QUEUED)


async def test_views_add_up(app: Holdfast, clock: ManualClock, send: Task[..., Any]) -> None:
    when = datetime.fromtimestamp(clock.now() + 60, UTC)
    job = await (await send.using(key="k").using(run_at=when, tags=["a"]).enqueue(1)).get()
    assert (job.key, job.run_at, job.tags) == ("k", when.timestamp(), ("a",))


async def test_a_unique_job_comes_back_instead_of_a_second_one(app: Holdfast, send: Task[..., Any]) -> None:
    first = await send.using(unique="welcome:42", on_conflict="keep").enqueue(42)
    again = await send.using(unique="welcome:42", on_conflict="keep").enqueue(42)
    assert (again.id, again.created, again.verdict) == (first.id, False, Verdict.KEPT)
    sooner = await send.using(unique="welcome:42", on_conflict="replace", delay=5).enqueue(43)
    assert sooner.verdict is Verdict.REPLACED
    assert (await sooner.get()).payload == b'{"user":43}'
    with pytest.raises(DuplicateJob, match="Use another id or unique key, or choose a conflict action"):
        await send.using(unique="welcome:42").enqueue(42)


async def test_a_unique_window_ends(app: Holdfast, clock: ManualClock, send: Task[..., Any]) -> None:
    view = send.using(unique="daily", unique_for="1d", on_conflict="keep")
    first = await view.enqueue(1)
    await first.cancel()
    assert (await view.enqueue(1)).id == first.id
    clock.advance(86_401)
    assert (await view.enqueue(1)).id != first.id


async def test_an_id_of_your_own_is_taken_once(app: Holdfast, send: Task[..., Any]) -> None:
    await send.using(id="o-1").enqueue(1)
    with pytest.raises(DuplicateJob, match="already taken: 'o-1'"):
        await send.using(id="o-1").enqueue(2)
    told = await send.using(id="o-1", on_duplicate="report").enqueue(2)
    assert (told.id, told.verdict) == ("o-1", Verdict.DUPLICATE)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"delay": "soon"}, BadTime, "delay: expected a timedelta, a number of seconds, or a text like"),
        ({"delay": -1}, BadTime, "delay: expected 0 or more seconds"),
        ({"run_at": datetime(2030, 1, 1)}, BadTime, "run_at: expected a datetime with a time zone"),  # noqa: DTZ001 - without a zone, on purpose
        ({"run_at": timedelta(hours=1)}, BadTime, "For a wait from now use delay="),
        ({"delay": 1, "run_at": 1}, BadTime, "expected delay= or run_at=, found both. Leave one out."),
        ({"priority": 200}, ContentError, "priority: expected a whole number from -100 to 100"),
        ({"queue": "a b"}, ConfigError, "queue: expected 1 to 100 letters"),
        ({"key": ""}, ContentError, "key: expected text of 1 to 512 characters"),
        ({"unique": "\x00"}, ContentError, "unique: expected text of 1 to 512 characters"),
        (
            {"unique_for": "1d"},
            ContentError,
            "unique_for= and on_conflict= need unique=, found none. Name what must be unique",
        ),
        ({"unique": "u", "unique_for": 0}, BadTime, "unique_for: expected more than 0"),
        (
            {"unique": "u", "on_conflict": "maybe"},
            ConfigError,
            "on_conflict: expected one of 'error', 'keep', 'replace'",
        ),
        ({"on_duplicate": "ignore"}, ConfigError, "on_duplicate: expected one of 'raise', 'report'"),
        ({"id": 5}, ContentError, "id: expected text of 1 to 128 characters"),
        ({"tags": ["t"] * 3 + [""]}, ContentError, "tag: expected text of 1 to 100 characters"),
        ({"headers": ["a"]}, ContentError, "headers: expected a dict with text keys"),
        ({"headers": {"a": float("nan")}}, ContentError, r"headers: at \$.a: expected a finite number"),
        ({"headers": {"a": "x" * 70_000}}, TooLarge, "headers: expected at most 65,536 bytes"),
        ({"timeout": "0s"}, BadTime, "timeout: expected more than 0"),
        ({"max_attempts": 0}, ConfigError, "max_attempts: expected a whole number from 1"),
        ({"dealy": "1s"}, ContentError, "unknown option 'dealy'. Expected some of delay, run_at, priority"),
    ],
    ids=range(21),
)
def test_a_wrong_option_is_refused_before_anything_is_stored(
    send: Task[..., Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        send.using(**options)


# --- many ----------------------------------------------------------------------------------------------------------


async def test_many_jobs_are_one_batch_in_their_order(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("count")
    async def count(n: int, *, of: int = 0) -> None: ...

    handles = await count.enqueue_many([(1,), {"n": 2, "of": 9}, count.args(3, of=8)])
    assert [handle.enqueued.job.payload for handle in handles] == [b'{"n":1}', b'{"n":2,"of":9}', b'{"n":3,"of":8}']
    assert (store.batches, handles.pieces) == ([3], 1)
    assert await count.enqueue_many([]) == []


async def test_one_bad_item_stores_nothing_of_the_batch(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("count")
    async def count(n: int) -> None: ...

    with pytest.raises(BadArguments, match="argument 'n': expected int, got str"):
        await count.enqueue_many([(1,), ("two",)])
    with pytest.raises(
        BadArguments,
        match=r"expected a tuple \(by place\), a dict .* found 5 \(int\). For one argument write \(value,\)",
    ):
        await count.enqueue_many([5])  # type: ignore[list-item]
    with pytest.raises(
        ContentError, match=r"id: expected one job for an id of your own, found 2. Enqueue them one by one"
    ):
        await count.using(id="o").enqueue_many([(1,), (2,)])
    assert store.batches == []


async def test_longer_input_is_cut_and_says_so(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("count")
    async def count(n: int) -> None: ...

    handles = await count.enqueue_many((n,) for n in range(10_001))
    assert (len(handles), handles.pieces, store.batches) == (10_001, 2, [10_000, 1])


async def test_large_input_is_cut_by_its_bytes(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("text")
    async def text(body: str) -> None: ...

    handles = await text.enqueue_many([("x" * 1_000_000,)] * 9)
    assert (handles.pieces, store.batches) == (2, [8, 1])


async def test_an_atomic_batch_is_refused_instead_of_cut(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("count")
    async def count(n: int, body: str = "") -> None: ...

    with pytest.raises(
        TooLarge, match=r"an atomic batch: expected at most 10,000 jobs, found 10,001. Nothing was stored"
    ):
        await count.enqueue_many([(n,) for n in range(10_001)], atomic=True)
    with pytest.raises(TooLarge, match="an atomic batch: expected at most 8,388,608 bytes of payload, found 9,000"):
        await count.enqueue_many([(1, "x" * 1_000_000)] * 9, atomic=True)
    assert store.batches == []


async def test_a_failure_in_a_later_piece_says_what_was_stored(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("count")
    async def count(n: int) -> None: ...

    await count.enqueue(0)
    enqueue = store.enqueue

    async def fail_second(jobs: Any, **options: Any) -> list[Enqueued]:
        if len(jobs) == 1:
            raise StoreClosed("closed for the test")
        return await enqueue(jobs, **options)

    store.enqueue = fail_second  # type: ignore[method-assign]
    with pytest.raises(StoreClosed) as caught:
        await count.enqueue_many((n,) for n in range(10_001))
    assert caught.value.__notes__ == ["Batches 1 to 1 of 2 were stored before: 10,000 jobs."]


async def test_concurrent_enqueues_share_one_write(counted: Holdfast, store: CountingStore) -> None:
    @counted.task("count")
    async def count(n: int) -> None: ...

    await count.enqueue(0)
    store.batches.clear()
    handles = await asyncio.gather(*(count.enqueue(n) for n in range(100)))
    assert store.batches == [100]
    assert [handle.enqueued.job.payload for handle in handles] == [b'{"n":%d}' % n for n in range(100)]


async def test_one_refused_job_does_not_harm_those_that_share_its_write(
    counted: Holdfast, store: CountingStore
) -> None:
    @counted.task("count")
    async def count(n: int) -> None: ...

    await count.using(unique="u").enqueue(0)
    calls = [count.enqueue(1), count.using(unique="u").enqueue(2), count.enqueue(3)]
    first, second, third = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(second, DuplicateJob)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert await counted.jobs.count() == 3


# --- by name, definitions, hooks -----------------------------------------------------------------------------------


@feature("T6", "T25")
async def test_a_task_is_made_known_at_its_first_enqueue(app: Holdfast, send: Task[..., Any]) -> None:
    assert await app.definitions.list() == []
    await send.enqueue(1)
    [definition] = await app.definitions.list()
    assert (definition.alias, definition.queue, definition.timeout) == ("mail.send", "mail", 9.0)


@feature("T10")
async def test_a_task_is_enqueued_by_name_with_checked_arguments(app: Holdfast, send: Task[..., Any]) -> None:
    handle = await app.enqueue("mail.send", {"user": 42}, delay="1m", tags=["x"])
    job = await handle.get()
    assert (job.queue, job.payload, job.tags, job.state) == ("mail", b'{"user":42}', ("x",), State.SCHEDULED)
    with pytest.raises(BadArguments, match="argument 'user': expected int, got str"):
        await app.enqueue("mail.send", {"user": "x"})
    with pytest.raises(BadArguments, match="missing argument 'user'"):
        await app.enqueue("mail.send")


@feature("T10")
async def test_a_task_whose_code_is_elsewhere_is_enqueued_by_its_definition(
    app: Holdfast, send: Task[..., Any]
) -> None:
    store = await app.open()
    await store.define([msgspec.structs.replace(send.definition(), alias="elsewhere", queue="far")])
    job = await (await app.enqueue("elsewhere", {"user": 1})).get()
    assert (job.task, job.queue, job.retry.max_attempts) == ("elsewhere", "far", 4)
    with pytest.raises(
        BadArguments, match=r"task 'elsewhere': missing argument 'user'. Expected the arguments user, lang"
    ):
        await app.enqueue("elsewhere", {"lang": "de"})
    with pytest.raises(BadArguments, match=r"task 'elsewhere': unknown argument 'usr' \(did you mean 'user'"):
        await app.enqueue("elsewhere", {"user": 1, "usr": 2})
    with pytest.raises(BadArguments, match="task 'elsewhere': argument 'user': expected int, got str"):
        await app.enqueue("elsewhere", {"user": "1"})
    assert await app.jobs.count() == 1


@feature("T10")
async def test_an_unknown_task_is_refused_with_near_names(app: Holdfast, send: Task[..., Any]) -> None:
    await (await app.open()).define([Define(alias="report.daily")])
    with pytest.raises(UnknownTask, match=r"unknown task 'mail.sent': .*\(known: mail.send\). Check the spelling"):
        await app.enqueue("mail.sent", {})
    with pytest.raises(UnknownTask, match=r"\(known: report.daily\)"):
        await app.enqueue("report.dayly", {})
    with pytest.raises(UnknownTask, match=r"\(known: mail.send, report.daily\)"):
        await app.enqueue("zzz", {})


async def test_what_is_known_of_a_task_elsewhere_is_asked_again_after_five_seconds(
    app: Holdfast, clock: ManualClock
) -> None:
    store = await app.open()
    await store.define([Define(alias="elsewhere", queue="old")])
    queues = []
    for wait in (0, 4, 2):
        clock.advance(wait)
        queues.append((await (await app.enqueue("elsewhere", {})).get()).queue)
        await store.define([Define(alias="elsewhere", queue="new")])
    assert queues == ["old", "old", "new"]


async def test_a_deleted_task_takes_no_jobs(app: Holdfast) -> None:
    await app.definitions.create("elsewhere")
    await app.definitions.delete("elsewhere")
    with pytest.raises(TaskInactive, match=r"task 'elsewhere' is deleted: expected an active definition. Restore it"):
        await app.enqueue("elsewhere", {})


@feature("T4")
async def test_a_canceled_task_takes_no_jobs_until_it_is_activated(app: Holdfast, send: Task[..., Any]) -> None:
    await send.enqueue(1)
    await app.definitions.cancel("mail.send")
    with pytest.raises(TaskInactive, match=r"task 'mail.send' is canceled"):
        await send.enqueue(2)
    await app.definitions.activate("mail.send")
    await send.enqueue(3)


async def test_every_job_passes_the_enqueue_hooks_sync_and_async(app: Holdfast, send: Task[..., Any]) -> None:
    @app.on_enqueue
    def tag(job: NewJob) -> NewJob:
        return msgspec.structs.replace(job, tags=(*job.tags, "hooked"))

    @app.on_enqueue
    async def move(job: NewJob) -> NewJob:
        return msgspec.structs.replace(job, queue="moved")

    jobs = [(await send.enqueue(1)), *(await send.enqueue_many([(2,)])), (await app.enqueue("mail.send", {"user": 3}))]
    assert [(handle.enqueued.job.tags, handle.enqueued.job.queue) for handle in jobs] == [(("hooked",), "moved")] * 3


async def test_a_hook_that_forgets_the_job_is_told_to_return_it(app: Holdfast, send: Task[..., Any]) -> None:
    @app.on_enqueue
    def forgetful(job: NewJob) -> None: ...

    with pytest.raises(
        UsageError, match=r"on_enqueue: expected .*forgetful to return the job, found NoneType. Return it"
    ):
        await send.enqueue(1)


@pytest.mark.parametrize("arguments", [[1], "x", 5, {1: 2}])
async def test_arguments_by_name_that_are_no_dict_are_shown_with_what_is_expected(
    app: Holdfast, arguments: Any
) -> None:
    @app.task("one")
    async def one(a: int) -> None: ...

    with pytest.raises(
        BadArguments, match=r"task 'one': expected a dict of arguments by name \(text\), found .*one\(a: int\)"
    ):
        await app.enqueue("one", arguments)


@pytest.mark.parametrize("alias", [5, None])
async def test_an_alias_that_is_no_text_is_an_unknown_task(app: Holdfast, alias: Any) -> None:
    with pytest.raises(UnknownTask, match="unknown task"):
        await app.enqueue(alias, {})


@pytest.mark.parametrize("wrong", [5, None, "ab", b"ab", {"a": 1}])
async def test_items_that_are_no_collection_of_jobs_are_refused_with_the_right_form(
    app: Holdfast, wrong: object
) -> None:
    @app.task
    async def one(text: str) -> None: ...

    with pytest.raises(UsageError, match=f"expected a list of items .*found {type(wrong).__name__}. For one job use"):
        await one.enqueue_many(wrong)  # type: ignore[arg-type]
    assert await app.jobs.count() == 0


async def test_only_who_made_an_id_for_this_enqueue_may_call_it_fresh(counted: Holdfast, store: CountingStore) -> None:
    """A hook may keep the job and enqueue it again, so may who asks for the job: then a store must look for the id."""
    kinds: list[type[NewJob]] = []
    enqueue = store.enqueue

    async def noting(jobs: Any, **options: Any) -> list[Enqueued]:
        kept = list(jobs)
        kinds.extend(map(type, kept))
        return await enqueue(kept, **options)

    store.enqueue = noting  # type: ignore[method-assign]

    @counted.task("count")
    async def count(n: int) -> None: ...

    await count.enqueue(1)
    await count.using(id="mine").enqueue(2)
    assert type(count.job(3)) is NewJob
    counted.on_enqueue(lambda job: job)
    await count.enqueue(4)
    assert kinds == [FreshJob, NewJob, NewJob]
