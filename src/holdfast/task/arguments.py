"""The arguments of a task: checked and encoded when a job is enqueued, decoded when it runs.

The payload is a JSON object of the arguments by name; only those that were given are in it, so that a default may change.
A task whose only parameter is a dataclass, msgspec Struct or attrs class carries that object itself. What was encoded is
decoded once at the enqueue with the decoder that the worker will use: what passes here will bind there.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, Union

import msgspec

from holdfast.errors import BadArguments, ConfigError
from holdfast.job.content import encode_arguments, encode_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.task.signature import Parameter, Signature

_UNSET: Final = msgspec.UNSET
_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
_AT: Final = re.compile(r"^(?P<what>.*?) - at (?:`key` in )?`(?P<path>\$[^`]*)`$")
_OTHER_VERSION: Final = "The job was enqueued for another version of this task: edit its payload, or enqueue it again."
_NAMES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]+)`$")
_MISSING: Final = re.compile(r"Object missing required field `(.+?)`")


class Arguments(Protocol):
    """How a task's arguments become bytes and come back."""

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return the payload of a call. Raises BadArguments, ContentError, TooLarge."""
        ...

    def encode_mapping(self, given: Mapping[str, Any]) -> bytes:
        """Return the payload of arguments that came by name, as from `app.enqueue`. Raises as `encode`."""
        ...

    def encode_plain(self, calls: Sequence[tuple[Any, ...]]) -> list[bytes] | None:
        """Return the payloads of many calls by place at once, if they are free of faults; None: look at each."""
        ...

    def check(self, payload: bytes) -> None:
        """Raise BadArguments unless a payload that somebody else made fits."""
        ...

    def bind(self, payload: bytes, ctx: object) -> Callable[[], Any]:
        """Return the call of the handler, ready to make. Raises BadArguments when `payload` does not fit."""
        ...

    def schema(self) -> bytes:
        """Return the JSON Schema of the payload; empty if it can not be told."""
        ...


def make_arguments(alias: str, function: Callable[..., Any], signature: Signature) -> Arguments:
    """Return the arguments of a task. Raises ConfigError for a parameter whose type JSON can not carry."""
    for parameter in signature.parameters:
        _refuse_foreign_types(alias, parameter)
    if len(signature.parameters) == 1 and _is_record(signature.parameters[0].type):
        return RecordArguments(alias, function, signature)
    return PlainArguments(alias, function, signature)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct) or hasattr(kind, "__attrs_attrs__")
    )


def _refuse_foreign_types(alias: str, parameter: Parameter) -> None:
    try:
        foreign = _foreign_type(msgspec.inspect.type_info(parameter.type), set())
        why = f"{foreign!r} is no type that JSON can carry" if foreign else ""
    except (TypeError, NameError) as error:
        why = str(error)
    if why:
        raise ConfigError(
            f"task {alias!r}: parameter {parameter.name!r}: {why}. Use text, numbers, lists, dicts, datetime, UUID, Decimal, "
            "Enum, TypedDict, a dataclass or a msgspec.Struct."
        )


def _foreign_type(info: Any, seen: set[int]) -> Any:
    """Return the first type within a msgspec type description that msgspec does not know, or None."""
    if id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return None if info.cls is object else info.cls
    if isinstance(info, tuple | list):
        return next((found for item in info if (found := _foreign_type(item, seen)) is not None), None)
    if isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        values = (getattr(info, name) for name in info.__struct_fields__ if name not in ("cls", "default"))
        return next((found for value in values if (found := _foreign_type(value, seen)) is not None), None)
    return None


class _Binder:
    """Joins decoded values and the context into a call of the handler."""

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self._function = function
        self._positional = sum(not parameter.keyword_only for parameter in signature.parameters)
        self._names = signature.names[self._positional :]
        self._context, self._context_at = signature.context, signature.context_at
        self._is_simple = self._context is None and not self._names
        self._is_common = not self._names and self._context is not None and self._context_at is None

    def __call__(self, values: tuple[Any, ...], ctx: object) -> Callable[[], Any]:
        if self._is_simple:
            return functools.partial(self._function, *values) if values else self._function
        if self._is_common:
            return functools.partial(self._function, *values, **{str(self._context): ctx})
        positional = values[: self._positional]
        named = dict(zip(self._names, values[self._positional :], strict=True))
        if self._context_at is not None:
            positional = (*positional[: self._context_at], ctx, *positional[self._context_at :])
        elif self._context is not None:
            named[self._context] = ctx
        return functools.partial(self._function, *positional, **named)


class PlainArguments:
    """Plain parameters: an object by name."""

    def __init__(self, alias: str, function: Callable[..., Any], signature: Signature) -> None:
        self._alias, self._signature = alias, signature
        self._struct = _make_struct(alias, signature.parameters)
        decoder = msgspec.json.Decoder(_make_struct(alias, signature.parameters, filled=True))
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines
        self._values = _getter(signature.names)
        self._defaults = tuple(parameter.default for parameter in signature.parameters)
        self._has_gaps = any(not (parameter.required or _is_plain(parameter)) for parameter in signature.parameters)
        self._needs_some = any(parameter.required for parameter in signature.parameters)
        self._call = _Binder(function, signature)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """See Arguments."""
        if not args and not kwargs and not self._needs_some:
            return b"{}"
        try:
            arguments = self._struct(*args, **kwargs)
        except TypeError:
            raise BadArguments(self._misfit(args, kwargs)) from None
        payload = encode_arguments(arguments, self._alias)
        try:
            self._decode(payload)
        except msgspec.ValidationError as error:
            given = {**dict(zip(self._signature.names, args, strict=False)), **kwargs}
            raise BadArguments(describe_misfit(self._alias, self._signature, error, given)) from None
        return payload

    def encode_mapping(self, given: Mapping[str, Any]) -> bytes:
        """See Arguments."""
        if not hasattr(given, "keys") or not all(isinstance(name, str) for name in given):
            raise BadArguments(
                f"task {self._alias!r}: expected a dict of arguments by name (text), found {given!r:.80}. "
                f"Expected {self._signature.text}."
            )
        return self.encode((), given)

    def encode_plain(self, calls: Sequence[tuple[Any, ...]]) -> list[bytes] | None:
        """See Arguments."""
        make = self._struct
        try:
            payloads = encode_plain([make(*args) for args in calls])
            if payloads is not None:
                self._decode_lines(b"\n".join(payloads))
        except (TypeError, msgspec.ValidationError):
            return None
        return payloads

    def check(self, payload: bytes) -> None:
        """See Arguments."""
        try:
            self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadArguments(describe_misfit(self._alias, self._signature, error, {})) from None

    def bind(self, payload: bytes, ctx: object) -> Callable[[], Any]:
        """See Arguments."""
        if payload == b"{}" and not self._signature.parameters:
            return self._call((), ctx)
        try:
            values = self._values(self._decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadArguments(describe_misfit(self._alias, self._signature, error, {}, _OTHER_VERSION)) from None
        if self._has_gaps and _UNSET in values:
            pairs = zip(values, self._defaults, strict=True)
            values = tuple([default if value is _UNSET else value for value, default in pairs])
        return self._call(values, ctx)

    def schema(self) -> bytes:
        """See Arguments."""
        return _schema(self._struct)

    def _misfit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Say why a call does not fit the signature."""
        parameters = self._signature.parameters
        names, by_place = self._signature.names, [p.name for p in parameters if not p.keyword_only]
        expected, head = f"Expected {self._signature.text}.", f"task {self._alias!r}: "
        if self._signature.context in kwargs:
            return f"{head}{self._signature.context!r} is given by the worker. Leave it out. {expected}"
        if len(args) > len(by_place):
            return f"{head}expected at most {len(by_place)} arguments by place, got {len(args)}. {expected}"
        unknown = [name for name in kwargs if name not in names]
        if unknown:
            return f"{head}unknown argument {', '.join(map(repr, unknown))}{_nearest(unknown[0], names)}. {expected}"
        given = by_place[: len(args)]
        twice = [name for name in kwargs if name in given]
        if twice:
            return f"{head}argument {twice[0]!r} is given by place and by name. Give it once. {expected}"
        missing = [p.name for p in parameters if p.required and p.name not in given and p.name not in kwargs]
        return f"{head}missing argument {', '.join(map(repr, missing))}. Pass it. {expected}"


