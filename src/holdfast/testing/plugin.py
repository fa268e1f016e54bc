"""The pytest plugin of Holdfast (entry point `pytest11`: `holdfast = holdfast.testing.plugin`).

It makes failed asserts of the contract suites as telling as those of your own tests, and knows the mark that names the
features which a test shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

FEATURE_MARK = "feature(*ids): the test shows these features of Holdfast"


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and the rewriting of asserts before a suite is imported."""
    import pytest

    pytest.register_assert_rewrite("holdfast.testing.contract", "holdfast.testing.contract_router")
    config.addinivalue_line("markers", FEATURE_MARK)
