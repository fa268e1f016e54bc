"""The words with which commands choose jobs: the same as in the API."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from holdfast.durations import seconds
from holdfast.errors import BadTime, ContentError
from holdfast.job.commands import JobFilter
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = ("queue", "task", "worker", "key", "unique", "tag", "text", "deleted")


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a filter."""
    options = [
        click.option("--state", "-s", "states", multiple=True, help="failed, queued, …; may be repeated."),
        click.option("--queue", "-q", help="In this queue."),
        click.option("--task", "-t", help="Of this task."),
        click.option("--worker", help="Last run by this worker."),
        click.option("--key", help="Of this key."),
        click.option("--unique", help="With this unique key."),
        click.option("--tag", help="With this tag."),
        click.option("--text", help="With this text in id, payload or error; of the last day, unless --since."),
        click.option("--since", metavar="1d", help="Enqueued within this time."),
        click.option("--before", metavar="1d", help="Enqueued longer ago than this."),
        click.option("--deleted", is_flag=True, help="Deleted ones too."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def read_filter(options: dict[str, Any], now: float) -> JobFilter | None:
    """Take the options of a filter out of `options`; return the filter, None when none was given."""
    states = tuple(_state(word) for words in options.pop("states") for word in words.split(","))
    since, before = options.pop("since"), options.pop("before")
    fields = {name: options.pop(name) for name in _NAMES}
    if since is not None:
        fields["created_after"] = now - seconds(since, "--since")
    if before is not None:
        fields["created_before"] = now - seconds(before, "--before")
    which = JobFilter(states=states, **fields)
    return None if which == JobFilter() else which


def read_time(text: str, flag: str) -> datetime:
    """Return the time of an option. Raises BadTime."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadTime(f"{flag}: expected a time such as 2030-01-31T09:00:00+01:00, found {text!r:.80}.") from None


def read_object(text: str, what: str) -> dict[str, Any]:
    """Return a JSON object that was given as text. Raises ContentError."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise ContentError(f"{what}: expected a JSON object, found {text!r:.80} ({error}).") from None
    if isinstance(found, dict):
        return found
    raise ContentError(f'{what}: expected a JSON object such as {{"user_id": 42}}, found {text!r:.80}.')


def _state(word: str) -> State:
    try:
        return State(word.strip().lower())
    except ValueError:
        known = ", ".join(state.value for state in State)
        raise ContentError(f"--state: expected one of {known}; found {word!r}.") from None
