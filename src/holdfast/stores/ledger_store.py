"""What every store over the ledger shares: the Store port, in terms of one step `_run(command) -> answer`.

`MemoryStore` applies the facts and is done; the journal store also writes them, and answers after the sync.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.chance import SystemDraw
from holdfast.clock import Clock, SystemClock
from holdfast.errors import StoreClosed, UnknownJob
from holdfast.job import commands as c
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, execute
from holdfast.job.ledger.admin import definitions_of, find_definition
from holdfast.job.ledger.links import links_of
from holdfast.job.ledger.query import (
    checked_end,
    ended_behind,
    ended_page,
    kept_count,
    numbers_of,
    page_from,
    some_of,
    stats_of,
    with_final_states,
)
from holdfast.job.ledger.search import Search, SearchCount, is_search, looked_among, windowed
from holdfast.job.model import InstanceState, OperationState
from holdfast.job.state import State
from holdfast.stores.ledger_feed import LedgerFeed
from holdfast.stores.wakeups import Endings, Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from holdfast.job.draw import Draw
    from holdfast.job.model import Definition, Instance, Job, NewJob, Operation, Queue, Schedule, WorkerConfig
    from holdfast.store import Capabilities

R = TypeVar("R")

_WAITING: Final = (State.QUEUED, State.SCHEDULED, State.RETRYING)
#: Commands that can not make anything ready: nobody is woken for them.
_QUIET: Final = frozenset({c.Want, c.Beat, c.ProgressAll})
#: Commands by which a running job is asked to stop.
_CONTROL: Final = frozenset({c.Order, c.ContinueOperation})
#: Commands that may change when a schedule fires.
_SCHEDULING: Final = frozenset({c.SaveSchedule, c.ChangeDefinition})
_ENDS: Final = (f.Succeeded, f.Ended, f.Canceled, f.Deleted)
#: Who pauses and resumes the jobs of a definition that is switched off and on.
_BY_TASK: Final = "task"


class LedgerStore(LedgerFeed):
    """The Store port over a ledger. Safe to call from several loops and threads: one lock, held for one step."""

    capabilities: Capabilities
    #: Up to how many jobs a count is exact, or looks for what no index knows.
    count_exact = c.COUNT_EXACT

    def __init__(self, *, clock: Clock | None = None, draw: Draw | None = None) -> None:
        """`clock` and `draw` are the machine's unless given."""
        self._clock: Clock = clock or SystemClock()
        self._draw: Draw = draw or SystemDraw(self._clock)
        self._last_now = 0.0
        self._lock = threading.RLock()
        self._work = Signal()
        self._endings = Endings()
        self._cancel_calls: set[Callable[[], None]] = set()
        self._schedule_calls: set[Callable[[], None]] = set()
        self._open = False
        self.ledger = Ledger()
        self._steps = 0

    # --- the one step

    def now(self) -> float:
        """The engine's clock: it never steps back."""
        self._last_now = max(self._last_now, self._clock.now())
        return self._last_now

    def _apply(self, command: object) -> tuple[list[f.Fact], Any]:
        """Execute a command under the lock. Raises StoreClosed unless open."""
        with self._lock:
            if not self._open:
                raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
            facts, answer = execute(self.ledger, command, self.now(), self._draw)
            if facts and self._marks is not None:
                self._marks.take(self.ledger, facts, self._number())
            return facts, answer

    def _number(self) -> int:
        """The number of the step that was just done: it grows. In a journal, that of its frame."""
        self._steps += 1
        return self._steps

    def _announce(self, command: object, facts: list[f.Fact]) -> None:
        """Wake those who wait, once the facts may be seen."""
        if not facts:
            return
        if type(command) not in _QUIET:
            self._work.notify()
        if type(command) in _CONTROL and any(type(fact) is f.CancelAsked for fact in facts):
            for call in tuple(self._cancel_calls):
                call()
        if type(command) in _SCHEDULING:
            for call in tuple(self._schedule_calls):
                call()
        if self._endings:
            self._endings.ended([fact.seq for fact in facts if isinstance(fact, _ENDS)])

    async def _run(self, command: object) -> Any:
        """Do one command as one atomic, durable step. The journal store writes the facts in here."""
        facts, answer = self._apply(command)
        self._announce(command, facts)
        return answer

    # --- for a history over the same ledger

    async def run(self, command: object) -> Any:
        """Do a command that the port has no call for, as one atomic, durable step."""
        return await self._run(command)

    async def import_jobs(self, jobs: Sequence[Job], epoch: int) -> Sequence[c.Ruling]:
        """Take in jobs of another store; `epoch`: the highest that it gave out tokens under."""
        rulings: Sequence[c.Ruling] = await self._run(c.Import(jobs=tuple(jobs), epoch=epoch))
        return rulings

    async def import_records(self, records: c.ImportRecords) -> int:
        """Take in figures and audit entries of another store; tell how many were not here."""
        taken: int = await self._run(records)
        return taken

    async def kept_figures(self, span: int, first: int, last: int) -> list[f.Figured]:
        """What was counted in minutes or hours (span: 60 or 3,600), from the `first` to the `last` since the epoch."""
        return await self._read(lambda: self.ledger.rollup.figures(span, first, last))

    async def read(self, look: Callable[[], R]) -> R:
        """Look at the ledger in one step; the answer leaves when what it shows is durable."""
        return await self._read(look)

    # --- life

    async def open(self) -> None:
        """Begin a new epoch of tokens."""
        if self._open:
            return
        self._open = True
        await self._run(c.Open(alone=True))

    async def close(self) -> None:
        """Take no more calls."""
        self._open = False

    async def migrate(self) -> list[str]:
        """Nothing to do: a ledger has no schema."""
        return []

    # --- the hot path

    async def enqueue(
        self, jobs: Iterable[NewJob], *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE
    ) -> list[c.Enqueued]:
        """Store all jobs or none."""
        answer: list[c.Enqueued] = await self._run(c.Enqueue(jobs=tuple(jobs), on_duplicate=on_duplicate))
        return answer

    async def claim(self, want: c.Want) -> c.Claims[Job]:
        """Hand out ready jobs."""
        # Read before the claim: what comes during it is seen by the next wait.
        cursor = self._work.count
        claims: c.Claims[Job] = await self._run(want)
        return c.Claims(claims.items, cursor, claims.next_due, claims.ownerless)

    async def settle(self, settlements: Sequence[c.Settlement[Job]]) -> list[c.Settled]:
        """End attempts, each on its own."""
        answer: list[c.Settled] = await self._run(c.SettleAll(tuple(settlements)))
        return answer

    async def progress(self, reports: Sequence[c.Progress[Job]]) -> list[c.Settled]:
        """Write what running attempts report."""
        answer: list[c.Settled] = await self._run(c.ProgressAll(tuple(reports)))
        return answer

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases; may be called from a thread with a loop of its own."""
        answer: c.Signals = await self._run(beat)
        return answer

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed, promote what is due, prune."""
        answer: c.Rescued = await self._run(c.Rescue(limit=limit))
        return answer

    async def instance_died(self, died: c.InstanceDied) -> int:
        """End the claims of a dead process, as crashed."""
        answer: int = await self._run(died)
        return answer

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Return True as soon as something came that `cursor` did not see."""
        due = self.ledger.next_due()
        if due is not None:
            timeout = min(timeout, max(0.0, due - self.now()))
        return await self._work.wait(cursor, timeout)

    def on_cancel(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever a running job was asked to stop; return what ends this."""
        self._cancel_calls.add(call)
        return lambda: self._cancel_calls.discard(call)

    @property
    def hears_schedules(self) -> bool:
        """Whoever changes one does so through this very store."""
        return True

    def on_schedule(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever a schedule or a task was changed; return what ends this."""
        self._schedule_calls.add(call)
        return lambda: self._schedule_calls.discard(call)

    # --- control

    async def control(self, order: c.Order) -> c.Ordered:
        """Do an action on a selection; an operation by filter is run to its end, batch by batch."""
        answer: c.Ordered = await self._run(order)
        while answer.operation is not None and answer.operation.state is OperationState.RUNNING:
            await asyncio.sleep(0)  # each batch is a step of its own; others come in between
            answer = await self._run(c.ContinueOperation(id=answer.operation.id))
        return answer

    async def operations(self) -> list[Operation]:
        """Bulk operations, newest first."""
        found = sorted(self.ledger.operations.values(), key=lambda operation: operation.created_at, reverse=True)
        return await self._read(lambda: found)

    async def cancel_operation(self, operation_id: str, who: str = "") -> Operation:
        """Stop a bulk operation after the batch it is in."""
        answer: Operation = await self._run(c.CancelOperation(id=operation_id, who=who))
        return answer

    # --- queues

    async def queues(self) -> list[Queue]:
        """All queues, by name."""
        return await self._read(lambda: [line.queue for _, line in sorted(self.ledger.index.lines.items())])

    async def change_queue(self, change: c.ChangeQueue) -> Queue:
        """Change a queue's policy, or pause and resume it."""
        answer: Queue = await self._run(change)
        return answer

    async def delete_queue(self, name: str, who: str = "") -> None:
        """Forget a queue without unfinished jobs."""
        await self._run(c.DeleteQueue(name=name, who=who))

    # --- definitions

    async def define(self, definitions: Sequence[c.Define]) -> list[Definition]:
        """Make or refresh definitions from code."""
        answer: list[Definition] = await self._run(c.DefineAll(tuple(definitions)))
        return answer

    async def definition(self, alias_or_id: str) -> Definition:
        """One definition, also a deleted one."""
        return await self._read(lambda: find_definition(self.ledger, alias_or_id))

    async def definitions(self, which: c.DefinitionFilter) -> list[Definition]:
        """Definitions by alias."""
        return await self._read(lambda: definitions_of(self.ledger, which))

    async def change_definition(self, change: c.ChangeDefinition) -> Definition:
        """Edit a definition; its waiting jobs are paused when it stops, and resumed when it runs again."""
        before = find_definition(self.ledger, change.alias)
        after: Definition = await self._run(change)
        if before.runs and not after.runs:
            which = c.JobFilter(task=after.alias, states=_WAITING)
            await self.control(c.Order(action=c.Pause(), selection=c.Selection(filter=which), who=_BY_TASK))
        elif after.runs and not before.runs:
            which = c.JobFilter(task=after.alias, states=(State.PAUSED,), paused_by=_BY_TASK)
            await self.control(c.Order(action=c.Resume(), selection=c.Selection(filter=which), who=_BY_TASK))
        return after

    async def delete_definition(self, alias_or_id: str, who: str = "") -> None:
        """Forget a definition that nothing uses."""
        await self._run(c.DeleteDefinition(alias=alias_or_id, who=who))

    # --- schedules and workers

    async def save_schedule(self, schedule: Schedule, *, expect: int | None = None) -> Schedule:
        """Make or replace a schedule."""
        answer: Schedule = await self._run(c.SaveSchedule(schedule, expect))
        return answer

    async def schedules(self, *, deleted: bool = False) -> list[Schedule]:
        """All schedules, by name."""
        known = [schedule for _, schedule in sorted(self.ledger.schedules.items())]
        return await self._read(lambda: [schedule for schedule in known if deleted or schedule.deleted_at is None])

    async def fire_schedule(self, name: str, due: float, jobs: Sequence[NewJob], next_run_at: float | None) -> bool:
        """Enqueue a tick's jobs if nobody else was first."""
        fired: bool = await self._run(c.FireSchedule(name=name, due=due, jobs=tuple(jobs), next_run_at=next_run_at))
        return fired

    async def instances(self) -> list[Instance]:
        """Live and lately lost worker processes."""
        known = self.ledger.instances.values()
        shown = [self.ledger.beats.get(one.id, one) if one.state is not InstanceState.LOST else one for one in known]
        return await self._read(lambda: sorted(shown, key=lambda one: (one.worker, one.started_at, one.id)))

    async def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Make or replace a worker's configuration."""
        answer: WorkerConfig = await self._run(c.ConfigureWorker(config))
        return answer

    async def workers(self) -> list[WorkerConfig]:
        """All configured workers, by name."""
        return await self._read(lambda: [config for _, config in sorted(self.ledger.workers.items())])

    async def delete_worker(self, name: str) -> None:
        """Forget a worker's configuration."""
        await self._run(c.DeleteWorker(name))

    # --- keys and their owners

    async def bind(self, links: Sequence[c.KeyLink]) -> list[c.BoundKey]:
        """Give keys to worker processes, or take them away."""
        answer: list[c.BoundKey] = await self._run(c.Bind(tuple(links)))
        return answer

    async def links(self, which: c.LinkFilter) -> list[c.KeyLink]:
        """The newest links, by service and key."""
        return await self._read(lambda: links_of(self.ledger, which))

    # --- reads

    async def _read(self, look: Callable[[], R]) -> R:
        """Look at the ledger under the lock. The journal store then waits for the sync of what the answer shows."""
        with self._lock:
            return look()

    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids, in their order."""
        return await self._read(lambda: [self.ledger.job(job_id) for job_id in ids])

    async def find(self, which: c.JobFilter, page: c.Page) -> c.JobPage:
        """Jobs in keyset pages."""
        which = windowed(which, self.now())
        if is_search(which):
            return await self._search_page(which, page)
        if page.by_end:
            return ended_page(await self._ended(which, page), page)
        numbers = await self._read(lambda: numbers_of(self.ledger, page, which))
        items: list[Job] = []
        async for found in self._search(which, numbers, page.limit + 1):
            items += found
        return page_from(items, page)

    async def _ended(self, which: c.JobFilter, page: c.Page) -> list[Job]:
        checked_end(page)
        ended = with_final_states(which)
        items: list[Job] = []
        if ended is not None:
            numbers = await self._read(lambda: numbers_of(self.ledger, None, ended))
            async for found in self._search(ended, numbers):
                items += found
        return items

    async def _search_page(self, which: c.JobFilter, page: c.Page) -> c.JobPage:
        search = Search(which, page)
        jobs: Iterator[Job | None]
        if page.by_end:
            jobs = iter(ended_behind(await self._ended(looked_among(which), page), page))
        else:
            jobs = map(self.ledger.table.get, await self._read(lambda: numbers_of(self.ledger, page, which)))
        done = False
        while not done:
            done = await self._read(partial(search.look, jobs))
            await asyncio.sleep(0)
        return search.page()

    async def count(self, which: c.JobFilter) -> c.JobCount:
        """How many jobs match: exact, but for what is searched for in more than `count_exact` jobs."""
        which = windowed(which, self.now())
        if is_search(which):
            return await self._search_count(which)
        kept = await self._read(lambda: kept_count(self.ledger, which))
        if kept is not None:
            return c.JobCount(kept)
        numbers = await self._read(lambda: numbers_of(self.ledger, None, which))
        return c.JobCount(sum([len(found) async for found in self._search(which, numbers)]))

    async def _search_count(self, which: c.JobFilter) -> c.JobCount:
        search, table = SearchCount(which, self.count_exact), self.ledger.table
        jobs = map(table.get, await self._read(lambda: numbers_of(self.ledger, c.Page(), which)))
        done = False
        while not done:
            done = await self._read(partial(search.look, jobs))
            await asyncio.sleep(0)
        return search.count(self.now(), next((job.created_at for job in table.values()), 0.0))

    async def _search(
        self, which: c.JobFilter, numbers: Iterator[int], wanted: int | None = None
    ) -> AsyncIterator[list[Job]]:
        """Yield what matches, step by step: claims and settles wait for one step, never for the whole search."""
        done = False
        while not done:
            found, done = await self._read(partial(some_of, self.ledger, which, numbers, wanted))
            wanted = None if wanted is None else wanted - len(found)
            yield found
            if not done:
                await asyncio.sleep(0)

    async def stats(self) -> c.Stats:
        """Counts per queue and state."""
        return await self._read(lambda: stats_of(self.ledger))

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """Wait until all of these have ended, or `timeout` seconds; return those that have."""
        loop = asyncio.get_running_loop()  # real seconds, also under a steered clock: a caller waits for real
        deadline = loop.time() + timeout
        for job_id in ids:
            job = self._known(job_id)
            while not job.final and (left := deadline - loop.time()) > 0:
                await self._endings.wait(job.seq, left)
                job = self._known(job_id)
        return await self._read(lambda: [job for job in map(self._known, ids) if job.final])

    def _known(self, job_id: str) -> Job:
        job = self.ledger.job(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job
