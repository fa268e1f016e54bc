"""The one error tree. A message says what was expected, what was found, and what to do.

HoldfastError
├── ConfigError           a setting, URL, name or option is wrong; nothing was started
│   ├── MissingExtra      a driver is not installed; the message names the extra
│   ├── BadAppModule      `module:app` does not import or holds no Holdfast
│   ├── BadModel          a model can not be a task table
│   └── MissingTable      a task table's table or columns are not in the database; the message holds the DDL
├── ContentError          a value can not be stored or sent; nothing was stored
│   ├── BadArguments      arguments do not fit the task's signature
│   ├── BadRow            a new row of a task table has no id, or a state that no new row has
│   ├── BadColumns        an update names columns that the model does not have or that are not the user's
│   ├── TooLarge          a payload, result, text or batch is over its limit
│   └── BadTime           a duration or a time is not one we accept
├── TaskError
│   ├── UnknownTask       no task of that alias
│   ├── TaskInactive      the task's definition is canceled or deleted
│   └── DuplicateTask     two tasks of one alias
├── StoreError            the store refused or could not
│   ├── DuplicateJob      an id or a unique key is taken
│   ├── DuplicateRow      an id of a task table is taken
│   ├── UnknownJob        no job of that id
│   ├── UnknownRow        no row of that id
│   ├── UnknownQueue / UnknownSchedule / UnknownWorker / UnknownOperation
│   ├── Conflict          the thing changed, or its state forbids the step
│   │   └── IllegalTransition   the state table has no such row
│   ├── LeaseLost         a later claim holds the job
│   ├── StoreClosed       used before open or after close
│   ├── StoreUnavailable  can be tried again: nothing is known to be stored
│   │   ├── StoreFull     no room; settling goes on
│   │   └── NodeNotRunning  nobody serves the data folder
│   ├── OutcomeUnknown    may or may not be stored; ask by the job's id
│   └── StoreCorrupt      damage was found; nothing was changed
├── RouterError           the router refused or could not
│   ├── RouterUnavailable it can not be reached now; ask again
│   ├── RouterDataError   a stored value is not Holdfast's
│   ├── NoPod             no pod of the service can take the key
│   ├── UnknownPod        no pod of that number, and no keys of one
│   └── PodLost           the pod that held the key's state is gone, and its jobs shall fail
├── WorkerError           the worker could not do its work
│   └── UsageError        an API was called where it can not work (`.sync` in a running loop …)
└── JobFailed             raised by `await job.result()`: the job ended without a result
    ├── JobCanceled
    └── ResultTimeout     the job has not ended yet
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class HoldfastError(Exception):
    """Every error that Holdfast raises on purpose."""


class ConfigError(HoldfastError):
    """A setting is wrong. `faults` lists all of them, so that one run shows the whole list."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join([message, *(f"  - {fault}" for fault in self.faults)]))


class MissingExtra(ConfigError):
    """A driver is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs a package that is not installed. Run: pip install 'holdfast[{extra}]'")


class BadAppModule(ConfigError):
    """`module:app` can not be imported, or is not a Holdfast."""


class BadModel(ConfigError):
    """A model can not be a task table. `faults` lists why."""

    def __init__(self, model: str, faults: Sequence[str]) -> None:
        super().__init__(f"model {model} can not be a task table:", faults)


class MissingTable(ConfigError):
    """A task table, or columns of it, are not in the database. `ddl` makes them."""

    def __init__(self, table: str, what: str, ddl: str) -> None:
        self.table, self.ddl = table, ddl
        super().__init__(
            f"task table {table!r}: expected it in the database with all columns of its model, found {what}. "
            f"Run a migration, or this:\n\n{ddl}"
        )


class ContentError(HoldfastError):
    """A value can not be stored. Nothing was."""


class BadRow(ContentError):
    """A new row of a task table can not be stored. `row` is its place in the batch, from 0. Nothing was stored."""

    def __init__(self, row: int, row_id: str, fault: str) -> None:
        self.row, self.row_id = row, row_id
        super().__init__(f"row {row} of the batch (id {row_id}): {fault} Nothing of this batch was stored.")


class BadColumns(ContentError):
    """An update of a task table's row can not be stored. `columns` are the names that are refused."""

    def __init__(self, columns: Sequence[str], message: str) -> None:
        self.columns = tuple(columns)
        super().__init__(message)


class BadArguments(ContentError):
    """Arguments do not fit the task."""


class TooLarge(ContentError):
    """Something is over its limit; the message names both sizes."""

    def __init__(self, what: str, found: int, limit: int, unit: str, advice: str) -> None:
        self.found, self.limit = found, limit
        super().__init__(f"{what}: expected at most {limit:,} {unit}, found {found:,}. {advice}")


class BadTime(ContentError):
    """A duration or a time is not one we accept."""


class TaskError(HoldfastError):
    """Something is wrong with a task's definition."""


class UnknownTask(TaskError):
    """No task of that alias."""

    def __init__(self, alias: str, known: Sequence[str] = ()) -> None:
        self.alias = alias
        names = ", ".join(sorted(known)[:8]) or "none"
        super().__init__(
            f"unknown task {alias!r}: no @app.task and no definition has this alias (known: {names}). "
            "Check the spelling, or import the module that defines it."
        )


class TaskInactive(TaskError):
    """The task's definition is canceled or deleted."""

    def __init__(self, alias: str, status: str) -> None:
        self.alias, self.status = alias, status
        remedy = "Restore" if status == "deleted" else "Activate"
        super().__init__(
            f"task {alias!r} is {status}: expected an active definition. {remedy} it to enqueue jobs of it again."
        )


class DuplicateTask(TaskError):
    """Two functions claim one alias."""


class StoreError(HoldfastError):
    """The store refused, or could not."""


