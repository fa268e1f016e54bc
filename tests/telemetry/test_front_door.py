"""The front door changes nothing that passes through it, and tells what happened."""

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract")

from holdfast.clock import ManualClock  # noqa: E402  # the suites' asserts are rewritten before they are imported
from holdfast.errors import DuplicateJob, StoreClosed, UnknownQueue  # noqa: E402
from holdfast.job import commands as c  # noqa: E402
from holdfast.job.commands import Delete, JobFilter, Order, Replay, Selection  # noqa: E402
from holdfast.job.model import Schedule, ScheduleStatus, WorkerConfig  # noqa: E402
from holdfast.job.state import End, State  # noqa: E402
from holdfast.store import Store  # noqa: E402
from holdfast.stores.memory import MemoryStore  # noqa: E402
from holdfast.telemetry.events import StoreLog  # noqa: E402
from holdfast.telemetry.front_door import FrontDoor  # noqa: E402
from holdfast.telemetry.metrics import Metrics  # noqa: E402
from holdfast.telemetry.observer import Gone, StoreObserver  # noqa: E402
from holdfast.testing.contract import SourceContract, StoreContract  # noqa: E402
from holdfast.testing.contract.harness import LEASE, StoreHarness  # noqa: E402
from tests.features import feature  # noqa: E402


