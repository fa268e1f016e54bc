"""What the worker's tests hold in their hands: a memory store on a steered clock, handlers by name, and a watch."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

import msgspec

from holdfast.clock import ManualClock
from holdfast.job.commands import Claim, Claims, Ending, ErrorInfo, Failed, Settled, Settlement, Signals, Succeeded
from holdfast.job.content import encode_result, safe_str
from holdfast.job.model import InstanceState, Job, NewJob
from holdfast.job.retry import RetryPolicy
from holdfast.stores.memory import MemoryStore
from holdfast.worker.context import Context
from holdfast.worker.hooks import Hooks, Observer, OnError
from holdfast.worker.once import Pass, work_once
from holdfast.worker.options import WorkerOptions
from holdfast.worker.program import Executor, ProcessCall
from holdfast.worker.timing import ManualTiming
from holdfast.worker.worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

#: No test waits longer than this for something that must come (seconds); one that does has failed.
PATIENCE = 60.0
LEASE = 30.0
AT_ONCE = RetryPolicy(max_attempts=5, base=0.0, factor=1.0, cap=0.0)


class Function:
    """A program of one function. It is given the job's arguments by name, and the context if it has a `ctx`."""

    def __init__(self, function: Callable[..., Any], executor: Executor, limit: float | None, grace: float) -> None:
        self.executor, self.cancel_grace = executor, grace
        self._function, self._limit = function, limit
        self._takes_ctx = "ctx" in inspect.signature(function).parameters

    def time_limit(self, claim: Claim[Job]) -> float | None:
        return claim.item.timeout or self._limit

    def bind(self, claim: Claim[Job], ctx: Context) -> Callable[[], Any]:
        arguments = msgspec.json.decode(claim.item.payload or b"{}")
        if self._takes_ctx:
            arguments["ctx"] = ctx
        return lambda: self._function(**arguments)

    def process_call(self, claim: Claim[Job]) -> ProcessCall:
        where = "tests.worker_processes.toy:app"
        return ProcessCall(where, claim.task, msgspec.msgpack.encode(claim.item), claim.token, claim.attempt)

    def ending(self, value: object) -> Ending:
        if isinstance(value, Ending):
            return value
        try:
            return Succeeded(None if value is None else encode_result(value))
        except Exception as error:  # noqa: BLE001 - what can not be encoded fails the attempt
            return self.failed(error)

    def failed(self, error: BaseException) -> Ending:
        return Failed(ErrorInfo(type(error).__name__, safe_str(error)))


class Functions:
    """Programs by the name of a function."""

    def __init__(self) -> None:
        self._programs: dict[str, Function] = {}

    @overload
    def task(self, function: F, *, name: str | None = None) -> F: ...

    @overload
    def task(
        self, *, executor: Executor | None = None, limit: float | None = None, grace: float = 5.0
    ) -> Callable[[F], F]: ...

    def task(
        self,
        function: F | None = None,
        *,
        executor: Executor | None = None,
        limit: float | None = None,
        grace: float = 5.0,
        name: str | None = None,
    ) -> F | Callable[[F], F]:
        def add(function: F) -> F:
            is_async = inspect.iscoroutinefunction(function)
            chosen = executor or (Executor.ASYNC if is_async else Executor.THREAD)
            self._programs[name or function.__name__] = Function(function, chosen, limit, grace)
            return function

        return add if function is None else add(function)

    def get(self, task: str) -> Function | None:
        return self._programs.get(task)

    def aliases(self) -> Iterable[str]:
        return self._programs


