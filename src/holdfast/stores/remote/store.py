"""The Store port over the HTTP API: for producers, workers and commands in processes that do not own the store."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET

from holdfast.errors import ContentError, OutcomeUnknown, StoreClosed
from holdfast.job import commands as c
from holdfast.job.ids import check_name
from holdfast.job.ledger.admin import check_queue, check_texts
from holdfast.job.model import Instance, Queue, WorkerConfig
from holdfast.store import Capabilities
from holdfast.stores.remote.http import AnswerLost
from holdfast.wire import requests as r
from holdfast.wire.cleaning import cleaned, sane
from holdfast.wire.definitions import DefinitionDoc, ScheduleDoc, definition_of, schedule_doc, schedule_of
from holdfast.wire.documents import EnqueuedDoc, JobDoc, PageDoc, claims_of, job_doc, job_of, page_of, without_item
from holdfast.wire.newjobs import new_job_doc
from holdfast.wire.orders import operation_of, ordered_of, request_doc
from holdfast.wire.problems import MEDIA_TYPE, Problem, error_of, http_problem
from holdfast.wire.records import FigureDoc, FiguresOf, RecordsBatch, audit_doc, figure_doc, figure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.clock import Clock
    from holdfast.job.facts import Figured
    from holdfast.job.model import Definition, Job, NewJob, Operation, Schedule
    from holdfast.stores.remote.http import Answer, HttpClient

T = TypeVar("T")

BASE: Final = "/api/v1"
#: The longest wait that one request asks for, in seconds.
_WAIT_PIECE: Final = 20.0
#: What one request of settlements may weigh, in bytes: well below what the server takes.
_SETTLE_BYTES: Final = 8 * 1024 * 1024
#: How many links one request carries.
_LINKS_MAX: Final = 1_000
_encode: Final = msgspec.json.Encoder().encode


class _StoreDoc(msgspec.Struct, frozen=True):
    capabilities: Capabilities
    now: float


class _QueueDoc(msgspec.Struct, frozen=True):
    queue: Queue


class RemoteStore:
    """A store that another process owns. `open` asks what it can do; every call is one request."""

    def __init__(self, client: HttpClient, *, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._is_open = False
        self._ahead = 0.0  # seconds by which the store's clock is ahead of ours
        self._capabilities = Capabilities(durable=True, push=True, many_processes=True, transactional=False)

    @property
    def capabilities(self) -> Capabilities:
        """What the store behind can do; other processes share it, and no transaction reaches it."""
        return self._capabilities

    # --- one request

    async def ask(
        self,
        method: str,
        path: str,
        kind: type[T] | Any,
        body: object = UNSET,
        *,
        timeout: float = 30.0,
        repeatable: bool = False,
    ) -> Any:
        """Send one request below /api/v1 and return its answer as `kind`. Raises the error that the other side names."""
        if not self._is_open:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
        try:
            content = None if body is UNSET else _encode(body)
        except UnicodeEncodeError as error:
            raise ContentError(f"expected valid Unicode, found a lone surrogate ({error.reason}). Clean it.") from None
        answer = await self._client.request(method, BASE + path, content, timeout=timeout, repeatable=repeatable)
        if answer.status >= 400:
            raise error_of(_problem(answer))
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as error:
            raise OutcomeUnknown(
                f"{self._client.address}: {method} {path}: expected an answer of this version, found another ({error}). "
                "Use the same version on both sides."
            ) from error

    # --- life

    async def open(self) -> None:
        """Ask what the store can do and what time it has."""
        before = self._clock.now()
        self._is_open = True
        try:
            doc: _StoreDoc = await self.ask("GET", "/store", _StoreDoc)
        except BaseException:
            await self.close()
            raise
        self._ahead = doc.now - (before + self._clock.now()) / 2
        self._capabilities = msgspec.structs.replace(
            doc.capabilities, many_processes=True, transactional=False, holds_claims=True
        )

    async def close(self) -> None:
        """Let the connections go."""
        self._is_open = False
        await self._client.close()

    async def migrate(self) -> list[str]:
        """Have the owner bring the schema up to date."""
        done: r.Names = await self.ask("POST", "/store/migrate", r.Names, timeout=600.0)
        return list(done.names)

    def now(self) -> float:
        """The store's clock, as far as this process knows."""
        return self._clock.now() + self._ahead

    # --- the hot path

    async def enqueue(
        self, jobs: Iterable[NewJob], *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE
    ) -> list[c.Enqueued]:
        """Store all jobs or none."""
        jobs = tuple(jobs)
        batch = r.EnqueueBatch(jobs=tuple(map(new_job_doc, jobs)), on_duplicate=on_duplicate)
        # Ids made by engines are known again; a caller's own id would be refused as a duplicate of itself.
        repeatable = not any(job.own_id or job.unique for job in jobs)
        docs = await self.ask("POST", "/store/enqueue", list[EnqueuedDoc], batch, repeatable=repeatable)
        return [c.Enqueued(c.Verdict(doc.verdict), job_of(doc.job)) for doc in docs]

    async def claim(self, want: c.Want) -> c.Claims[Job]:
        """Hand out ready jobs; with `wait`, as soon as there are some. An answer that was lost is asked for once more."""
        request = want.request or uuid.uuid4().hex
        want = msgspec.structs.replace(want, local=False, request=request, wait=min(want.wait, _WAIT_PIECE))
        try:
            return await self._claim(want)
        except AnswerLost:
            # It may have handed out claims: the same request gets the same ones, and waits no longer.
            return await self._claim(msgspec.structs.replace(want, wait=0.0))

    async def _claim(self, want: c.Want) -> c.Claims[Job]:
        timeout = want.wait + 30.0
        return claims_of(
            await self.ask("POST", "/store/claim", c.Claims[JobDoc], want, timeout=timeout, repeatable=True)
        )

    async def settle(self, settlements: Sequence[c.Settlement[Job]]) -> list[c.Settled]:
        """End attempts, each on its own."""
        answers: list[c.Settled] = []
        for piece in _pieces([_bare(one) for one in settlements]):
            batch = b'{"settlements":[' + b",".join(piece) + b"]}"
            answers += await self.ask("POST", "/store/settle", list[c.Settled], msgspec.Raw(batch), repeatable=True)
        return answers

    async def progress(self, reports: Sequence[c.Progress[Job]]) -> list[c.Settled]:
        """Write what running attempts report."""
        bare = [
            c.Progress(claim=without_item(one.claim), value=one.value, update=one.update, log=one.log)
            for one in reports
        ]
        answers: list[c.Settled] = []
        for piece in _pieces(bare):
            batch = b'{"reports":[' + b",".join(piece) + b"]}"
            answers += await self.ask("POST", "/store/progress", list[c.Settled], msgspec.Raw(batch))
        return answers

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases; may be called from a thread with a loop of its own."""
        answer: c.Signals = await self.ask("POST", "/store/heartbeat", c.Signals, beat, timeout=10.0, repeatable=True)
        return answer

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed, promote what is due, prune."""
        answer: c.Rescued = await self.ask("POST", "/store/rescue", c.Rescued, r.Rescue(limit=limit), repeatable=True)
        return answer

    async def instance_died(self, died: c.InstanceDied) -> int:
        """End the claims of a dead process, as crashed."""
        answer: r.Count = await self.ask("POST", "/store/instance-died", r.Count, died)
        return answer.count

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Return True as soon as something came that `cursor` did not see."""
        deadline = self._clock.monotonic() + timeout
        while (left := deadline - self._clock.monotonic()) >= 0:
            piece = min(left, _WAIT_PIECE)
            asked = r.WaitFor(queues=tuple(queues), cursor=cursor, timeout=piece)
            answer: r.Ready = await self.ask(
                "POST", "/store/wait", r.Ready, asked, timeout=piece + 30.0, repeatable=True
            )
            if answer.ready:
                return True
            if piece == left:
                break
        return False

    # --- control

    async def control(self, order: c.Order) -> c.Ordered:
        """Do an action on a selection; an operation by filter is run to its end."""
        timeout = 30.0 if order.selection.ids else 3_600.0
        return ordered_of(
            await self.ask("POST", "/job-actions", r.ActionAnswer, cleaned(request_doc(order)), timeout=timeout)
        )

    async def operations(self) -> list[Operation]:
        """Bulk operations, newest first."""
        return [operation_of(doc) for doc in await self.ask("GET", "/operations", list[r.OperationDoc])]

    async def cancel_operation(self, operation_id: str, who: str = "") -> Operation:
        """Stop a bulk operation after the batch it is in."""
        path = f"/operations/{quote(operation_id)}"
        return operation_of(await self.ask("DELETE", path, r.OperationDoc, r.Who(who=who)))

    # --- queues

    async def queues(self) -> list[Queue]:
        """All queues, by name."""
        docs: list[_QueueDoc] = await self.ask("GET", "/queues", list[_QueueDoc])
        return [doc.queue for doc in docs]

    async def change_queue(self, change: c.ChangeQueue) -> Queue:
        """Change a queue's policy, or pause and resume it."""
        # Checked here as well: an address holds no name that is none, and JSON no text that is none.
        check_queue(change)
        fields = {name: getattr(change, name) for name in change.__struct_fields__ if name != "name"}
        body = {name: value for name, value in fields.items() if value is not UNSET}
        queue: Queue = await self.ask("PATCH", f"/queues/{quote(change.name)}", Queue, body)
        return queue

    async def delete_queue(self, name: str, who: str = "") -> None:
        """Forget a queue without unfinished jobs."""
        await self.ask("DELETE", f"/queues/{quote(name)}", r.Who, r.Who(who=who))

    # --- definitions

    async def define(self, definitions: Sequence[c.Define]) -> list[Definition]:
        """Make or refresh definitions from code."""
        for one in definitions:
            check_texts(one)
            check_name(one.alias, "alias")
        body = r.Definitions(definitions=tuple(definitions))
        return [definition_of(doc) for doc in await self.ask("POST", "/definitions", list[DefinitionDoc], body)]

    async def definition(self, alias_or_id: str) -> Definition:
        """One definition, also a deleted one."""
        return definition_of(await self.ask("GET", f"/definitions/{quote(alias_or_id)}", DefinitionDoc))

    async def definitions(self, which: c.DefinitionFilter) -> list[Definition]:
        """Definitions by alias."""
        query = [("alias", alias) for alias in which.aliases]
        query += _pairs(status=which.status, deleted=which.deleted, limit=which.limit, offset=which.offset)
        docs = await self.ask("GET", f"/definitions?{urlencode(query)}", list[DefinitionDoc])
        return [definition_of(doc) for doc in docs]

    async def change_definition(self, change: c.ChangeDefinition) -> Definition:
        """Edit, cancel, activate or soft-delete."""
        check_texts(change)
        if change.new_alias is not UNSET:
            check_name(change.new_alias, "new alias")
        fields = {name: getattr(change, name) for name in change.__struct_fields__ if name != "alias"}
        body = {name: value for name, value in fields.items() if value is not UNSET}
        return definition_of(await self.ask("PATCH", f"/definitions/{quote(change.alias)}", DefinitionDoc, body))

    async def delete_definition(self, alias_or_id: str, who: str = "") -> None:
        """Forget a definition that nothing uses."""
        await self.ask("DELETE", f"/definitions/{quote(alias_or_id)}", r.Who, r.Who(who=who))

    # --- schedules and workers

    async def save_schedule(self, schedule: Schedule, *, expect: int | None = None) -> Schedule:
        """Make or replace a schedule."""
        path = "/schedules" if expect is None else f"/schedules?expect={expect}"
        return schedule_of(await self.ask("PUT", path, ScheduleDoc, schedule_doc(schedule)))

    async def schedules(self, *, deleted: bool = False) -> list[Schedule]:
        """All schedules, by name."""
        path = f"/schedules?{urlencode(_pairs(deleted=deleted))}"
        return [schedule_of(doc) for doc in await self.ask("GET", path, list[ScheduleDoc])]

    async def fire_schedule(self, name: str, due: float, jobs: Sequence[NewJob], next_run_at: float | None) -> bool:
        """Enqueue a tick's jobs if nobody else was first."""
        fire = r.Fire(name=name, due=due, jobs=tuple(map(new_job_doc, jobs)), next_run_at=next_run_at)
        answer: r.Ready = await self.ask("POST", "/schedules/fire", r.Ready, fire)
        return answer.ready

    async def instances(self) -> list[Instance]:
        """Live and lately lost worker processes."""
        found: list[Instance] = await self.ask("GET", "/instances", list[Instance])
        return found

    async def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Make or replace a worker's configuration."""
        saved: WorkerConfig = await self.ask("PUT", "/workers", WorkerConfig, config)
        return saved

    async def workers(self) -> list[WorkerConfig]:
        """All configured workers, by name."""
        found: list[WorkerConfig] = await self.ask("GET", "/workers", list[WorkerConfig])
        return found

    async def delete_worker(self, name: str) -> None:
        """Forget a worker's configuration."""
        await self.ask("DELETE", f"/workers/{quote(name)}", r.Names)

    # --- keys and their owners

    async def bind(self, links: Sequence[c.KeyLink]) -> list[c.BoundKey]:
        """Give keys to worker processes, or take them away."""
        answers: list[c.BoundKey] = []
        for start in range(0, len(links), _LINKS_MAX):
            body = c.Bind(tuple(links[start : start + _LINKS_MAX]))
            answers += await self.ask("POST", "/store/bind", list[c.BoundKey], body, repeatable=True)
        return answers

    async def links(self, which: c.LinkFilter) -> list[c.KeyLink]:
        """The newest links, by service and key."""
        found: list[c.KeyLink] = await self.ask("POST", "/store/links", list[c.KeyLink], which, repeatable=True)
        return found

    # --- moves between stores

    async def import_jobs(self, jobs: Sequence[Job], epoch: int) -> Sequence[c.Ruling]:
        """Take in jobs of another store; `epoch`: the highest that it gave out tokens under."""
        body = r.ImportBatch(jobs=tuple(map(job_doc, jobs)), epoch=epoch)
        docs: list[r.RulingDoc] = await self.ask(
            "POST", "/import", list[r.RulingDoc], body, timeout=120.0, repeatable=True
        )
        return [c.Ruling(doc.id, doc.done, doc.why) for doc in docs]

    async def import_records(self, records: c.ImportRecords) -> int:
        """Take in figures and audit entries of another store; tell how many were not there."""
        figures, audit = tuple(map(figure_doc, records.figures)), tuple(map(audit_doc, records.audit))
        body = RecordsBatch(figures=figures, audit=audit)
        answer: r.Count = await self.ask("POST", "/import/records", r.Count, body, timeout=120.0, repeatable=True)
        return answer.count

    async def kept_figures(self, span: int, first: int, last: int) -> list[Figured]:
        """What was counted in minutes or hours (span: 60 or 3,600), from the `first` to the `last` since the epoch."""
        body = FiguresOf(span=span, first=first, last=last)
        docs: list[FigureDoc] = await self.ask("POST", "/store/figures", list[FigureDoc], body, repeatable=True)
        return [figure_of(doc) for doc in docs]

    # --- reads

    async def jobs(self, ids: Sequence[str]) -> list[Job | None]:
        """The jobs of these ids, in their order."""
        body = r.Lookup(ids=tuple(ids))
        docs = await self.ask("POST", "/store/lookup", list[JobDoc | None], body, repeatable=True)
        return [job_of(doc) if doc is not None else None for doc in docs]

    async def find(self, which: c.JobFilter, page: c.Page) -> c.JobPage:
        """Jobs in keyset pages, with all their attempts."""
        body = cleaned(r.Find(filter=which, page=page))
        return page_of(await self.ask("POST", "/store/find", PageDoc, body, repeatable=True))

    async def count(self, which: c.JobFilter) -> c.JobCount:
        """How many jobs match, or about how many."""
        body = cleaned(r.Find(filter=which))
        answer: r.Counted = await self.ask("POST", "/store/count", r.Counted, body, repeatable=True)
        return answer.number

    async def stats(self) -> c.Stats:
        """Counts per queue and state."""
        stats: c.Stats = await self.ask("GET", "/stats", c.Stats)
        return stats

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        """Wait until all of these have ended, or `timeout` seconds; return those that have."""
        deadline = self._clock.monotonic() + timeout
        while True:
            left = deadline - self._clock.monotonic()
            piece = min(max(left, 0.0), _WAIT_PIECE)
            asked = r.Lookup(ids=tuple(ids), timeout=piece)
            docs = await self.ask("POST", "/store/lookup", list[JobDoc], asked, timeout=piece + 30.0, repeatable=True)
            if len(docs) == len(ids) or left <= _WAIT_PIECE:
                return [job_of(doc) for doc in docs]


