"""What tests of the hub share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("holdfast.testing.contract")

from tests.contract.adapters import ADAPTERS  # noqa: E402  # asserts are rewritten before they are imported
from tests.hub.site import Site  # noqa: E402


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A hub over the store in memory."""
    site = Site(ADAPTERS["memory"](), tmp_path)
    await site.open()
    yield site
    await site.close()


@pytest.fixture(params=list(ADAPTERS))
async def every_site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """The same hub over each store."""
    site = Site(ADAPTERS[request.param](), tmp_path)
    await site.open()
    yield site
    await site.close()
