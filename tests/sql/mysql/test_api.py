"""A16: the HTTP API keeps its promises over MariaDB. These are the node's own tests of it, on this store."""

from collections.abc import AsyncIterator

import pytest

from tests.node.test_api import Api
from tests.sql.core.api import api_over, suite_of_the_api
from tests.sql.mysql.harness import MariadbHarness
from tests.support.servers.mariadb import need


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    need()
    async with api_over(MariadbHarness()) as found:
        yield found


globals().update({f"test_a16_{name.removeprefix('test_')}": test for name, test in suite_of_the_api().items()})
