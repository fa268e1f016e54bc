"""What a user holds: tasks, the way to the store, hooks, and the worker that runs it all.

Nothing is opened before its first use. An app is open in one event loop of a process at a time: a closed loop is
replaced by the next one, a second live loop is an error, and code without a loop goes through `.sync` (`portal`), which
uses the loop that holds the store if there is one. After a fork the child opens everything anew.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, overload

from holdfast.app.connection import Connection
from holdfast.app.declarations import Declaration, split_times
from holdfast.app.decorator import TaskDecorator, TaskParameters
from holdfast.app.host import AppHost
from holdfast.app.stickies import Stickies
from holdfast.app.sync import SyncApp
from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigError, UnknownTask
from holdfast.job.outcome import Outcome
from holdfast.task import AsyncTask, JobHandle, Options, PlainTask, Registry, Task, TaskOptions, TaskPrograms
from holdfast.task.handle import decode_any
from holdfast.task.policy import is_async, make_policy
from holdfast.worker.context import Context
from holdfast.worker.hooks import Hooks

if TYPE_CHECKING:
    from types import TracebackType

    from holdfast.app.control import Definitions, Jobs, Queues
    from holdfast.app.inline import Inline
    from holdfast.app.queuerunner import QueueRunner
    from holdfast.app.schedules import Schedules
    from holdfast.app.session import Session
    from holdfast.durations import Duration
    from holdfast.job.model import Job
    from holdfast.schedule.drafts import ScheduleOptions
    from holdfast.schedule.scheduler import Scheduler
    from holdfast.sticky.service import Sticky
    from holdfast.store import Store
    from holdfast.table import TaskTable
    from holdfast.worker.hooks import Middleware, Observer, OnError
    from holdfast.worker.once import Pass
    from holdfast.worker.options import Concurrency
    from holdfast.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Holdfast:
    """Durable tasks on the store that `url` names.

    url: "memory:" (this process, for tests), "journal:./data", "sqlite:///queue.db", "postgresql://…", "mysql://…",
    "http://hub:7420". Further options are the store's. store: a store of your own instead. clock: for tests. router: where
    sticky services keep who owns which key, "memory:" (for one process) or "redis://…", in `namespace`.
    Raises ConfigError at the first use when the URL is none of these.
    """

    def __init__(
        self,
        url: str = "memory:",
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        router: str = "memory:",
        namespace: str = "holdfast",
        **options: Any,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.tasks = Registry()
        self.programs = TaskPrograms(self.tasks)
        #: Task tables that status, metrics and the API of this app's node list beside its queues.
        self.tables: list[TaskTable[Any]] = []
        self._connection = Connection(url, self.clock, store, options)
        self.stickies = Stickies(router, namespace, self.clock, self.open)
        module = sys._getframe(1).f_globals.get("__name__", "__main__")
        self.host = AppHost(self, module, self._connection, self.tasks)
        self._middleware: list[Middleware] = []
        self._on_error: OnError | None = None
        self._lifespan: Callable[..., AbstractAsyncContextManager[Any]] | None = None
        self.declarations: dict[str, Declaration] = {}
        self.schedulers: set[Scheduler] = set()  # that fire in this process

    def __repr__(self) -> str:
        return f"<Holdfast on {self._connection.shown}, {len(self.tasks)} tasks>"

    # --- which store -----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL of its store, password and all; empty when it was given a store."""
        return self._connection.url

    @property
    def store_options(self) -> dict[str, Any]:
        """The options of its store beside the URL."""
        return dict(self._connection.options)

    def use(self, url: str, **options: Any) -> None:
        """Use the store of `url` from now on, whatever the app was made with: for programs that run the apps of others.

        Raises UsageError while a store is open.
        """
        self._connection.use(url, options)

    def lend(self, store: Store) -> None:
        """Use `store`, which is open, until the end: whoever lends it closes it. Raises UsageError while a store is open."""
        self._connection.lend(store)

    # --- tasks -----------------------------------------------------------------------------------------------------

    @overload
    def task(  # type: ignore[overload-overlap]  # of these the first that fits is meant
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R | Outcome]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R | Outcome]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[Concatenate[Context, P], R | Outcome], /) -> PlainTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R | Outcome], /) -> PlainTask[P, R]: ...
    @overload
    def task(self, alias: str | None = None, /, **options: Unpack[TaskParameters]) -> TaskDecorator: ...
    def task(self, alias: Any = None, /, **options: Unpack[TaskParameters]) -> Any:
        """Make a function a task: `@app.task`, or `@app.task("mail.welcome", queue="mail", max_attempts=5)`.

        alias: its name in stores, logs and everywhere else; the function's own name if left out. Options:
        queue; max_attempts (1 = never retry) with backoff=[delays], or retry=RetryPolicy(…); timeout of an attempt;
        executor "async", "thread" or "process" (by the kind of function); retry_on, no_retry_on: exception classes;
        priority -100 … 100; on_wait "hold" or "pass"; title, description, memo for people; cancel_grace: how long a
        handler may take to stop; cron="0 9 * * mon-fri" or every="5m", with zone="Europe/Berlin": a schedule of this name;
        sticky: a service made by `app.sticky`.

        A parameter of type Context is given by the worker and is no argument. Type checkers know that when it comes first,
        or when it has a default: `async def send(user: int, *, ctx: Context = injected)`.
        Raises ConfigError that lists every wrong option, DuplicateTask when the alias is taken.
        """
        local_names = sys._getframe(1).f_locals
        if callable(alias):
            return self._add(alias, None, TaskOptions(), local_names)
        unknown = options.keys() - TaskParameters.__annotations__.keys()
        if unknown:
            known = ", ".join(TaskParameters.__annotations__)
            raise ConfigError(
                f"@app.task: unknown option {', '.join(map(repr, sorted(unknown)))}. Expected some of {known}."
            )
        times, given = split_times(options)
        policy = TaskOptions(**given)
        return lambda function: self._add(function, alias, policy, local_names, times)

    def _add(
        self,
        function: Any,
        alias: str | None,
        options: TaskOptions,
        local_names: Mapping[str, Any],
        times: Mapping[str, Any] | None = None,
    ) -> Task[Any, Any]:
        if isinstance(function, Task):
            raise ConfigError(f"{function!r} is a task already. Put @app.task once, above the plain function.")
        name = alias if alias is not None else getattr(function, "__name__", type(function).__name__)
        policy = make_policy(name, function, options)
        made: Task[Any, Any] = (AsyncTask if is_async(function) else PlainTask)(
            self.host, function, policy, local_names
        )
        declaration = Declaration.checked(made.alias, made.alias, {}, times) if times else None
        self.tasks.add(made)
        if declaration is not None:
            self.declarations[made.alias] = declaration
        return made

    def schedule(
        self,
        name: str,
        task: Task[Any, Any] | str,
        arguments: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Declare a schedule: it is made, or brought up to date, whenever a worker of this app starts.

        `app.schedule("report.nightly", report, {"kind": "full"}, cron="0 3 * * *", zone="Europe/Berlin")`; for the options
        see ScheduleOptions. What people pause or delete stays so. Raises ConfigError that lists every wrong option.
        """
        alias = task.alias if isinstance(task, Task) else task
        if name in self.declarations:
            raise ConfigError(f"schedule {name!r}: expected one of this name, found a second. Choose another name.")
        self.declarations[name] = Declaration.checked(name, alias, arguments or {}, options)

    def sticky(
        self, name: str, *, ttl: Duration = "2m", on_lost: str = "rebind", max_keys: int | None = None
    ) -> Sticky:
        """Make a service whose jobs run in the process where the state of their key lives.

        `chat = app.sticky("chat")`, then `@app.task(sticky=chat)` and `.using(key="user:42")`; `@chat.state` above a function
        builds the state. ttl: how long a key without jobs keeps its state. on_lost: "rebind", "wait" or "fail", when the
        process that had it is lost. max_keys: how many states one process keeps (10,000). Raises ConfigError.
        """
        return self.stickies.add(name, ttl, on_lost, max_keys)

    async def enqueue(
        self, alias: str, arguments: Mapping[str, Any] | None = None, /, **options: Unpack[Options]
    ) -> JobHandle[Any]:
        """Enqueue a job of a task by name, with arguments by name; options as in `using`.

        The task may live elsewhere: then the store must know it. Raises UnknownTask that names near ones, TaskInactive,
        and what `task.enqueue` raises.
        """
        if not isinstance(alias, str):
            raise UnknownTask(alias, self.tasks.aliases())
        task = self.tasks.get(alias)
        if task is not None:
            bound = task.using(**options)
            answer = await self.host.submit(bound.job_from(arguments or {}), bound.on_duplicate, options.get("tx"))
            return JobHandle(self.host, answer, task.decode_result)
        from holdfast.app.byname import job_of

        session = await self._connection.session()
        found = await session.definition(alias, self.tasks.aliases())
        job, on_duplicate = job_of(found, arguments or {}, options, self.host.new_id)
        answer = await self.host.submit(job, on_duplicate, options.get("tx"))
        return JobHandle(self.host, answer, decode_any)

    # --- hooks -----------------------------------------------------------------------------------------------------

    def lifespan(self, function: F) -> F:
        """Run an async generator function around each worker process; what it yields is `ctx.state`.

        `@app.lifespan` above `async def life(): … yield state …`. It may take the app as its argument.
        """
        if self._lifespan is not None:
            raise ConfigError("lifespan: expected one, found a second. Join them in one function.")
        target: Any = function
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise ConfigError(
                f"lifespan: expected an async def with one yield, or an async context manager, found {function!r:.80}. "
                "Yield once (what is yielded becomes ctx.state); what stands behind the yield runs at the end."
            )
        self._lifespan = asynccontextmanager(target) if inspect.isasyncgenfunction(function) else target
        return function

    def lifespan_context(self) -> AbstractAsyncContextManager[Any]:
        """The lifespan, to be entered by a worker process; nothing if there is none."""
        if self._lifespan is None:
            return nullcontext()
        takes_app = bool(inspect.signature(self._lifespan).parameters)
        return self._lifespan(self) if takes_app else self._lifespan()

    def middleware(self, function: F) -> F:
        """Run `async (ctx, call_next) -> outcome` around each attempt; the first one is the outermost.

        Raises ConfigError for a plain function: it could not wait for the handler.
        """
        target: Any = function
        if not (inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)):
            raise ConfigError(
                f"middleware: expected an async function (ctx, call_next), found {function!r:.80}. Write async def."
            )
        self._middleware.append(function)
        return function

    def on_enqueue(self, function: F) -> F:
        """Let `function(job) -> job`, sync or async, look at and change every job before it is stored."""
        self.host.on_enqueue.append(function)
        return function

    def on_error(self, function: F) -> F:
        """Call `function(queue, job, error)`, sync or async, for every failed attempt and infrastructure error."""
        if self._on_error is not None:
            raise ConfigError("on_error: expected one function, found a second. Call both from one.")
        self._on_error = function
        return function

    def hooks(self, observers: Sequence[Observer] = ()) -> Hooks:
        """What a worker of this app listens to."""
        return Hooks(middleware=tuple(self._middleware), on_error=self._on_error, observers=observers)

    # --- control, imported when it is used -------------------------------------------------------------------------

    @functools.cached_property
    def jobs(self) -> Jobs:
        """Read jobs and steer them."""
        from holdfast.app.control import Jobs

        return Jobs(self.open)

    @functools.cached_property
    def queues(self) -> Queues:
        """Look at queues and change their policy."""
        from holdfast.app.control import Queues

        return Queues(self.open)

    @functools.cached_property
    def definitions(self) -> Definitions:
        """The tasks that the store knows."""
        from holdfast.app.control import Definitions

        return Definitions(self.open, self.session)

    @functools.cached_property
    def schedules(self) -> Schedules:
        """Make schedules and steer them."""
        from holdfast.app.schedules import Schedules

        return Schedules(self)

    # --- running ---------------------------------------------------------------------------------------------------

    def run(
        self, queues: Mapping[str, Concurrency] | None = None, *, processes: int | None = None, **options: Any
    ) -> int:
        """Work on `queues` until a signal says stop; return the exit code: 0, or 75 when handlers would not stop.

        queues: name -> how many jobs at once, or "serial". processes: work in so many processes under this one, which starts,
        watches and restarts them; each imports the app by its module name. Options are those of WorkerOptions.
        SIGTERM or SIGINT: once drains, twice cancels the handlers, three times exits now.
        """
        from holdfast.app.running import run

        if processes is None:
            return run(self, queues, options)
        from holdfast.app.processes import run_processes

        return run_processes(self, self.host.app_name("app.run(processes=…)"), processes, queues, options)

    def worker(
        self, queues: Mapping[str, Concurrency] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Worker[Job]]:
        """Work on `queues` within `async with`, without signals: for an app that has a loop of its own."""
        from holdfast.app.running import embed

        return embed(self, queues, options)

    def runner(self, queues: Mapping[str, Concurrency] | None = None, **options: Any) -> QueueRunner:
        """Return a runner of queues that are started and stopped one by one: start, stop, is_running, run_once."""
        from holdfast.app.queuerunner import QueueRunner

        return QueueRunner(self, queues, **options)

    async def work_once(
        self, limit: int = 100, queues: Mapping[str, Concurrency] | None = None, **options: Any
    ) -> Pass:
        """Make one pass: run up to `limit` jobs that are ready, and return what became of them. All queues by default."""
        from holdfast.app.running import passes

        async with passes(self, queues, options) as make_pass:
            return await make_pass(limit)

    # --- code without a loop, tests --------------------------------------------------------------------------------

    @property
    def sync(self) -> SyncApp:
        """The way in for code without a loop: `app.sync.enqueue(…)`, `app.sync(app.jobs.count())`."""
        return SyncApp(self)

    @contextmanager
    def testing(self, *, inline: bool = True) -> Iterator[Inline]:
        """Within `with`, run each job at the moment it is enqueued, and let the enqueue raise what it raises.

        Nothing is stored; the value of `with` keeps the jobs that were run. With inline=False they are stored as ever,
        for `drain` and `assert_enqueued`.
        """
        from holdfast.app.inline import Inline

        before, chosen = self.host.inline, Inline(self)
        self.host.inline = chosen if inline else None
        try:
            yield chosen
        finally:
            self.host.inline = before

    # --- life ------------------------------------------------------------------------------------------------------

    async def session(self) -> Session:
        """The open store in the running loop, with what belongs to it; for the parts of Holdfast."""
        return await self._connection.session()

    async def open(self) -> Store:
        """Open the store in the running loop, if it is not, and return it. Raises UsageError in a second live loop."""
        return (await self._connection.session()).store

    async def close(self) -> None:
        """Write what has gathered and close the store. The next use opens it again."""
        await self.stickies.close()
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Open the store."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        await self.close()
