"""What `task.using(...)` takes: options of one enqueue, checked when they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec

from holdfast.durations import Duration, Time, instant, seconds
from holdfast.errors import BadTime, ContentError
from holdfast.job.commands import OnDuplicate
from holdfast.job.content import HEADERS_MAX, encode_arguments
from holdfast.job.ids import check_id, check_key, check_name, check_priority, check_tags, shown
from holdfast.job.model import FreshJob, NewJob, OnConflict, OnWait
from holdfast.task.policy import Policy, read_choice, read_retry, read_timeout
from holdfast.task.service import check_sticky_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_copied: Final = msgspec.structs.replace


class Options(TypedDict, total=False):
    """Options of an enqueue.

    delay: wait so long; run_at: not before (one of the two). priority: -100 … 100, higher runs first. queue: another one.
    key: jobs of one key run in order, one at a time. unique: at most one unfinished job of this name, or one within
    `unique_for`; on_conflict says what happens otherwise ("error", "keep", "replace", "reschedule", "raise_priority").
    id: your own job id; on_duplicate says what happens when it is taken ("raise", "report"). tags: up to 16, searchable.
    headers: a small dict that travels along. timeout, max_attempts, on_wait: instead of the task's.
    tx: your own session or connection to the store's database: the job is stored with your transaction, or not at all.
    """

    delay: Duration
    run_at: Time
    priority: int
    queue: str
    key: str
    unique: str
    unique_for: Duration
    on_conflict: OnConflict | str
    id: str
    on_duplicate: OnDuplicate | str
    tags: Sequence[str]
    headers: Mapping[str, Any]
    timeout: Duration
    max_attempts: int
    on_wait: OnWait | str
    tx: Any


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Checked options: `fields` of the NewJob that the policy and the options fix, and what an enqueue does on a clash.

    tx: the caller's connection or session, in whose transaction the job is stored; None: in one of the store's.
    """

    fields: dict[str, Any]
    tx: Any = None
    on_duplicate: OnDuplicate = OnDuplicate.RAISE
    like: NewJob  # `fields` as a job, that others are copied from: half the cost of making each anew
    fresh: FreshJob

    def make(self, payload: bytes, new_id: Callable[[], str]) -> NewJob:
        """Return a job with this payload, under the caller's own id or a new one."""
        self._check()
        return _copied(self.like, id=self.like.id or new_id(), payload=payload)

    def make_fresh(self, payload: bytes, new_id: Callable[[], str]) -> NewJob:
        """The same for an enqueue that tells nobody of a new id before it is stored."""
        self._check()
        if self.like.own_id:
            return _copied(self.like, payload=payload)
        return _copied(self.fresh, id=new_id(), payload=payload)

    def _check(self) -> None:
        like = self.like
        if like.sticky is not None:
            check_sticky_key(like.task, like.sticky, like.key)


def place(policy: Policy, options: Options) -> Placement:
    """Return what `options` mean for jobs of a task with `policy`. Raises ContentError, ConfigError, BadTime."""
    given = {name: value for name, value in options.items() if value is not None}
    unknown = given.keys() - Options.__annotations__.keys()
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise ContentError(f"unknown option {', '.join(map(repr, sorted(unknown)))}. Expected some of {known}.")
    _refuse_contradictions(given)
    fields: dict[str, Any] = {"task": policy.alias, "queue": policy.queue, "retry": policy.retry}
    if policy.priority:
        fields["priority"] = policy.priority
    if policy.on_wait is not OnWait.HOLD:
        fields["on_wait"] = policy.on_wait
    if policy.sticky is not None:
        fields["sticky"] = policy.sticky
    for name, value in given.items():
        if name not in ("on_duplicate", "tx"):
            fields.update(_field(name, value, policy))
    return Placement(
        fields=fields,
        like=NewJob(**{"id": "", **fields}),
        fresh=FreshJob(**{"id": "", **fields}),
        tx=given.get("tx"),
        on_duplicate=read_choice(OnDuplicate, given.get("on_duplicate", OnDuplicate.RAISE), "on_duplicate"),
    )


def _refuse_contradictions(given: dict[str, Any]) -> None:
    if "delay" in given and "run_at" in given:
        raise BadTime("expected delay= or run_at=, found both. Leave one out.")
    if "unique" not in given and ("unique_for" in given or "on_conflict" in given):
        raise ContentError("unique_for= and on_conflict= need unique=, found none. Name what must be unique.")


def _field(name: str, value: Any, policy: Policy) -> dict[str, Any]:
    """Return the NewJob fields of one option."""
    match name:
        case "delay":
            return {"delay": seconds(value, "delay")}
        case "run_at":
            return {"run_at": instant(value, "run_at")}
        case "priority":
            return {"priority": check_priority(value)}
        case "queue":
            return {"queue": check_name(value, "queue")}
        case "key" | "unique":
            return {name: check_key(value, name)}
        case "unique_for":
            return {"unique_window": seconds(value, "unique_for", positive=True)}
        case "on_conflict":
            return {"on_conflict": read_choice(OnConflict, value, "on_conflict")}
        case "on_wait":
            return {"on_wait": read_choice(OnWait, value, "on_wait")}
        case "id":
            return {"id": check_id(value), "own_id": True}
        case "tags":
            return {"tags": check_tags(value)}
        case "headers":
            return {"headers": encode_headers(value)}
        case "timeout":
            return {"timeout": read_timeout(value)}
        case _:
            own = read_retry(None, value)
            return {"retry": msgspec.structs.replace(policy.retry, max_attempts=own.max_attempts)}


def encode_headers(headers: Mapping[str, Any]) -> bytes:
    """Return headers as a JSON object. Raises ContentError, and TooLarge over HEADERS_MAX."""
    if not hasattr(headers, "items") or not all(isinstance(name, str) for name in headers):
        raise ContentError(f"headers: expected a dict with text keys, found {shown(headers)}.")
    return encode_arguments(dict(headers), "headers", HEADERS_MAX) if headers else b""
