"""What may be stored: refused with its path in arguments, replaced visibly in results, and never a settle that is stuck."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ContentError, TooLarge
from holdfast.job.content import clean_text, clean_value, encode_arguments, encode_data, encode_result

DEEP: list[Any] = []
for _ in range(120):
    DEEP = [DEEP]
RING: list[Any] = []
RING.append(RING)


class Mood(Enum):
    GOOD = "good"


class Ugly:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


FAULTS: list[tuple[object, str, str]] = [
    ({"a": [1, {"b": "x\x00"}]}, "$.a[1].b", "without NUL characters, found one. Remove it"),
    ({"a\x00": 1}, "$['a\\x00']", "as a key: expected text without NUL"),
    ({"t": "\ud83d"}, "$.t", "found a lone surrogate. Send bytes, or clean the text"),
    ({"n": math.nan}, "$.n", "expected a finite number, found nan. Send None or text"),
    ([1.0, math.inf], "$[1]", "expected a finite number, found inf"),
    ({"n": 2**64}, "$.n", "at most 64 bits, found a larger one. Send it as text"),
    ({"n": -(2**63) - 1}, "$.n", "Send it as text"),
    ({"n": 10**400}, "$.n", "Send it as text"),
    (DEEP, "[0][0]", "at most 100 levels of nesting, found more. Flatten the value"),
    ({"x": None, "n": math.nan}, "$.n", "finite"),
]


@pytest.mark.parametrize(("value", "path", "words"), FAULTS, ids=range(len(FAULTS)))
def test_arguments_with_a_fault_are_refused_with_its_path_and_what_to_do(value: object, path: str, words: str) -> None:
    with pytest.raises(ContentError) as caught:
        encode_arguments(value, "task 'x'")
    assert path in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [object(), {"k": object()}, {1, 2j}, Ugly()], ids=["a", "b", "c", "d"])
def test_types_that_json_can_not_carry_are_refused_with_what_can_be_sent(value: object) -> None:
    with pytest.raises(
        ContentError, match=r"expected values that JSON can carry, .* Convert it to text, numbers, lists"
    ):
        encode_arguments(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    with pytest.raises(ContentError, match="at most 100 levels"):
        encode_arguments(RING)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"x": None, "f": 0.5},
        {"text": "\\u0000 and null and [[[["},
        {"big": 2**64 - 1, "small": -(2**63), "digits": "1234567890123456789012345"},
        [[[1]]] * 60,
        {"when": datetime(2030, 1, 1, tzinfo=UTC), "id": UUID(int=7), "money": Decimal("0.10"), "mood": Mood.GOOD},
        {"bytes": b"\x00\xff", "rtl": "שלום", "emoji": "😀", "": ""},
        {1: "a number as a key"},
    ],
)
def test_good_values_are_taken_even_if_they_look_suspicious(value: object) -> None:
    assert encode_arguments(value) == msgspec.json.encode(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.text("\x00\ud800a"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.text("\x00\udfff"), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_a_value_is_either_kept_exactly_or_refused(value: Any) -> None:
    try:
        data = encode_arguments(value)
    except ContentError:
        assert clean_value(value)  # and as a result it would be replaced
    else:
        assert msgspec.json.decode(data) == value
        assert encode_result(value) == data


@given(JSON)
def test_any_result_can_be_stored_and_read_by_everyone(value: Any) -> None:
    data = clean_value(value)
    text = data.decode()
    assert "\\u0000" not in text.replace("\\\\", "")
    msgspec.json.decode(data)
    assert clean_value(msgspec.json.decode(data)) == data


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\x00b", '"a␀b"'),
        ("\ud83d!", '"\\\\ud83d!"'),
        (math.nan, '"nan"'),
        (-math.inf, '"-inf"'),
        (2**64, '"18446744073709551616"'),
        ({"a\x00": [math.inf]}, '{"a␀":["inf"]}'),
    ],
)
def test_faults_in_results_are_replaced_by_what_can_be_seen(value: object, stored: str) -> None:
    assert encode_result(value).decode() == stored


@pytest.mark.parametrize(
    "value",
    [object(), Ugly(), {"k": {Ugly()}}, RING, DEEP, "\ud800" * 10, 10**5000],
    ids=["object", "ugly", "ugly within", "ring", "deep", "surrogates", "huge"],
)
def test_cleaning_never_raises(value: object) -> None:
    msgspec.json.decode(clean_value(value))


def test_what_is_too_large_says_both_sizes_and_what_to_do() -> None:
    with pytest.raises(
        TooLarge, match=r"arguments: expected at most 1,048,576 bytes, found 1,048,579. Store the bulk else"
    ):
        encode_arguments("x" * (1024 * 1024 + 1))
    with pytest.raises(TooLarge, match="result: expected at most 1,048,576 bytes"):
        encode_result("x" * (1024 * 1024))
    with pytest.raises(TooLarge, match="update: expected at most 65,536 bytes"):
        encode_data({"x": "x" * 65_536})
    assert clean_value("x" * 2_000_000) == b'"[2000002 bytes left out: over the limit of 1048576]"'


@given(st.text(), st.integers(40, 100))
def test_cut_text_fits_and_says_that_it_was_cut(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned.encode()) <= limit
    if len(text.encode(errors="replace")) <= limit and "\x00" not in text:
        assert cleaned == text
    elif "\x00" not in text:
        assert "[cut: " in cleaned
