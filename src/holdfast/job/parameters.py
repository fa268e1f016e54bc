"""Whether a payload fits the arguments that a task takes, as its definition says: for those who have no code of the task.

A definition holds the JSON Schema that `@app.task` made of the function's parameters. It is read back into a type, and
payloads are decoded by that, as quickly as a worker decodes them. What can not be read back means "anything": nothing is
refused here that the worker would take. Only names that are no parameters are always refused.
"""

from __future__ import annotations

import datetime
import decimal
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNSET: Final = msgspec.UNSET
_AT: Final = re.compile(r"^(?P<what>.*?) - at (?:`key` in )?`(?P<path>\$[^`]*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `([^`]+)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `([^`]+)`$")
#: What a schema says badly or in words that we do not know.
_UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)

_PLAIN: Final[Mapping[str, Any]] = {"integer": int, "number": float, "boolean": bool, "null": None, "string": str}
_FORMATS: Final[Mapping[str, Any]] = {
    "date-time": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "duration": datetime.timedelta,
    # The class itself is not for the core: who imports it can draw one.
    "uuid": Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}$")],
    "decimal": decimal.Decimal,
}
_LIMITS: Final[Mapping[str, str]] = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "pattern": "pattern",
}


def misfit(parameters: bytes, payload: bytes) -> str:
    """Say what of `payload` (JSON) does not fit a definition's `parameters`; nothing when it fits, or nothing is known.

    >>> schema = b'{"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}'
    >>> misfit(schema, b'{"to": 5}')
    "argument 'to': expected str, got int. Expected the arguments to."
    >>> misfit(schema, b'{"to": "ann"}')
    ''
    """
    known = _read(parameters) if parameters else None
    if known is None:
        return ""
    decode, names = known
    try:
        decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        expected = f"Expected the arguments {', '.join(names)}." if names else "Expected no arguments."
        return f"{_told(str(error), [name.removesuffix(' (optional)') for name in names])}. {expected}"
    return ""


def _told(text: str, names: Sequence[str]) -> str:
    """Return in our words what msgspec found wrong."""
    if missing := _MISSING.match(text):
        return f"missing argument {missing[1]!r}"
    if unknown := _UNKNOWN.match(text):
        import difflib

        near = difflib.get_close_matches(unknown[1], names, 1)
        return f"unknown argument {unknown[1]!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    found = _AT.match(text)
    what = (found["what"] if found else text).replace("`", "")
    what = what[:1].lower() + what[1:]
    if not found:
        return what
    return f"argument {found['path'].removeprefix('$').removeprefix('.')!r}: {what}"


@lru_cache(maxsize=1_024)
def _read(parameters: bytes) -> tuple[Any, tuple[str, ...]] | None:
    """Return what decodes payloads, and the names of the arguments for people; None if the schema says no names."""
    try:
        document = msgspec.json.decode(parameters)
        reader = _Reader(document.get("$defs", {}))
        top = reader.resolved(document)
        properties: Mapping[str, Any] = top["properties"]
        needed = set(top.get("required", ()))
        names = tuple(name if name in needed else f"{name} (optional)" for name in properties)
        open_ended = top.get("additionalProperties", False) is not False
        return msgspec.json.Decoder(reader.struct(top, forbid=not open_ended)).decode, names
    except _UNREADABLE:
        return None


class _Reader:
    """Turns a schema into a type. What it does not know, or what refers to itself, becomes Any."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._within: list[str] = []

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a reference refers to; the schema itself, if it is none."""
        if "$ref" not in schema:
            return schema
        found: Mapping[str, Any] = self._definitions[schema["$ref"].rpartition("/")[2]]
        return found

    def type(self, schema: Mapping[str, Any]) -> Any:
        """Return the type that a schema describes."""
        if "$ref" not in schema:
            return _usable(self._type(schema))
        name = schema["$ref"]
        if name in self._within:
            return Any
        self._within.append(name)
        try:
            return self.type(self.resolved(schema))
        finally:
            self._within.pop()

    def _type(self, schema: Mapping[str, Any]) -> Any:
        if "anyOf" in schema:
            kinds = [self.type(one) for one in schema["anyOf"]]
            return Any if Any in kinds else Union[tuple(kinds)]  # noqa: UP007 - made of a list
        if "enum" in schema:
            return Literal[tuple(schema["enum"])]
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string" and schema.get("contentEncoding") == "base64":
            return bytes
        if kind == "string" and "format" in schema:
            return _FORMATS.get(schema["format"], Any)
        return _limited(_PLAIN[str(kind)], schema) if kind in _PLAIN else Any

    def _object(self, schema: Mapping[str, Any]) -> Any:
        more = schema.get("additionalProperties")
        if "properties" in schema:
            return self.struct(schema, forbid=more is False)
        return dict[str, self.type(more)] if isinstance(more, dict) else dict[str, Any]  # type: ignore[misc]

    def _array(self, schema: Mapping[str, Any]) -> Any:
        places, items = schema.get("prefixItems"), schema.get("items")
        if places is not None and schema.get("minItems") == schema.get("maxItems") == len(places):
            return tuple[tuple(self.type(one) for one in places)]  # type: ignore[misc]
        if places is not None:
            items = None  # places with defaults: of any kind
        return _limited(list[self.type(items)] if isinstance(items, dict) else list[Any], schema)  # type: ignore[misc]

    def struct(self, schema: Mapping[str, Any], *, forbid: bool) -> Any:
        """Return a Struct with a field per property. Names need not be Python's: fields are numbered."""
        required, fields, rename = set(schema.get("required", ())), [], {}
        for number, (name, inner) in enumerate(schema["properties"].items()):
            kind, field = self.type(inner), f"f{number}"
            rename[field] = name
            if name in required:
                fields.append((field, kind))
            else:
                fields.append((field, Any if kind is Any else Union[kind, msgspec.UnsetType], _UNSET))  # type: ignore[arg-type]  # noqa: UP007
        return msgspec.defstruct("Arguments", fields, kw_only=True, rename=rename, forbid_unknown_fields=forbid)


def _limited(kind: Any, schema: Mapping[str, Any]) -> Any:
    limits = {word: schema[name] for name, word in _LIMITS.items() if name in schema}
    if not limits:
        return kind
    limited = Annotated[kind, msgspec.Meta(**limits)]
    return kind if _usable(limited) is Any else limited


def _usable(kind: Any) -> Any:
    """Return the type, or Any where it can not be decoded into: several objects of which no field tells which is meant."""
    try:
        msgspec.json.Decoder(kind)
    except _UNREADABLE:
        return Any
    return kind
