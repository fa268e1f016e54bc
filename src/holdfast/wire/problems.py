"""Errors on the wire: problem details (RFC 9457) with a code, from which the same error is made again on the other side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast import errors as e

if TYPE_CHECKING:
    from collections.abc import Sequence

MEDIA_TYPE: Final = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong. `code` names the error; `data` holds its attributes; `detail` says what to do.

    field: which part of the request is wrong, where that can be told: a name, or a path such as action.queue.
    """

    status: int
    title: str
    detail: str
    code: str
    type: str = "about:blank"
    data: dict[str, Any] = {}
    field: str = ""


class Kind(msgspec.Struct, frozen=True):
    """How one class of errors travels: its HTTP status, and the attributes that go along."""

    error: type[e.HoldfastError]
    status: int
    title: str
    attributes: tuple[str, ...] = ()


KINDS: Final = (
    Kind(e.ConfigError, 422, "A setting, name or option is wrong", ("faults",)),
    Kind(e.ContentError, 422, "A value can not be stored"),
    Kind(e.BadArguments, 422, "The arguments do not fit the task"),
    Kind(e.BadTime, 422, "A duration or time is not accepted"),
    Kind(e.TooLarge, 413, "Something is over its limit", ("found", "limit")),
    Kind(e.UnknownTask, 404, "No such task", ("alias",)),
    Kind(e.TaskInactive, 409, "The task is switched off", ("alias", "status")),
    Kind(e.DuplicateJob, 409, "An id or unique key is taken", ("taken",)),
    Kind(e.UnknownJob, 404, "No such job", ("job_id",)),
    Kind(e.UnknownQueue, 404, "No such queue", ("name",)),
    Kind(e.UnknownSchedule, 404, "No such schedule"),
    Kind(e.UnknownWorker, 404, "No such worker"),
    Kind(e.UnknownOperation, 404, "No such operation"),
    Kind(e.Conflict, 409, "The state forbids this step"),
    Kind(e.IllegalTransition, 409, "The state forbids this step", ("state", "event")),
    Kind(e.LeaseLost, 409, "Another claim holds the job", ("job_id", "token")),
    Kind(e.StoreFull, 507, "No room for new jobs"),
    Kind(e.StoreUnavailable, 503, "The store can not answer now"),
    Kind(e.StoreClosed, 503, "The store is closed"),
    Kind(e.OutcomeUnknown, 500, "It may or may not be stored"),
    Kind(e.StoreCorrupt, 500, "The stored data is damaged"),
    Kind(e.NoHistory, 501, "There is no history here"),
    Kind(e.StoreError, 500, "The store failed"),
    Kind(e.RouterUnavailable, 503, "The router can not be reached now"),
    Kind(e.NoPod, 503, "No pod can take the key"),
    Kind(e.UnknownPod, 404, "No such pod"),
    Kind(e.RouterError, 500, "The router failed"),
    Kind(e.UsageError, 400, "This can not work here"),
)
_BY_CLASS: Final = {kind.error: kind for kind in KINDS}
_BY_CODE: Final = {kind.error.__name__: kind for kind in KINDS}
#: What is to blame where the message speaks of its parts.
_OF_ERRORS: Final[dict[type[Exception], str]] = {e.BadArguments: "payload"}
#: Codes of refusals that are the HTTP layer's own.
HTTP_TITLES: Final = {
    400: "The request can not be read",
    401: "A token is needed",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This method is not for this address",
    413: "The body is too large",
    414: "The address is too long",
    415: "This kind of body is not accepted",
    421: "This host is not served here",
    422: "The request is not as expected",
    429: "Too many requests",
    500: "Something broke",
    501: "This store can not do that",
    503: "Not ready",
}


def problem_of(error: Exception) -> Problem | None:
    """Return the problem of one of our errors, or of a class below it; None for any other."""
    for base in type(error).__mro__:
        kind = _BY_CLASS.get(base)
        if kind is not None:
            data = {name: getattr(error, name) for name in kind.attributes if hasattr(error, name)}
            return Problem(
                status=kind.status,
                title=kind.title,
                detail=str(error),
                code=kind.error.__name__,
                data=data,
                field=field_of(str(error)) or _first_field(data.get("faults") or ()) or _OF_ERRORS.get(kind.error, ""),
            )
    return None


def _first_field(faults: Sequence[str]) -> str:
    """Return the field of the first of many faults; each begins with where it is."""
    found = _PLACE.match(faults[0]) if faults else None
    return found[1] if found else ""


def http_problem(status: int, detail: str, field: str = "") -> Problem:
    """Return a problem of the HTTP layer itself."""
    title = HTTP_TITLES.get(status, "Refused")
    return Problem(status=status, title=title, detail=detail, code=f"http-{status}", field=field)


_FIELD: Final = re.compile(r"(?:job \d+ of \d+: )?([a-z][a-z_.]{0,60})(?:: at \$([^:]{0,200}))?: expected")
_PLACE: Final = re.compile(r"([a-z][a-z_.]{0,60}): ")
#: Messages about pages speak of them as a whole.
_OF_PAGES: Final = {"bad page cursor": "cursor", "a page has": "limit"}
_PATH: Final = re.compile(r"- at `(?:key in )?\$\.?([^`]*)`")
_MISSING: Final = re.compile(r"(?:missing required|unknown) field `([^`]{1,60})`")


def field_of(detail: str) -> str:
    """Return the field that a message of ours, or of the decoder, speaks of; empty when it names none.

    >>> field_of("priority: expected a whole number"), field_of("Expected `int`, got `str` - at `$.jobs[0].priority`")
    ('priority', 'jobs[0].priority')
    """
    for words, field in _OF_PAGES.items():
        if detail.startswith(words):
            return field
    ours = _FIELD.match(detail)
    if ours:
        return ours[1] + (ours[2] or "")
    path, name = _PATH.search(detail), _MISSING.search(detail)
    return ".".join(part for part in (path[1] if path else "", name[1] if name else "") if part)


def error_of(problem: Problem) -> e.HoldfastError:
    """Return the error that a problem stands for, with the words of the other side."""
    kind = _BY_CODE.get(problem.code)
    if kind is None:
        return _by_status(problem)
    error = kind.error.__new__(kind.error)
    Exception.__init__(error, problem.detail)
    for name in kind.attributes:
        value = problem.data.get(name)
        setattr(error, name, tuple(value) if isinstance(value, list) else value)
    return error


def _by_status(problem: Problem) -> e.HoldfastError:
    text = f"{problem.title}: {problem.detail}"
    if problem.status in (502, 503, 504):
        return e.StoreUnavailable(text)
    if problem.status in (401, 403, 421):
        return e.ConfigError(text)
    if problem.status >= 500:
        return e.OutcomeUnknown(text)
    return e.ContentError(text)
