"""Rows as a history shows jobs: read one by one, listed in pages, counted, added up; alone, and beside a store's jobs."""

import uuid
from datetime import date

import pytest
from sqlalchemy import Date, String, Uuid
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from holdfast.clock import ManualClock
from holdfast.errors import Conflict, ContentError, UnknownJob
from holdfast.histories.ledger import LedgerJobs
from holdfast.history import AttemptFilter, JobFilter, Page
from holdfast.job.model import NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.job.state import End, State
from holdfast.stores.memory import MemoryStore
from holdfast.table import Handle, TaskMixin, TaskService, TaskTable
from holdfast.table.beside import history_beside, store_beside
from holdfast.table.past import TableJobs
from tests.features import feature
from tests.table.models import Line, Mail, Order

START = 1_000_000_000.0


async def worked(engine: AsyncEngine, clock: ManualClock) -> TaskTable[Order]:
    """A table of which two rows have succeeded, one has failed, one runs, one waits for its time and one is ready."""

    async def charge(order: Order, handle: Handle) -> None:
        if order.order_id == "c":
            raise ValueError("the card of 100% was declined")
        handle.done(receipt=f"r-{order.order_id}")

    orders = TaskTable(Order, engine, clock=clock)
    await orders.create([Order(order_id=one) for one in "abc"])
    clock.advance(3_600)
    service = TaskService(orders, charge, clock=clock, worker="till", on_error=lambda *_: None)
    assert (await service.do_once()).total == 3
    clock.advance(60)
    await orders.create(Order(order_id="d"))
    assert len(await orders.acquire(worker="ann")) == 1
    await orders.create([Order(order_id="e", task_state="PENDING")], delay=600)
    await orders.create([Order(order_id="f", code="x-1")])
    return orders


@feature("G21", "G25")
async def test_rows_are_read_as_jobs_as_far_as_they_can_say_it(engine: AsyncEngine) -> None:
    clock = ManualClock(START)
    orders = await worked(engine, clock)
    past = TableJobs(orders)
    job = await past.get("orders:a")
    assert (job.task, job.queue, job.state, job.attempt) == ("orders", "orders", State.SUCCEEDED, 1)
    assert (job.created_at, job.finished_at) == (START, START + 3_600)
    assert b'"receipt":"r-a"' in job.payload
    [attempt] = await past.list_attempts("orders:c")
    assert (attempt.number, attempt.worker, attempt.end) == (1, "till", End.FAILED)
    assert (attempt.started_at, attempt.error) == (START + 3_600, "the card of 100% was declined")
    assert await past.list_attempts("orders:z") == ()
    for unknown in ("orders:z", "a", "mails:a"):
        with pytest.raises(UnknownJob):
            await past.get(unknown)
    with pytest.raises(Conflict, match="'orders' is a task table"):
        await past.upsert([job])
    await orders.close()


@feature("G21")
async def test_rows_are_listed_newest_first_by_what_a_filter_names(engine: AsyncEngine) -> None:
    clock = ManualClock(START)
    orders = await worked(engine, clock)
    past = TableJobs(orders)

    async def ids(limit: int = 200, *, newest_first: bool = True, **which: object) -> str:
        filter_, found, cursor = JobFilter(**which), "", ""  # type: ignore[arg-type]
        while True:
            page = await past.list(filter_, Page(limit=limit, cursor=cursor, newest_first=newest_first))
            found += "".join(job.id.removeprefix("orders:") for job in page.items)
            if not (cursor := page.cursor):
                assert await past.count(filter_) == len(found)
                return found

    assert await ids() == await ids(1) == await ids(2) == "fedcba"
    assert await ids(2, newest_first=False) == "abcdef"
    assert await ids(states=(State.SUCCEEDED, State.FAILED)) == "cba"
    assert await ids(worker="till") == "cba"
    assert await ids(instance="by hand") == "d"
    assert await ids(created_after=START + 1) == "fed"
    assert await ids(created_before=START + 1) == "cba"
    assert await ids(text="100%") == "c"
    assert await ids(text="x-1") == "f"
    assert await ids(queue="orders", task="orders") == "fedcba"
    assert await ids(queue="mail") == await ids(key="k") == await ids(tag="t") == ""
    assert [job.id for job in await past.list_failed()] == ["orders:c"]
    assert await past.list_failed("ann") == ()
    with pytest.raises(ContentError, match="bad page cursor"):
        await past.list(JobFilter(), Page(cursor="yesterday"))
    await orders.close()


@feature("G21")
async def test_the_newest_attempts_of_rows_are_found_and_added_up(engine: AsyncEngine) -> None:
    clock = ManualClock(START)
    orders = await worked(engine, clock)
    past = TableJobs(orders)

    async def found(limit: int = 200, **which: object) -> str:
        names, cursor = "", ""
        while True:
            page = await past.find_attempts(AttemptFilter(**which), Page(limit=limit, cursor=cursor))  # type: ignore[arg-type]
            names += "".join(record.job.removeprefix("orders:") for record in page.items)
            if not (cursor := page.cursor):
                return names

    assert await found() == await found(1) == "dcba"
    assert await found(ends=(End.FAILED,)) == "c"
    assert await found(running=True) == await found(after=START + 3_601) == "d"
    assert await found(before=START + 3_601, worker="till", text="declined") == "c"
    assert await found(queue="mail") == ""
    stats = await past.worker_stats()
    assert (stats.total, stats.pending, stats.running, stats.succeeded, stats.failed) == (6, 2, 1, 2, 1)
    assert stats.success_rate == pytest.approx(2 / 3)
    assert stats.queues["orders"].total == 6
    assert (await past.worker_stats("till")).total == 3
    assert (await past.worker_stats("nobody")).total == 0
    series = await past.worker_time_series(hours=2)
    assert len(series) == 2
    assert sum(one.succeeded for one in series) == 2
    assert sum(one.failed for one in series) == 1
    clock.advance(7_200)
    assert sum(one.total for one in await past.worker_time_series(hours=2)) == 0
    [queue] = await past.queue_stats()
    assert (queue.name, queue.size, queue.states["succeeded"]) == ("orders", 3, 2)
    await orders.close()