class DuplicateJob(StoreError):
    """An id or a unique key is taken. `taken` maps what was asked to the id of the job that holds it."""

    def __init__(self, taken: dict[str, str]) -> None:
        self.taken = taken
        shown = ", ".join(f"{wanted!r} (held by job {holder})" for wanted, holder in list(taken.items())[:5])
        more = f" and {len(taken) - 5} more" if len(taken) > 5 else ""
        super().__init__(
            f"already taken: {shown}{more}. Nothing of this batch was stored. "
            "Use another id or unique key, or choose a conflict action (on_conflict=…)."
        )


class UnknownJob(StoreError):
    """No job of that id: it never was, or retention has removed it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"unknown job {job_id!r}: it was never enqueued here, or retention has purged it.")


class DuplicateRow(StoreError):
    """Ids of a task table are taken. `ids` are those of the refused batch, as they were given."""

    def __init__(self, table: str, ids: Sequence[object]) -> None:
        self.ids = tuple(ids)
        shown = ", ".join(repr(one) for one in self.ids[:5])
        more = f" and {len(self.ids) - 5} more" if len(self.ids) > 5 else ""
        super().__init__(
            f"task table {table!r}: already there: {shown}{more}. Nothing of this batch was stored. "
            'Use other ids, or on_duplicate="report" to keep the rows that exist.'
        )


class UnknownRow(StoreError):
    """No row of that id in a task table."""

    def __init__(self, table: str, row_id: object) -> None:
        self.row_id = row_id
        super().__init__(f"task table {table!r}: no row has the id {row_id!r:.200}.")


class UnknownQueue(StoreError):
    """No queue of that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"unknown queue {name!r}: a queue comes into being when a job is first enqueued into it.")


class UnknownSchedule(StoreError):
    """No schedule of that name."""


class UnknownWorker(StoreError):
    """No worker of that name."""


class UnknownOperation(StoreError):
    """No bulk operation of that id."""


class Conflict(StoreError):
    """The thing changed meanwhile, or its state forbids this step."""


class IllegalTransition(Conflict):
    """The state table has no row for this."""

    def __init__(self, subject: str, state: str, event: str) -> None:
        self.state, self.event = state, event
        super().__init__(f"{subject}: no transition from state {state!r} by event {event!r}.")


class LeaseLost(StoreError):
    """Another claim holds the job now, or it was settled."""

    def __init__(self, job_id: str, token: int) -> None:
        self.job_id, self.token = job_id, token
        super().__init__(
            f"job {job_id}: expected to hold token {token}, but a later claim or a settle has ended it. "
            "Drop this result; if it recurs, lengthen the lease or look for blocked event loops."
        )


class StoreClosed(StoreError):
    """Used before it was opened or after it was closed."""


class StoreUnavailable(StoreError):
    """The store can not answer now; nothing was stored; it is safe to try again."""


class StoreFull(StoreUnavailable):
    """No room for new jobs. Settling goes on from the reserve."""


class NodeNotRunning(StoreUnavailable):
    """No node serves this data folder."""

    def __init__(self, data: str) -> None:
        self.data = data
        super().__init__(
            f"no node is running on {data}: expected one that answers at {data}/node.sock. "
            "Start it with `holdfast run module:app`, or name its folder with --data."
        )


class OutcomeUnknown(StoreError):
    """The connection or the disk failed in mid-step: it may or may not be stored. Ask by the job's id."""


class NoHistory(StoreError):
    """This process has no history to ask."""

    def __init__(self) -> None:
        super().__init__(
            "this process keeps no history: expected a store with one, as a journal, SQLite, PostgreSQL or MySQL have. "
            "Ask the node that owns the store."
        )


class StoreCorrupt(StoreError):
    """Damage below what was acknowledged. Nothing was changed; the message names file and offset."""


class RouterError(HoldfastError):
    """The router refused or could not."""


class RouterUnavailable(RouterError):
    """The router can not be reached now. Nothing is known to have changed; ask again."""


class RouterDataError(RouterError):
    """A value in the router's store was not written by Holdfast. The message names its key."""


class NoPod(RouterError):
    """No pod of a service can take a key now."""

    def __init__(self, service: str, why: str) -> None:
        self.service = service
        super().__init__(f"service {service!r}: expected a pod that takes new keys, found none: {why}. Start a worker.")


class UnknownPod(RouterError):
    """A service has no pod of that number, nor keys that one has left behind."""

    def __init__(self, service: str, pod: int, known: Sequence[int] = ()) -> None:
        self.service, self.pod = service, pod
        names = ", ".join(map(str, sorted(known)[:8])) or "none: no worker of it lives"
        super().__init__(
            f"service {service!r}: unknown pod {pod} (known: {names}). Check the number, the service and the namespace."
        )


class PodLost(RouterError):
    """The pod that held a key's state was lost, and the service's jobs shall fail then."""

    def __init__(self, service: str, key: str) -> None:
        self.service, self.key = service, key
        super().__init__(
            f"service {service!r}: the pod that owned key {key!r} was lost with its state while this job waited, and "
            'on_lost="fail" says to fail then. Enqueue it again, or retry it.'
        )


class WorkerError(HoldfastError):
    """The worker could not do its work."""


class UsageError(WorkerError):
    """An API was called where it can not work; the message names the form that does."""


class JobFailed(HoldfastError):
    """The job ended without a result. `error` is the text of its last error."""

    def __init__(self, job_id: str, state: str, error: str) -> None:
        self.job_id, self.state, self.error = job_id, state, error
        super().__init__(f"job {job_id} {state}: {error or 'no reason was given'}")


class JobCanceled(JobFailed):
    """The job was canceled."""


class ResultTimeout(JobFailed):
    """The job has not ended within the time given; it goes on."""
