"""Edges of what may be stored; the rules themselves are shown in test_content_rules.py."""

from dataclasses import dataclass

import pytest

from holdfast.errors import ContentError
from holdfast.job.content import DEPTH_MAX, encode_arguments, encode_plain, encode_result
from holdfast.job.ids import check_priority
from tests.features import feature


@dataclass
class Letter:
    text: str | None = None


@feature("A11", "T28")
def test_none_inside_a_struct_is_a_value_like_any_other() -> None:
    assert encode_arguments(Letter()) == encode_result(Letter()) == b'{"text":null}'


@feature("T26")
@pytest.mark.parametrize("priority", [-100, -1, 0, 1, 100])
def test_a_priority_within_its_bounds_is_taken(priority: int) -> None:
    assert check_priority(priority) == priority


@feature("T26")
@pytest.mark.parametrize("priority", [-101, 101, True, 1.0, "1", None])
def test_anything_else_is_refused_as_a_priority(priority: object) -> None:
    with pytest.raises(ContentError, match="from -100 to 100"):
        check_priority(priority)


def test_many_values_are_encoded_together_if_none_may_hold_a_fault() -> None:
    deep: object = 1
    for _ in range(DEPTH_MAX + 1):
        deep = [deep]
    assert encode_plain([(1, "a"), {"n": 2.5}]) == [b'[1,"a"]', b'{"n":2.5}']
    for faulty in (None, float("nan"), "a\0b", object(), deep, "x" * 200):
        assert encode_plain([1, faulty], limit=100) is None, faulty
    assert encode_plain([1, 10**40]) is None
    assert encode_plain(["x" * 90], limit=100) == [b'"' + b"x" * 90 + b'"']