@feature("G17")
async def test_a_state_that_shares_its_word_is_told_from_the_other(engine: AsyncEngine) -> None:
    mails = TaskTable(Mail, engine, retry=RetryPolicy(max_attempts=3, delays=(600.0,)))
    await mails.create(Mail(address="late"), delay=600)
    await mails.create(Mail(address="failed"))

    def send(mail: Mail, handle: Handle) -> None:
        raise ValueError("no")

    await TaskService(mails, send, on_error=lambda *_: None).do_once()
    past = TableJobs(mails)
    for state, address in ((State.SCHEDULED, "late"), (State.RETRYING, "failed")):
        [job] = (await past.list(JobFilter(states=(state,)), Page())).items
        assert job.state is state
        [mail] = (await mails.list(state=state)).items
        assert mail.address == address
    assert len((await mails.list(state="PENDING")).items) == 2
    assert await past.count(JobFilter(states=(State.SCHEDULED, State.RETRYING, State.FAILED))) == 2
    await mails.close()


async def test_an_id_of_a_row_leads_back_to_it_whatever_its_key_is(engine: AsyncEngine) -> None:
    class Fresh(DeclarativeBase):
        pass

    class Visit(TaskMixin, Fresh):
        __tablename__ = "visits"
        who: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
        day: Mapped[date] = mapped_column(Date, primary_key=True)
        room: Mapped[str] = mapped_column(String(20), primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)

    async with engine.begin() as connection:
        await connection.run_sync(Fresh.metadata.create_all)
    visits, lines = TaskTable(Visit, engine), TaskTable(Line, engine)
    await visits.create([Visit(who=uuid.uuid4(), day=date(2026, 1, 2), room=r"a\,b:c", number=one) for one in range(3)])
    await lines.create([Line(order_id="a,b", number=1), Line(order_id="a", number=2)])
    for table, count in ((visits, 3), (lines, 2)):
        past = TableJobs(table)
        shown: list[str] = []
        cursor = ""
        while len(shown) < count:
            page = await past.list(JobFilter(), Page(limit=1, cursor=cursor))
            shown += [job.id for job in page.items]
            cursor = page.cursor
        assert len(set(shown)) == count
        assert [(await past.get(one)).id for one in shown] == shown
    for wrong in ("visits:", "visits:x,y,z,1", "lines:a,b,c", "lines:a,x"):
        with pytest.raises(UnknownJob):
            await TableJobs(visits if wrong.startswith("v") else lines).get(wrong)
    await visits.close()
    await lines.close()


@feature("G21")
async def test_rows_and_jobs_make_one_list_without_a_gap_or_a_repeat(engine: AsyncEngine) -> None:
    clock = ManualClock(START)
    orders, mails = TaskTable(Order, engine, clock=clock), TaskTable(Mail, engine, clock=clock)
    inner = MemoryStore(clock=clock)
    store, history = store_beside(inner, [orders, mails]), history_beside(LedgerJobs(inner), [orders, mails])
    await store.open()
    made: list[str] = []
    sent: list[str] = []
    for round_ in range(4):
        await store.enqueue([NewJob(id=f"job-{round_}", task="t")])
        clock.advance(1)
        await orders.create([Order(order_id=f"{round_}-{n}") for n in range(round_)])
        clock.advance(1)
        sent += [f"mails:{one.id}" for one in await mails.create(Mail(address=f"{round_}"))]
        clock.advance(1)
        made += [f"job-{round_}", *(f"orders:{round_}-{n}" for n in range(round_)), sent[-1]]
    for listed in (store.find, history.list):
        for limit in (1, 3, 200):
            for newest_first in (True, False):
                found, cursor, at = list[str](), "", list[float]()
                while True:
                    page = await listed(JobFilter(), Page(limit=limit, cursor=cursor, newest_first=newest_first))
                    assert len(page.items) <= limit
                    found += [job.id for job in page.items]
                    at += [job.created_at for job in page.items]
                    if not (cursor := page.cursor):
                        break
                assert sorted(found) == sorted(made)
                assert at == sorted(at, reverse=newest_first)
    assert await store.count(JobFilter()) == await history.count(JobFilter()) == len(made)
    assert {job.id for job in (await store.find(JobFilter(queue="mails"), Page())).items} == {*sent}
    assert [job and job.id for job in await store.jobs([sent[0], "job-1", "orders:9-9", "orders:3-1"])] == [
        sent[0],
        "job-1",
        None,
        "orders:3-1",
    ]
    assert (await history.worker_stats()).total == len(made)
    assert [queue.name for queue in await store.queues()] == ["default", "mails", "orders"]
    with pytest.raises(Conflict, match="'orders' is a task table"):
        await store.delete_queue("orders")
    with pytest.raises(ContentError, match="bad page cursor"):
        await store.find(JobFilter(), Page(cursor="1"))
    await store.close()
    await orders.close()
    await mails.close()