class Recorder(StoreObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def of(self, event: str) -> list[Any]:
        return [what for name, what in self.told if name == event]

    def opened(self, seconds: float) -> None:
        self.told.append(("opened", seconds))

    def enqueued(self, answers: Sequence[c.Enqueued]) -> None:
        self.told.append(("enqueued", [answer.id for answer in answers]))

    def claimed(self, want: c.Want, claims: c.Claims[Any]) -> None:
        self.told.append(("claimed", [claim.id for claim in claims.items]))

    def settled(self, settlements: Sequence[c.Settlement[Any]], answers: Sequence[c.Settled]) -> None:
        self.told.append(("settled", [(answer.id, answer.accepted.value) for answer in answers]))

    def progressed(self, answers: Sequence[c.Settled]) -> None:
        self.told.append(("progressed", [answer.id for answer in answers]))

    def gone(self, attempts: Sequence[Gone]) -> None:
        self.told += [("gone", one) for one in attempts]

    def rescued(self, rescued: c.Rescued) -> None:
        self.told.append(("rescued", rescued.lost))

    def ordered(self, order: Order, answer: c.Ordered) -> None:
        self.told.append(("ordered", answer.done))

    def changed(self, what: str, name: str, who: str) -> None:
        self.told.append(("changed", (what, name, who)))

    def refused(self, call: str, error: Exception) -> None:
        self.told.append(("refused", (call, type(error).__name__)))


class Breaks(StoreObserver):
    """Raises whatever it is told."""

    def settled(self, settlements: Sequence[c.Settlement[Any]], answers: Sequence[c.Settled]) -> None:
        raise RuntimeError("broken observer")


def behind(*observers: StoreObserver, **options: Any) -> StoreHarness:
    clock = ManualClock()
    return StoreHarness(FrontDoor(MemoryStore(clock=clock), observers, clock=clock, **options), clock)


DOORS: dict[str, Callable[[], StoreHarness]] = {
    "nobody listens": behind,
    "everybody listens": lambda: behind(Metrics(), StoreLog(), Recorder()),
}


class TestSourceThroughTheDoor(SourceContract):
    @pytest.fixture(params=list(DOORS.values()), ids=list(DOORS))
    def source_factory(self, request: pytest.FixtureRequest) -> Callable[[], StoreHarness]:
        factory: Callable[[], StoreHarness] = request.param
        return factory


class TestStoreThroughTheDoor(StoreContract):
    @pytest.fixture(params=list(DOORS.values()), ids=list(DOORS))
    def store_factory(self, request: pytest.FixtureRequest) -> Callable[[], StoreHarness]:
        factory: Callable[[], StoreHarness] = request.param
        return factory


@pytest.fixture
def heard() -> Recorder:
    return Recorder()


@pytest.fixture
async def h(heard: Recorder) -> AsyncIterator[StoreHarness]:
    harness = behind(Breaks(), heard)
    await harness.open()
    yield harness
    await harness.close()


def test_the_door_has_every_call_of_the_port_with_the_same_parameters() -> None:
    for name, call in inspect.getmembers(Store, inspect.isfunction):
        if not name.startswith("_"):
            own = inspect.signature(getattr(FrontDoor, name)).parameters
            assert list(own) == list(inspect.signature(call).parameters), name


async def test_each_step_of_a_job_is_told_once_per_call_and_a_broken_observer_changes_nothing(
    h: StoreHarness, heard: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await h.make(2)
    claims = await h.claim()
    await h.store.progress([c.Progress(claims[0], b"1")])
    await h.store.settle([c.Settlement(claim, c.Succeeded(b"1")) for claim in claims])
    again = await h.settle(claims[0])
    stale = await h.settle(claims[1], c.Failed(c.ErrorInfo("E", "no")))
    assert (again.accepted, stale.accepted) == (c.Accepted.STALE, c.Accepted.STALE)
    assert heard.told[1:] == [
        ("enqueued", ids),
        ("claimed", ids),
        ("progressed", ids[:1]),
        ("settled", [(ids[0], "applied"), (ids[1], "applied")]),
        ("settled", [(ids[0], "stale")]),
        ("settled", [(ids[1], "stale")]),
    ]
    assert heard.told[0] == ("opened", 0.0)
    assert sum("observer raised" in line for line in caplog.messages) == 3


async def test_a_refused_call_is_told_and_raised_as_it_was(h: StoreHarness, heard: Recorder) -> None:
    await h.store.enqueue([h.new(id="a", own_id=True)])
    with pytest.raises(DuplicateJob):
        await h.store.enqueue([h.new(id="a", own_id=True)])
    with pytest.raises(UnknownQueue):
        await h.store.delete_queue("nobody")
    await h.store.close()
    with pytest.raises(StoreClosed):
        await h.claim()
    assert heard.of("refused") == [
        ("enqueue", "DuplicateJob"),
        ("delete_queue", "UnknownQueue"),
        ("claim", "StoreClosed"),
    ]


async def test_changes_are_told_with_who_made_them(h: StoreHarness, heard: Recorder) -> None:
    await h.store.change_queue(c.ChangeQueue(name="q", create=True, paused=True, who="ann"))
    await h.store.configure_worker(WorkerConfig(name="w"))
    await h.store.delete_worker("w")
    await h.store.delete_queue("q", "bob")
    assert heard.of("changed") == [
        ("change_queue", "q", "ann"), ("configure_worker", "w", ""), ("delete_worker", "w", ""), ("delete_queue", "q", "bob"),
    ]  # fmt: skip


async def test_jobs_of_a_schedule_and_replays_are_told_as_enqueued(h: StoreHarness, heard: Recorder) -> None:
    made_one = Schedule(name="s", rule="* * * * *", task="t", next_run_at=5.0, status=ScheduleStatus.ACTIVE)
    await h.store.save_schedule(made_one)
    assert await h.store.fire_schedule("s", 5.0, [h.new(id="tick")], 6.0)
    assert not await h.store.fire_schedule("s", 5.0, [h.new(id="late")], 6.0)
    await h.settle(await h.claim_one())
    made = (await h.order(Replay(), "tick")).made
    assert heard.of("enqueued") == [["tick"], [made]]


async def test_attempts_whose_lease_has_passed_are_told_with_where_their_job_went(
    h: StoreHarness, heard: Recorder
) -> None:
    [one_try] = await h.make(max_attempts=1)
    [more] = await h.make(max_attempts=5)
    await h.claim()
    await h.lose()
    lost = {one.id: (one.end, one.state, one.number) for one in heard.of("gone")}
    assert lost == {one_try: (End.LOST, State.FAILED, 1), more: (End.LOST, State.QUEUED, 1)}
    assert heard.of("rescued") == [2]


async def test_attempts_of_a_dead_process_are_told_and_those_of_others_are_not(
    h: StoreHarness, heard: Recorder
) -> None:
    [victim] = await h.make(max_attempts=1)
    await h.claim_one("dies")
    await h.make()
    await h.claim_one("lives")
    assert await h.died("dies", "signal 9") == 1
    [gone] = heard.of("gone")
    assert (gone.id, gone.end, gone.state) == (victim, End.CRASHED, State.FAILED)
    assert "signal 9" in gone.reason


class TakesAtOnce(MemoryStore):
    """Another worker claims what was rescued before the caller can look at it."""

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        rescued = await super().rescue(limit)
        await self.claim(c.Want(queues=(c.QueueWant("default", 9),), limit=9, instance="other"))
        return rescued


async def test_a_lost_attempt_is_told_also_when_its_job_was_claimed_again_at_once(heard: Recorder) -> None:
    clock = ManualClock()
    h = StoreHarness(FrontDoor(TakesAtOnce(clock=clock), [heard]), clock)
    await h.open()
    [job_id] = await h.make()
    await h.claim_one()
    h.advance(LEASE + 1.0)
    await h.store.rescue()
    [gone] = heard.of("gone")
    assert (gone.id, gone.end, gone.state, gone.number) == (job_id, End.LOST, State.QUEUED, 1)


async def test_a_preview_and_a_bulk_order_are_told_with_their_counts(h: StoreHarness, heard: Recorder) -> None:
    await h.make(3)
    everything = Selection(filter=JobFilter())
    await h.store.control(Order(action=Delete(), selection=everything, preview=True))
    await h.store.control(Order(action=Delete(), selection=everything))
    assert heard.of("ordered") == [0, 3]


@feature("H16")
async def test_capabilities_and_clock_are_those_of_the_store(h: StoreHarness) -> None:
    door = h.store
    assert isinstance(door, FrontDoor)
    assert door.capabilities == door.inner.capabilities
    assert door.now() == h.clock.now()
