"""What the app's tests share: an app on a store in memory, with a clock that the test moves."""

from collections.abc import AsyncIterator

import pytest

from holdfast import Holdfast
from holdfast.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(clock: ManualClock) -> AsyncIterator[Holdfast]:
    async with Holdfast(clock=clock) as app:
        yield app
