"""Payloads held against what a definition says of a task's arguments: nothing is refused that its worker would take."""

import datetime
import decimal
import enum
import json
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Holdfast
from holdfast.errors import BadArguments
from holdfast.job.parameters import misfit
from tests.features import feature


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    sku: str
    count: int = 1
    parts: "list[Line]" = field(default_factory=list)


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    age: int


class Renamed(msgspec.Struct, rename="kebab"):
    user_id: int


class Pair(NamedTuple):
    a: int
    b: str = "b"


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str = "b"


class Loose(TypedDict, total=False):
    a: int


KINDS: list[Any] = [
    int, float, str, bool, bytes, Any, None, list, dict, list[int], dict[str, int], dict[int, str], set[int],
    tuple[int, str], tuple[int, ...], int | None, int | str, list[int | None], datetime.datetime, datetime.date,
    datetime.timedelta, uuid.UUID, decimal.Decimal, Colour, Literal["x", 3, None], Line, list[Line], Cat | Dog, Cat,
    Renamed, Loose, Pair, Row, Annotated[int, msgspec.Meta(ge=1)], Annotated[str, msgspec.Meta(max_length=2)],
    dict[str, list[Line]], Line | int | None, datetime.datetime | None,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, 1, -1, 1.0, 1.5, 2**63, "", "x", "red", "xyz", "1.5", "P1D", "2030-01-01", "2030-01-01T00:00:00Z",
    "2030-01-01T00:00:00", "6f1ed002-ab59-5e5c-9d9d-0e4f5b4d6a3c", "aGk=", [], [1], ["x"], [1, "x"], [1, 1], [None], {},
    {"a": 1}, {"a": "x"}, {"1": "x"}, {"sku": "s"}, {"sku": 1}, {"sku": "s", "parts": [{"sku": "t"}]},
    {"sku": "s", "parts": [{"count": 1}]}, [{"sku": "s"}], {"k": [{"sku": "s"}]}, {"type": "Cat", "name": "n"},
    {"type": "Dog", "age": 1}, {"type": "Dog", "age": 1, "more": 2}, {"type": "Cow"}, {"user-id": 1}, {"user_id": 1},
]  # fmt: skip
#: What a schema can not say, or what we do not read back (objects with a tag, places with defaults): its worker decides.
LOOSER = (dict[int, str], datetime.datetime, datetime.datetime | None, set[int], Cat | Dog, Pair, Row)


def schema_of(kind: Any) -> bytes:
    app = Holdfast()

    @app.task("t")
    def task(value: kind, more: int = 3) -> None: ...

    known = app.tasks.get("t")
    assert known is not None
    return known.arguments.schema()


@feature("T10")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_a_worker_takes_is_taken_and_what_it_refuses_is_refused(kind: Any) -> None:
    app = Holdfast()

    @app.task("t")
    def task(value: kind, more: int = 3) -> None: ...

    known = app.tasks.get("t")
    assert known is not None
    arguments = known.arguments
    for value in VALUES:
        payload = json.dumps({"value": value}).encode()
        try:
            arguments.bind(payload, None)
        except BadArguments:
            if kind not in LOOSER and not (isinstance(value, dict) and "parts" in value):
                assert "value" in misfit(arguments.schema(), payload), (kind, value)
        else:
            assert misfit(arguments.schema(), payload) == "", (kind, value)


@feature("T10")
@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("{}", "missing argument 'value'"),
        ('{"value": 1, "moer": 2}', "unknown argument 'moer' (did you mean 'more'?)"),
        ('{"value": "x"}', "argument 'value': expected int, got str"),
        ('{"value": 1, "more": null}', "argument 'more': expected int, got null"),
        ("[1]", "expected object, got array"),
        ("{", "input data was truncated"),
    ],
)
def test_a_misfit_names_the_argument_and_says_what_is_expected(payload: str, said: str) -> None:
    assert misfit(schema_of(int), payload.encode()) == f"{said}. Expected the arguments value, more (optional)."


@feature("T10")
def test_names_that_a_record_does_not_have_are_refused_also_at_the_top_of_one_that_would_ignore_them() -> None:
    app = Holdfast()

    @app.task("t")
    def task(line: Line) -> None: ...

    known = app.tasks.get("t")
    assert known is not None
    schema = known.arguments.schema()
    assert misfit(schema, b'{"sku": "s", "parts": [{"sku": "t", "ignored": 1}]}') == ""
    assert misfit(schema, b'{"sku": "s", "cuont": 1}').startswith("unknown argument 'cuont' (did you mean 'count'?)")
    with pytest.raises(BadArguments, match="no field 'cuont'"):
        known.arguments.check(b'{"sku": "s", "cuont": 1}')


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
_WORDS = st.sampled_from(
    ["type", "properties", "$ref", "$defs", "anyOf", "enum", "items", "prefixItems", "required", "format", "minimum"]
)


@given(document=st.dictionaries(_WORDS, _JSON, max_size=5), payload=st.binary(max_size=8) | st.just(b"{}"))
def test_whatever_a_stored_schema_says_nothing_breaks(document: dict[str, Any], payload: bytes) -> None:
    assert isinstance(misfit(json.dumps(document).encode(), payload), str)


def test_nothing_is_known_of_a_definition_without_a_schema() -> None:
    for parameters in (b"", b"{", b"[]", b"null", b'{"x-holdfast-sticky": "chat"}', b'{"$ref": "#/$defs/gone"}'):
        assert misfit(parameters, b'{"a": 1}') == ""
