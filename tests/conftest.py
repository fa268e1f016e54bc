"""What holds for every test."""

import pytest
from hypothesis import settings

from tests.features import check_ids

# Each run tries the same examples, so that a red run is red again; no example is held to a time. `make soak` draws new
# ones (--hypothesis-profile=soak) and prints how to repeat a failure.
settings.register_profile("test", derandomize=True, deadline=None)
settings.register_profile("soak", deadline=None, print_blob=True)
settings.load_profile("test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a mark with an unknown feature id, also where it was set without `feature()`."""
    for item in items:
        for mark in item.iter_markers("feature"):
            check_ids(mark.args)
