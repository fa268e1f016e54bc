"""The OpenAPI 3.1 description, made from the routes and the types that they name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from holdfast.wire.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.hub.routing import Route

BASE: Final = "/api/v1"
_TEMPLATE: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


def describe(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the description of `routes` as a value ready for JSON."""
    types = [kind for route in routes for kind in (route.body, route.answer) if kind is not None] + [Problem]
    schemas, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
    schema_of = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(BASE + route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": version, "description": "Durable tasks: jobs, queues, workers."},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.path.split("/")[1]],
        "responses": {
            str(route.status): {"description": "Done", "content": _json(schema_of[str(route.answer)])},
            "default": {
                "description": "Refused; says what was expected, what was found, and what to do",
                "content": {MEDIA_TYPE: {"schema": schema_of[str(Problem)]}},
            },
        },
        "x-scope": route.scope.value,
    }
    parameters = [*_path_parameters(route.path), *_query_parameters(route.query)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"content": _json(schema_of[str(route.body)]), "required": not _optional(route.body)}
    if route.method != "GET":
        operation["security"] = [{"token": []}, {}]  # over TCP; the socket in the data folder needs none
    return operation


def _optional(kind: Any) -> bool:
    return type(None) in getattr(kind, "__args__", ())


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> Iterable[dict[str, Any]]:
    for name in _PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(query: Any) -> Iterable[dict[str, Any]]:
    if query is None:
        return
    for field in msgspec.structs.fields(query):
        schema = msgspec.json.schema(field.type)
        if field.default not in (UNSET, msgspec.NODEFAULT, None, ()):
            schema["default"] = msgspec.to_builtins(field.default)
        yield {"name": field.encode_name, "in": "query", "required": False, "schema": _inlined(schema)}


def words_of(query: Any, name: str) -> list[str]:
    """Return the words that a parameter may be, if it is one of few."""
    for field in msgspec.structs.fields(query):
        if field.encode_name == name:
            schema = _inlined(msgspec.json.schema(field.type))
            return list(map(str, schema.get("enum") or schema.get("items", {}).get("enum", ())))
    return []


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without definitions of its own: enums and plain types are all that queries have."""
    definitions = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolve(definitions[value["$ref"].rpartition("/")[2]])
            return {name: resolve(item) for name, item in value.items()}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    answer: dict[str, Any] = resolve(schema)
    return answer
