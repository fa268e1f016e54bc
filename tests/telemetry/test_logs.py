"""One event is one line, whatever text is in it; the root logger is nobody's business."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.clock import ManualClock
from holdfast.job import commands as c
from holdfast.job.commands import Cancel, JobFilter, Order, Selection
from holdfast.job.model import InstanceState
from holdfast.job.state import State
from holdfast.stores.memory import MemoryStore
from holdfast.telemetry.events import StoreLog, WorkerLog
from holdfast.telemetry.front_door import FrontDoor
from holdfast.telemetry.logs import HumanFormatter, JsonFormatter, one_line, set_up
from holdfast.testing.contract.harness import StoreHarness
from holdfast.worker.context import Context
from tests.worker.rig import Rig, Watch

HOSTILE = "a\nb\r\x1b[2J\x00\x85\u2028\u2029\u202e\ud800 2026-01-01 ERROR job=forged"


def record(
    message: object, *arguments: object, fields: Any = None, error: BaseException | None = None
) -> logging.LogRecord:
    about = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("holdfast.store", logging.WARNING, "f.py", 1, message, arguments, about)
    made.fields = fields
    return made


def physical_lines(text: str) -> int:
    """Lines as the fussiest reader counts them: also by separators of Unicode."""
    return len((text + ".").splitlines())


def caught(text: str) -> BaseException:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


class Silent:
    """Something whose text can not be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


FORMS: list[Callable[[], logging.Formatter]] = [JsonFormatter, HumanFormatter]


@pytest.mark.parametrize("form", FORMS)
@given(text=st.one_of(st.text(st.characters(), max_size=50), st.just(HOSTILE)))
def test_hostile_text_never_makes_a_second_line(form: Callable[[], logging.Formatter], text: str) -> None:
    line = form().format(record("%s", text, fields={text: text, "name": text}, error=caught(text)))
    assert physical_lines(line) == 1
    assert line.encode()
    assert "\x1b" not in line
    assert "\u202e" not in line


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=50))
def test_json_gives_back_the_very_text(text: str) -> None:
    found = json.loads(JsonFormatter().format(record("%s", text, fields={"field": text})))
    assert (found["event"], found["field"]) == (text, text)


def test_a_traceback_on_a_terminal_is_behind_a_bar_on_every_line() -> None:
    text = HumanFormatter(tracebacks=True).format(record("it broke", error=caught(HOSTILE)))
    first, *rest = text.split("\n")
    assert "it broke" in first
    assert len(rest) >= 3
    assert all(line.startswith("    | ") for line in rest)
    assert physical_lines(text) == 1 + len(rest)


def test_a_json_line_says_when_what_and_where() -> None:
    found = json.loads(
        JsonFormatter().format(record("job gave up", fields={"job": "j1", "attempt": 5, "event": "forged"}))
    )
    assert found["event"] == "job gave up"
    assert found["event_"] == "forged"
    assert (found["level"], found["logger"], found["job"], found["attempt"]) == ("warning", "holdfast.store", "j1", 5)
    assert found["time"].endswith("Z")


def test_an_error_is_told_with_its_type_and_traceback() -> None:
    found = json.loads(JsonFormatter().format(record("it broke", error=caught("no"))))
    assert found["error_type"] == "ValueError"
    assert "test_logs.py" in found["traceback"]
    assert 'error="ValueError: no"' in HumanFormatter().format(record("it broke", error=caught("no")))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "made",
    [
        record("%s", Silent()),
        record("%d", "no number"),
        record("x", fields={"value": Silent(), "big": 2**100, "nan": float("nan"), "bytes": b"\xff", "list": [1]}),
        record(Silent()),
        record("x" * 100_000, fields={"long": "y" * 100_000}),
        record("x", fields="no mapping"),
    ],
)
def test_nothing_that_is_logged_can_raise(form: Callable[[], logging.Formatter], made: logging.LogRecord) -> None:
    line = form().format(made)
    assert physical_lines(line) == 1
    assert len(line) < 20_000


def test_a_line_for_people_quotes_what_could_be_taken_for_two_fields() -> None:
    line = HumanFormatter().format(record("job gave up", fields={"job": "a b=c", "queue": "mail", "said": 'say "x"'}))
    assert 'job="a b=c" queue=mail said="say \\"x\\""' in line
    assert one_line("tab\there") == "tab\\there"


# --- set up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("json_lines", [True, False])
def test_setting_up_writes_our_events_and_leaves_the_root_logger_alone(json_lines: bool) -> None:
    root, ours = logging.getLogger(), logging.getLogger("holdfast")
    before = (list(root.handlers), root.level, list(ours.handlers), ours.level, ours.propagate)
    stream = io.StringIO()
    undo = set_up(stream, json=json_lines)
    logging.getLogger("holdfast.store").info("seen", extra={"fields": {"job": "j"}})
    logging.getLogger("holdfast.store").debug("not asked for")
    logging.getLogger("somebody.else").error("not ours")
    assert (list(root.handlers), root.level) == before[:2]
    undo()
    logging.getLogger("holdfast.store").info("too late")
    assert (list(root.handlers), root.level, list(ours.handlers), ours.level, ours.propagate) == before
    assert stream.getvalue().count("\n") == 1
    assert "seen" in stream.getvalue()