class Watch(Observer):
    """Notes what the worker tells, and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.last_beat = 0.0
        self._turn = asyncio.Event()

    def count(self, event: str) -> int:
        return sum(name == event for name, _ in self.seen)

    def of(self, event: str) -> list[Any]:
        return [what for name, what in self.seen if name == event]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so`, looked at after each event."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                self._turn.clear()
                await self._turn.wait()

    async def times(self, event: str, count: int) -> None:
        """Wait until `event` was seen `count` times."""
        await self.until(lambda: self.count(event) >= count)

    def note(self, event: str, what: Any = None) -> None:
        self.seen.append((event, what))
        self._turn.set()

    def claimed(self, claims: Claims[Any], asked: int, seconds: float) -> None:
        self.note("claimed", (len(claims.items), asked))

    def started(self, ctx: Context) -> None:
        self.note("started", ctx.id)

    def settled(self, settlement: Settlement[Any], answer: Settled) -> None:
        self.note("settled", (answer.id, type(settlement.ending).__name__, answer.accepted.value))

    def unsettled(self, ctx: Context, error: Exception) -> None:
        self.note("unsettled", ctx.id)

    def lost(self, ctx: Context) -> None:
        self.note("lost", ctx.id)

    def abandoned(self, ctx: Context, ending: Ending | None) -> None:
        self.note("abandoned", ctx.id)

    def returned_late(self, ctx: Context) -> None:
        self.note("returned_late", ctx.id)

    def beaten(self, signals: Signals, sent: float) -> None:
        self.last_beat = sent
        self.note("beaten", signals)

    def moved(self, state: InstanceState) -> None:
        self.note("moved", state)


class Rig:
    """A store, a clock, functions and a watch; workers on demand. In memory, unless a store on a steered clock is given."""

    store: MemoryStore

    def __init__(self, store: Any = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.timing = ManualTiming(self.clock)
        self.store = store or MemoryStore(clock=self.clock)
        self._made = 0
        self.functions = Functions()
        self.task = self.functions.task
        self.watch = Watch()
        self.errors: list[tuple[str, str | None, BaseException]] = []
        self.source: Any = self.store  # what workers are given
        self._gates: list[asyncio.Event] = []

    def gate(self) -> asyncio.Event:
        """An event that is set at the end of the test at the latest, so that no handler that waits for it hangs on."""
        self._gates.append(asyncio.Event())
        return self._gates[-1]

    async def open_gates(self) -> None:
        for gate in self._gates:
            gate.set()
        await asyncio.sleep(0)

    def note_error(self, queue: str, job: Any, error: BaseException) -> None:
        self.errors.append((queue, getattr(job, "id", None), error))
        self.watch.note("error", error)

    def worker(
        self,
        *,
        middleware: tuple[Any, ...] = (),
        on_error: OnError | None = None,
        watch: Watch | None = None,
        state: Any = None,
        **options: Any,
    ) -> Worker[Job]:
        options.setdefault("queues", {"default": 10})
        hooks = Hooks(middleware=middleware, on_error=on_error or self.note_error, observers=(watch or self.watch,))
        return Worker(
            self.source,
            self.functions,
            WorkerOptions(lease=LEASE, **options),
            self.clock,
            hooks,
            state=state,
            timing=self.timing,
            draw=lambda: 0.5,
        )

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[Worker[Job]]:
        """A worker that is made to leave at once at the end of the block: its handlers are cancelled."""
        async with self.worker(**options) as worker:
            try:
                yield worker
            except BaseException:
                worker.stop()  # a test that fails must not wait for handlers that it can release no more
                raise
            finally:
                worker.stop()
                worker.stop()

    async def once(self, *, limit: int | None = None, concurrency: int | None = None, **options: Any) -> Pass:
        hooks = Hooks(on_error=self.note_error, observers=(self.watch,))
        return await work_once(
            self.source,
            self.functions,
            WorkerOptions(lease=LEASE, **options),
            self.clock,
            hooks,
            limit=limit,
            concurrency=concurrency,
            timing=self.timing,
            draw=lambda: 0.5,
        )

    async def enqueue(
        self, task: str, arguments: Mapping[str, Any] | None = None, *, job_id: str | None = None, **fields: Any
    ) -> str:
        self._made += 1
        job_id = job_id or f"job-{self._made}"
        payload = msgspec.json.encode(arguments or {})
        fields.setdefault("retry", AT_ONCE)
        await self.store.enqueue([NewJob(id=job_id, task=task, payload=payload, **fields)])
        return job_id

    async def job(self, job_id: str) -> Job:
        [job] = await self.store.jobs([job_id])
        assert job is not None
        return job

    async def ended(self, *ids: str) -> list[Job]:
        """Wait until these jobs have ended."""
        async with asyncio.timeout(PATIENCE):
            return await self.store.finished(ids, 1e9)

    def advance(self, seconds: float) -> None:
        """Move the clock in one leap. Beats that are due come later, so a leap past a lease looks like a stopped machine."""
        self.timing.advance(seconds)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass in steps, with every beat at its time."""
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 0:
            self.advance(min(left, 1.0))
            due = self.watch.last_beat + LEASE / 3
            # After an outage the heart tries again in its own time, so nothing can be waited for.
            if due <= self.clock.monotonic() <= due + 1.0:
                # Looked at anew each time: one that was poked and came late moves the next one on.
                await self.watch.until(lambda: self.watch.last_beat + LEASE / 3 > self.clock.monotonic())
            await asyncio.sleep(0)