class RecordArguments:
    """One dataclass, Struct or attrs object as the only parameter: the payload is that object."""

    def __init__(self, alias: str, function: Callable[..., Any], signature: Signature) -> None:
        self._alias, self._signature = alias, signature
        [self._parameter] = signature.parameters
        self._type = self._parameter.type
        decoder = msgspec.json.Decoder(self._type)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines
        self._fields = _field_names(self._type)
        self._call = _Binder(function, signature)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """See Arguments."""
        name = self._parameter.name
        if len(args) == 1 and not kwargs and not self._parameter.keyword_only:
            return self._encode(args[0])
        if not args and kwargs.keys() == {name}:
            return self._encode(kwargs[name])
        if not args and not kwargs and not self._parameter.required:
            return self._encode(self._parameter.default)
        given = [*(type(value).__name__ for value in args), *(f"{key}=" for key in kwargs)]
        raise BadArguments(
            f"task {self._alias!r}: expected one argument, a {self._type.__name__}, got ({', '.join(given)}). "
            f"Pass {self._type.__name__}(...). Expected {self._signature.text}."
        )

    def encode_mapping(self, given: Mapping[str, Any]) -> bytes:
        """See Arguments."""
        return self._encode(dict(given))

    def encode_plain(self, calls: Sequence[tuple[Any, ...]]) -> list[bytes] | None:
        """See Arguments."""
        kind = self._type
        if self._parameter.keyword_only or not all(len(args) == 1 and type(args[0]) is kind for args in calls):
            return None
        payloads = encode_plain([args[0] for args in calls])
        try:
            if payloads is not None:
                self._decode_lines(b"\n".join(payloads))
        except msgspec.ValidationError:
            return None
        return payloads

    def _encode(self, value: Any) -> bytes:
        if isinstance(value, dict):
            self._refuse_unknown(value)
        payload = encode_arguments(value, self._alias)
        try:
            self._decode(payload)
        except msgspec.ValidationError as error:
            raise BadArguments(describe_misfit(self._alias, self._signature, error, value)) from None
        return payload

    def _refuse_unknown(self, value: Mapping[Any, Any]) -> None:
        unknown = [name for name in value if name not in self._fields]
        if unknown:
            near = _nearest(str(unknown[0]), self._fields)
            raise BadArguments(
                f"task {self._alias!r}: {self._type.__name__} has no field {unknown[0]!r}{near}. "
                f"Its fields: {', '.join(self._fields)}."
            )

    def check(self, payload: bytes) -> None:
        """See Arguments."""
        try:
            self._refuse_unknown(_NAMES.decode(payload))
            self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadArguments(describe_misfit(self._alias, self._signature, error, {})) from None

    def bind(self, payload: bytes, ctx: object) -> Callable[[], Any]:
        """See Arguments."""
        try:
            value = self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadArguments(describe_misfit(self._alias, self._signature, error, {}, _OTHER_VERSION)) from None
        return self._call((value,), ctx)

    def schema(self) -> bytes:
        """See Arguments."""
        return _schema(self._type)


