"""The namespace of an app's sticky services."""

import pytest

from holdfast import Holdfast
from holdfast.errors import ContentError


@pytest.mark.parametrize("namespace", ["", " ", "a:b", "a}b", "x" * 200, "\x00"])
def test_a_namespace_that_is_none_is_refused_when_the_app_is_made(namespace: str) -> None:
    """Later its jobs would wait without a word."""
    with pytest.raises(ContentError, match="namespace"):
        Holdfast("memory:", namespace=namespace)