def _problem(answer: Answer) -> Problem:
    if answer.media_type == MEDIA_TYPE:
        try:
            return msgspec.json.decode(answer.body, type=Problem)
        except msgspec.DecodeError:
            pass  # a proxy may have cut it; the status says what is left to say
    return http_problem(answer.status, f"the answer was {answer.body[:200]!r}")


def _bare(settlement: c.Settlement[Any]) -> c.Settlement[None]:
    return c.Settlement(
        claim=without_item(settlement.claim),
        ending=sane(settlement.ending),
        duration=settlement.duration,
        log=settlement.log,
        trace_id=settlement.trace_id,
        span_id=settlement.span_id,
    )


def _pieces(items: Sequence[object]) -> list[list[bytes]]:
    """Encode items and cut them into requests that the server takes."""
    pieces: list[list[bytes]] = []
    size = math.inf
    for item in items:
        data = _encode_any(item)
        if size + len(data) > _SETTLE_BYTES:
            pieces.append([])
            size = 0
        pieces[-1].append(data)
        size += len(data) + 1
    return pieces


def _encode_any(item: object) -> bytes:
    try:
        return _encode(item)
    except UnicodeEncodeError:
        return _encode(cleaned(item))


def _pairs(**values: Any) -> list[tuple[str, str]]:
    """Return query parameters for the values that are given."""
    return [(name, _shown(value)) for name, value in values.items() if value not in (None, "", False)] + [
        (name, "false") for name, value in values.items() if value is False and name == "newest_first"
    ]


def _shown(value: object) -> str:
    return "true" if value is True else repr(value) if isinstance(value, float) else str(value)
