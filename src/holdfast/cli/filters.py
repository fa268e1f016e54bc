"""The words with which commands choose jobs: the same as in the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.durations import seconds
from holdfast.errors import ContentError
from holdfast.job.commands import JobFilter
from holdfast.job.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = ("queue", "task", "worker", "key", "tag", "text")


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a filter."""
    options = [
        click.option("--state", "-s", "states", multiple=True, help="failed, queued, …; may be repeated."),
        click.option("--queue", "-q", help="In this queue."),
        click.option("--task", "-t", help="Of this task."),
        click.option("--worker", help="Last run by this worker."),
        click.option("--key", help="Of this key."),
        click.option("--tag", help="With this tag."),
        click.option("--text", help="With this text in id, payload or error."),
        click.option("--since", metavar="1d", help="Enqueued within this time."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def read_filter(options: dict[str, Any], now: float) -> JobFilter | None:
    """Take the options of a filter out of `options`; return the filter, None when none was given."""
    states = tuple(_state(word) for words in options.pop("states") for word in words.split(","))
    since = options.pop("since")
    fields = {name: options.pop(name) for name in _NAMES}
    if since is not None:
        fields["created_after"] = now - seconds(since, "--since")
    which = JobFilter(states=states, **fields)
    return None if which == JobFilter() else which


def _state(word: str) -> State:
    try:
        return State(word.strip().lower())
    except ValueError:
        known = ", ".join(state.value for state in State)
        raise ContentError(f"--state: expected one of {known}; found {word!r}.") from None