# --- events --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Everything that was logged since, as JSON."""
    stream = io.StringIO()
    undo = set_up(stream, json=True, level=logging.DEBUG)
    yield lambda: [json.loads(line) for line in stream.getvalue().split("\n") if line]
    undo()


Lines = Callable[[], list[dict[str, Any]]]


async def a_life(level: int) -> list[str]:
    """Return what is logged about a job that fails once, succeeds, and is reported too late."""
    clock = ManualClock()
    h = StoreHarness(FrontDoor(MemoryStore(clock=clock), [StoreLog()], clock=clock), clock)
    stream = io.StringIO()
    undo = set_up(stream, json=True, level=level)
    try:
        await h.open()
        await h.make()
        await h.settle(await h.claim_one(), c.Failed(c.ErrorInfo("E", HOSTILE)), duration=0.5)
        claim = await h.claim_one()
        await h.settle(claim, duration=0.5)
        await h.settle(claim, c.Failed(c.ErrorInfo("E", "late")))
    finally:
        undo()
    return [json.loads(line)["event"] for line in stream.getvalue().split("\n") if line]


async def test_the_plain_life_of_a_job_is_told_at_debug_alone() -> None:
    assert await a_life(logging.DEBUG) == [
        "store opened", "job enqueued", "job claimed", "job retries", "job claimed", "job succeeded", "stale outcome refused",
    ]  # fmt: skip
    assert await a_life(logging.INFO) == ["store opened", "stale outcome refused"]
    assert await a_life(logging.ERROR) == []


async def test_what_somebody_may_have_to_look_at_is_told_with_all_that_finds_it(lines: Lines) -> None:
    clock = ManualClock()
    h = StoreHarness(FrontDoor(MemoryStore(clock=clock), [StoreLog()], clock=clock), clock)
    await h.open()
    [dead] = await h.make(max_attempts=1)
    claim = await h.claim_one()
    await h.settle(claim, c.Failed(c.ErrorInfo("builtins.ValueError", HOSTILE)), duration=0.5)
    await h.make(max_attempts=1)
    await h.beat("i1", state=InstanceState.READY)
    await h.claim_one()
    await h.lose()
    told = {line["event"]: line for line in lines() if line["level"] == "warning"}
    gave_up = told["job gave up"]
    assert (gave_up["job"], gave_up["task"], gave_up["queue"], gave_up["attempt"]) == (dead, "t", "default", 1)
    assert gave_up["outcome"] == "failed"
    assert gave_up["error"].startswith("builtins.ValueError: a\nb")
    assert (told["attempt lost"]["state"], told["worker process lost"]["instance"]) == ("failed", "i1")


async def test_what_operators_do_is_told_with_their_names(lines: Lines) -> None:
    clock = ManualClock()
    h = StoreHarness(FrontDoor(MemoryStore(clock=clock), [StoreLog()], clock=clock), clock)
    await h.open()
    await h.make(2)
    order = Order(action=Cancel(), selection=Selection(filter=JobFilter()), who="ann")
    await h.store.control(Order(action=Cancel(), selection=order.selection, who="ann", preview=True))
    await h.store.control(order)
    await h.store.change_queue(c.ChangeQueue(name="default", paused=True, who="bob"))
    told = [line for line in lines() if line["level"] == "info"][1:]
    assert [(line["event"], line["who"]) for line in told] == [("order", "ann"), ("change queue", "bob")]
    assert (told[0]["action"], told[0]["done"]) == ("cancel", 2)


async def test_payloads_results_and_headers_are_never_logged(lines: Lines) -> None:
    clock = ManualClock()
    h = StoreHarness(FrontDoor(MemoryStore(clock=clock), [StoreLog()], clock=clock), clock)
    await h.open()
    for state in (State.SUCCEEDED, State.FAILED, State.RETRYING, State.CANCELED):
        await h.in_state(state, queue=state.value, payload=b'"canary"', headers=b'{"h":"canary"}')
    await h.add(payload=b'"canary"')
    await h.settle(await h.claim_one(), c.Succeeded(b'"canary"', b'{"k":"canary"}'))
    assert lines()
    assert "canary" not in json.dumps(lines())


class Relays(Watch):
    """A watch whose events are logged too."""

    log = WorkerLog()

    def moved(self, state: InstanceState) -> None:
        self.log.moved(state)
        super().moved(state)

    def lost(self, ctx: Context) -> None:
        self.log.lost(ctx)
        super().lost(ctx)

    def abandoned(self, ctx: Context, ending: c.Ending | None) -> None:
        self.log.abandoned(ctx, ending)
        super().abandoned(ctx, ending)

    def returned_late(self, ctx: Context) -> None:
        self.log.returned_late(ctx)
        super().returned_late(ctx)


async def test_a_worker_tells_its_states_and_the_claims_that_it_loses(rig: Rig, lines: Lines) -> None:
    watch = Relays()

    @rig.task
    async def slow(ctx: Context) -> None:
        await ctx.cancel_wait()

    await rig.enqueue("slow", job_id="j")
    async with rig.working(watch=watch):
        await watch.times("started", 1)
        rig.advance(1_000.0)
        await watch.times("lost", 1)
    told = [line for line in lines() if line["logger"] == "holdfast.worker"]
    assert {"worker ready", "worker stopped"} <= {line["event"] for line in told}
    [lost] = [line for line in told if line["event"].startswith("claim lost")]
    assert (lost["level"], lost["job"], lost["task"], lost["attempt"]) == ("warning", "j", "slow", 1)
