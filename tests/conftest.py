"""What holds for every test."""

import pytest

from tests.features import check_ids


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a mark with an unknown feature id, also where it was set without `feature()`."""
    for item in items:
        for mark in item.iter_markers("feature"):
            check_ids(mark.args)
