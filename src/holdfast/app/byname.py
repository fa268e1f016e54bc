"""Enqueue of a task whose code is elsewhere: all that is known of it is its definition in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import BadArguments
from holdfast.job.content import encode_arguments
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

    Names are checked against the stored JSON Schema; types are checked by the worker, which has the code.
    """
    policy = Policy(
        alias=definition.alias,
        queue=definition.queue,
        retry=definition.retry,
        sticky=service_of(definition.parameters),
    )
    placement = place(policy, options)
    _check_names(definition, arguments)
    return placement.make(encode_arguments(dict(arguments), definition.alias), new_id), placement.on_duplicate


def _check_names(definition: Definition, arguments: Mapping[str, Any]) -> None:
    schema = _object_schema(definition.parameters)
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    missing = [name for name in schema.get("required", ()) if name not in arguments]
    unknown = [str(name) for name in arguments if name not in properties]
    if missing or unknown:
        found = f"missing {', '.join(map(repr, missing))}" if missing else f"unknown {', '.join(map(repr, unknown))}"
        raise BadArguments(f"task {definition.alias!r}: {found}. Expected arguments {', '.join(properties) or 'none'}.")


def _object_schema(parameters: bytes) -> dict[str, Any]:
    """Return the schema of the arguments object, which msgspec puts among the definitions of its document."""
    if not parameters:
        return {}
    document: dict[str, Any] = msgspec.json.decode(parameters)
    name = str(document.get("$ref", "")).rpartition("/")[2]
    found: dict[str, Any] = document.get("$defs", {}).get(name, document)
    return found
