"""A task: a function, its policy, its typed arguments; and the views of it through which jobs are enqueued."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, Unpack

import msgspec

from holdfast.errors import BadArguments, ConfigError, ContentError, UsageError
from holdfast.job.commands import Define
from holdfast.job.stack import Stack
from holdfast.task.arguments import Arguments, make_arguments
from holdfast.task.coming import Coming
from holdfast.task.handle import Handles, JobHandle, decode_any
from holdfast.task.options import Options, Placement, place
from holdfast.task.service import with_service
from holdfast.task.signature import Signature, Unresolved, read_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from holdfast.job.commands import Enqueued, OnDuplicate
    from holdfast.job.model import NewJob
    from holdfast.task.host import Host
    from holdfast.task.policy import Policy

P = ParamSpec("P")
R = TypeVar("R")

#: How many jobs of a bulk enqueue are made at once: at first, and at most; and about how many bytes of payload.
_FIRST: Final = 16
_MOST: Final = 256
_BYTES: Final = 1024 * 1024


class Call(msgspec.Struct, frozen=True):
    """Arguments of one job of a batch; made by `task.args(...)`, which type checkers check."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Item = Call | tuple[Any, ...] | dict[str, Any]


class Bound(Generic[P, R]):
    """A task with options of the enqueue: made by `task.using(...)`."""

    def __init__(self, task: Task[P, R], options: Options) -> None:
        self._task, self._options = task, options
        self._host = task.host
        self._placement: Placement = place(task.policy, options)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store a job; when this returns it is stored. Concurrent calls share one write of the store.

        Raises BadArguments, ContentError, TooLarge; DuplicateJob; TaskInactive; StoreError.
        """
        job = self._placement.make_fresh(self._task.arguments.encode(args, kwargs), self._host.new_id)
        answer = await self._host.submit(job, self._placement.on_duplicate, self._placement.tx)
        return JobHandle(self._host, answer, self._task.decode_result)

    async def enqueue_many(self, items: Iterable[Item], *, atomic: bool = False) -> Handles[R]:
        """Store a job per item: a tuple (by place), a dict (by name), or `task.args(...)`.

        One batch holds up to 10,000 jobs and 8 MiB and is all or nothing; more is cut into several, and the `pieces` of the
        answer tell how many. With `atomic` more is refused with TooLarge. Raises as `enqueue`, and then stores nothing of
        the batch; a note of the error tells what earlier batches stored. Raises UsageError for what holds no items.
        """
        jobs, tx = self._coming(items), self._placement.tx
        answers, pieces = await self._host.submit_many(jobs, self._placement.on_duplicate, atomic=atomic, tx=tx)
        return self._handles(answers, pieces)

    def _coming(self, items: Iterable[Item]) -> Coming:
        given = _items(items)
        if len(given) > 1 and "id" in self._placement.fields:
            raise ContentError(
                f"id: expected one job for an id of your own, found {len(given)}. Enqueue them one by one."
            )
        ids = self._host.new_ids(len(given))
        return Coming(self._stacks(given, ids), len(given), frozenset({self._task.alias}))

    def _stacks(self, items: list[Item], ids: list[str]) -> Iterator[Stack]:
        """Yield the jobs of items, some at a time: soon the first ones, then as many as make about a megabyte."""
        start, most = 0, _FIRST
        while start < len(items):
            some, mine = items[start : start + most], ids[start : start + most]
            payloads = self._payloads(some)
            like = self._make(payloads[0], iter(mine).__next__)
            stack = Stack(like, [like.id] if like.own_id else mine, payloads)
            yield stack
            start += most
            most = min(_MOST, max(1, _BYTES * len(some) // max(1, stack.size)))

    def _payloads(self, items: list[Item]) -> list[bytes]:
        calls = [item for item in items if type(item) is tuple]
        payloads = self._task.arguments.encode_plain(calls) if len(calls) == len(items) else None
        return [self._payload_of(item) for item in items] if payloads is None else payloads

    def _handles(self, answers: Sequence[Enqueued], pieces: int) -> Handles[R]:
        return Handles(self._host, answers, self._task.decode_result, pieces)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewJob:
        """Return the job that an enqueue would store, without storing it. Raises BadArguments, ContentError, TooLarge."""
        return self._make(self._task.arguments.encode(args, kwargs), self._host.new_id)

    def job_from(self, given: Mapping[str, Any]) -> NewJob:
        """The same from arguments by name, whose types are checked now."""
        return self._make(self._task.arguments.encode_mapping(given), self._host.new_id)

    def _make(self, payload: bytes, new_id: Callable[[], str]) -> NewJob:
        return self._placement.make(payload, new_id)

    def _payload_of(self, item: Item) -> bytes:
        arguments = self._task.arguments
        if isinstance(item, tuple):
            return arguments.encode(item, {})
        if isinstance(item, Call):
            if item.task != self._task.alias:
                raise BadArguments(f"task {self._task.alias!r}: got the arguments of task {item.task!r}.")
            return arguments.encode(item.args, item.kwargs)
        if isinstance(item, dict):
            return arguments.encode_mapping(item)
        raise BadArguments(
            f"task {self._task.alias!r}: expected a tuple (by place), a dict (by name) or args(...) for each job, "
            f"found {item!r:.80} ({type(item).__name__}). For one argument write (value,)."
        )

    def using(self, **options: Unpack[Options]) -> Bound[P, R]:
        """Return a view of the task with these options of the enqueue (see Options), beside those it has."""
        return Bound(self._task, {**self._options, **options})

    @property
    def on_duplicate(self) -> OnDuplicate:
        """What an enqueue does when its id is taken."""
        return self._placement.on_duplicate

    @property
    def sync(self) -> SyncBound[P, R]:
        """The same for code without a loop: Flask, Django, scripts."""
        return SyncBound(self)


class SyncBound(Generic[P, R]):
    """The enqueues of a task for code without a loop."""

    __slots__ = ("_bound",)

    def __init__(self, bound: Bound[P, R]) -> None:
        self._bound = bound

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """See Bound.enqueue. Raises UsageError where a loop runs."""
        bound = self._bound
        if bound._placement.tx is not None:
            return self._within([bound.job(*args, **kwargs)])[0]
        return bound._host.run_sync(bound.enqueue(*args, **kwargs))

    def enqueue_many(self, items: Iterable[Item], *, atomic: bool = False) -> Handles[R]:
        """See Bound.enqueue_many. Raises UsageError where a loop runs."""
        if self._bound._placement.tx is not None:
            return self._within(self._bound._coming(items).all())
        return self._bound._host.run_sync(self._bound.enqueue_many(items, atomic=atomic))

    def _within(self, jobs: list[NewJob]) -> Handles[R]:
        """Store jobs through the caller's connection, which must be used in the caller's thread."""
        bound = self._bound
        placement = bound._placement
        return bound._handles(bound._host.submit_within(jobs, placement.on_duplicate, placement.tx), 1)

    def using(self, **options: Unpack[Options]) -> SyncBound[P, R]:
        """See Bound.using."""
        return SyncBound(self._bound.using(**options))


class Task(Bound[P, R]):
    """A named function with a policy. Calling it runs the function, here and now, without any job."""

    __name__: str  # the function's

    def __init__(
        self,
        host: Host,
        function: Callable[P, Any],
        policy: Policy,
        local_names: Mapping[str, Any] | None = None,
    ) -> None:
        self.host, self.policy, self.function = host, policy, function
        functools.update_wrapper(self, function)
        super().__init__(self, {})
        self._resolve_early(local_names)

    @property
    def alias(self) -> str:
        """The name of the task in stores and everywhere else."""
        return self.policy.alias

    @property
    def place(self) -> str:
        """Where the function stands, for people."""
        inner = inspect.unwrap(self.function)
        code = getattr(inner, "__code__", None)
        name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
        return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run the function. Nothing is stored."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.alias}>"

    def args(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """Return arguments for `enqueue_many`; type checkers check them like those of `enqueue`."""
        return Call(self.alias, args, kwargs)

    @functools.cached_property
    def signature(self) -> Signature:
        """What the function takes and returns. Raises ConfigError when an annotation can not be resolved."""
        try:
            return read_signature(self.function)
        except Unresolved as error:
            raise ConfigError(
                f"task {self.alias!r}: {error}. Define or import the type in the task's module."
            ) from None

    @functools.cached_property
    def arguments(self) -> Arguments:
        """How the arguments are checked, encoded and bound. Raises ConfigError for types that JSON can not carry."""
        return make_arguments(self.alias, self.function, self.signature)

    @functools.cached_property
    def decode_result(self) -> Callable[[bytes], Any]:
        """Decodes results into the type that the function declares."""
        returns = self.signature.returns
        if returns is Any:
            return decode_any
        try:
            return msgspec.json.Decoder(returns).decode
        except (TypeError, NameError):
            return decode_any  # a type that msgspec does not know: the plain JSON value is what there is

    def _resolve_early(self, local_names: Mapping[str, Any] | None) -> None:
        """Read the annotations now, so that a wrong one is told where it stands; those of later names wait for their use."""
        try:
            self.__dict__["signature"] = read_signature(self.function, local_names)
        except Unresolved:
            return
        _ = self.arguments

    def definition(self) -> Define:
        """Return what the store should know of this task."""
        policy = self.policy
        return Define(
            alias=policy.alias,
            title=policy.title,
            description=policy.description,
            memo=policy.memo,
            queue=policy.queue,
            retry=policy.retry,
            timeout=policy.timeout,
            parameters=with_service(self.arguments.schema(), policy.sticky),
        )


def _items(items: object) -> list[Any]:
    # A text and a dict can be walked too, and would be taken for as many jobs as they have letters or names.
    if isinstance(items, Iterable) and not isinstance(items, (str, bytes, Mapping)):
        return list(items)
    raise UsageError(
        f"enqueue_many: expected a list of items (each a tuple, a dict, or task.args(…)), found {type(items).__name__}. "
        "For one job use enqueue(…)."
    )


class AsyncTask(Task[P, R]):
    """A task of an `async def`."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            """Run the function. Nothing is stored."""
            ...


class PlainTask(Task[P, R]):
    """A task of a `def`."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
            """Run the function. Nothing is stored."""
            ...