# --- details -------------------------------------------------------------------------------------------------------


def _class_name(alias: str) -> str:
    return re.sub(r"\W", "_", alias) or "task"


def _make_struct(alias: str, parameters: Sequence[Parameter], *, filled: bool = False) -> Any:
    """Return a Struct class with a field per parameter. Arguments that were not given stay UNSET and are not encoded.

    filled: they have their defaults instead, where these are plain values.
    """
    name = _class_name(alias)
    by_name = [_field(parameter, filled) for parameter in parameters if parameter.keyword_only]
    by_place = [_field(parameter, filled) for parameter in parameters if not parameter.keyword_only]
    # msgspec puts keyword-only fields behind the others, whatever class of the line declares them.
    base = msgspec.defstruct(f"{name}_named", by_name, kw_only=True, gc=False)
    return msgspec.defstruct(name, by_place, bases=(base,), forbid_unknown_fields=True, gc=False)


def _is_plain(parameter: Parameter) -> bool:
    """Whether a default can be left to the decoder; it would copy others, or refuse them."""
    return not parameter.required and type(parameter.default) in _PLAIN


def _field(parameter: Parameter, filled: bool) -> tuple[str, Any] | tuple[str, Any, Any]:
    if parameter.required:
        return parameter.name, parameter.type
    if filled and _is_plain(parameter):
        return parameter.name, parameter.type, parameter.default
    return parameter.name, Any if parameter.type is Any else Union[parameter.type, msgspec.UnsetType], _UNSET  # noqa: UP007


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that gives the attributes `names` as a tuple, for any number of names."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        one = operator.attrgetter(names[0])
        return lambda value: (one(value),)
    return operator.attrgetter(*names)


def _field_names(kind: Any) -> tuple[str, ...]:
    if issubclass(kind, msgspec.Struct):
        return tuple(kind.__struct_encode_fields__)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__"))  # noqa: B009


def _schema(kind: Any) -> bytes:
    try:
        return msgspec.json.encode(msgspec.json.schema(kind))
    except (TypeError, ValueError):
        return b""  # a type without JSON Schema; the definition is shown without its parameters


def _nearest(name: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def describe_misfit(alias: str, signature: Signature, error: Exception, given: Any, advice: str = "") -> str:
    """Say in our words what msgspec found wrong with a payload: name, expected, got."""
    text = str(error)
    tail = " ".join(part for part in (f"Expected {signature.text}.", advice) if part)
    missing = _MISSING.match(text)
    if missing:
        return f"task {alias!r}: missing argument {missing[1]!r}. Pass it. {tail}"
    unknown = _UNKNOWN.match(text)
    if unknown:
        return f"task {alias!r}: unknown argument {unknown[1]!r}{_nearest(unknown[1], signature.names)}. {tail}"
    found = _AT.match(text)
    if not found:
        return f"task {alias!r}: {text[:1].lower()}{text[1:].replace('`', '')}. {tail}"
    path = found["path"].removeprefix("$").removeprefix(".")
    top = re.split(r"[.\[]", path)[0]
    value = f" ({given[top]!r:.60})" if isinstance(given, dict) and top in given else ""
    what = found["what"].replace("`", "")
    return f"task {alias!r}: argument {path!r}: {what[:1].lower()}{what[1:]}{value}. {tail}"
