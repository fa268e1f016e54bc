"""What a handler's signature says: its parameters with their types, where the context goes, what it returns.

Annotations are read one by one, so that one that can not be resolved is named, and so that `ctx: Context` works also where
`Context` is imported for type checkers only.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from typing import TYPE_CHECKING, Any, Final, Union

import msgspec

from holdfast.errors import ConfigError
from holdfast.job.outcome import Cancel, Done, Fail, Snooze
from holdfast.worker.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OUTCOMES: Final = (Done, Snooze, Cancel, Fail)
_CONTEXT_TEXT: Final = re.compile(r"(\w+\.)*Context")
_NO_DEFAULT: Final = inspect.Parameter.empty


class Unresolved(Exception):
    """An annotation names something that does not exist (yet)."""


class Parameter(msgspec.Struct, frozen=True):
    """One argument of a task."""

    name: str
    type: Any
    default: Any  # inspect.Parameter.empty: required
    keyword_only: bool

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is _NO_DEFAULT


class Signature(msgspec.Struct, frozen=True):
    """The arguments of a handler in its order, without the context. `returns` is without outcomes."""

    parameters: tuple[Parameter, ...]
    context: str | None  # the name of the parameter that gets the context
    context_at: int | None  # its place among the positional parameters; None: given by name
    returns: Any
    text: str  # as shown in errors

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arguments, in order."""
        return tuple(parameter.name for parameter in self.parameters)


def read_signature(function: Callable[..., Any], local_names: Mapping[str, Any] | None = None) -> Signature:
    """Return the signature of `function`.

    `local_names` are names beside the function's globals. Raises ConfigError for parameters that a job can not carry,
    Unresolved when an annotation can not be resolved now.
    """
    found = inspect.signature(function)
    resolve = _Resolver(function, local_names or {})
    kept: list[Parameter] = []
    context: str | None = None
    context_at: int | None = None
    for parameter in found.parameters.values():
        _refuse_variadic(function, parameter)
        by_name = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        kind = resolve(parameter.annotation, parameter.name)
        if kind is not Context:
            kept.append(Parameter(parameter.name, Any if kind is object else kind, parameter.default, by_name))
            continue
        if context is not None:
            raise ConfigError(f"{_place(function)}: expected one parameter of type Context, found two. Remove one.")
        context, context_at = parameter.name, None if by_name else len(kept)
    returns = resolve(found.return_annotation, "return")
    return Signature(tuple(kept), context, context_at, _without_outcomes(returns), _shown(function, kept))


def _refuse_variadic(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise ConfigError(
            f"{_place(function)}: expected named parameters, found {parameter}. A job stores its arguments by name: "
            "write them out, or take one dict or dataclass."
        )
    if parameter.name.startswith("__"):
        raise ConfigError(
            f"{_place(function)}: expected no parameter that begins with __, found {parameter}. Rename it."
        )


class _Resolver:
    """Turns annotations, which may be texts, into types."""

    def __init__(self, function: Callable[..., Any], local_names: Mapping[str, Any]) -> None:
        inner = inspect.unwrap(function)
        self._globals = getattr(inner, "__globals__", {})
        code, cells = getattr(inner, "__code__", None), getattr(inner, "__closure__", None) or ()
        names = code.co_freevars if code else ()
        self._locals = {**local_names, **_filled(names, cells)}
        self._where = _place(function)

    def __call__(self, annotation: Any, name: str) -> Any:
        if annotation is inspect.Parameter.empty:
            return Any
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            return typing.get_type_hints(holder, self._globals, self._locals, include_extras=True)[name]
        except NameError as error:
            if isinstance(annotation, str) and _CONTEXT_TEXT.fullmatch(annotation):
                return Context
            raise Unresolved(
                f"{self._where}: annotation {annotation!r} of {name!r} can not be resolved: {error}"
            ) from None


def _filled(names: tuple[str, ...], cells: tuple[Any, ...]) -> dict[str, Any]:
    found = {}
    for name, cell in zip(names, cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # an empty cell: the name is assigned later
            continue
    return found


def _without_outcomes(returns: Any) -> Any:
    """Drop Done, Snooze, Cancel and Fail from a return annotation: what is left is the type of the result."""
    if typing.get_origin(returns) in (Union, types.UnionType):
        left = tuple(kind for kind in typing.get_args(returns) if kind not in _OUTCOMES)
        return Union[left] if left else Any  # noqa: UP007 - made of a tuple
    return Any if returns in _OUTCOMES else returns


def _place(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?')}.{name}"


def _shown(function: Callable[..., Any], kept: list[Parameter]) -> str:
    name = getattr(function, "__name__", None) or type(function).__name__
    parts = [_shown_parameter(parameter) for parameter in kept]
    first = next((i for i, parameter in enumerate(kept) if parameter.keyword_only), None)
    if first is not None:
        parts.insert(first, "*")
    return f"{name}({', '.join(parts)})"


def _shown_parameter(parameter: Parameter) -> str:
    kind = "" if parameter.type is Any else f": {inspect.formatannotation(parameter.type)}"
    if parameter.required:
        return parameter.name + kind
    return (
        f"{parameter.name}{kind} = {parameter.default!r:.40}" if kind else f"{parameter.name}={parameter.default!r:.40}"
    )
