"""Enqueue of a task whose code is elsewhere: all that is known of it is its definition in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.errors import BadArguments
from holdfast.job.content import encode_arguments
from holdfast.job.parameters import misfit
from holdfast.task import Policy, place
from holdfast.task.service import service_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.job.commands import OnDuplicate
    from holdfast.job.model import Definition, NewJob
    from holdfast.task import Options


def job_of(
    definition: Definition, arguments: Mapping[str, Any], options: Options, new_id: Callable[[], str]
) -> tuple[NewJob, OnDuplicate]:
    """Return the job that `arguments` and `options` make of a definition. Raises as `Bound.job`.

    They are checked against what the definition says of the task's arguments, if it does.
    """
    policy = Policy(
        alias=definition.alias,
        queue=definition.queue,
        retry=definition.retry,
        sticky=service_of(definition.parameters),
    )
    placement = place(policy, options)
    payload = encode_arguments(dict(arguments), definition.alias)
    why = misfit(definition.parameters, payload)
    if why:
        raise BadArguments(f"task {definition.alias!r}: {why}")
    return placement.make(payload, new_id), placement.on_duplicate
