"""The HTTP API over any store: a client for the tests of the node, which run on every storage back end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx

from holdfast.chance import IdMaker
from holdfast.hub.api import make_api
from holdfast.hub.parts import Parts
from holdfast.job.commands import Define
from holdfast.job.retry import RetryPolicy
from tests.node import test_api
from tests.node.remote import info
from tests.node.test_api import Api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from holdfast.testing.contract.harness import StoreHarness


#: It breaks the memory store from inside; what it shows is no matter of the store.
_OF_MEMORY: Final = "test_an_error_of_ours_is_a_short_500_and_no_traceback"


def suite_of_the_api() -> dict[str, Callable[..., Any]]:
    """The node's tests of the API, by name."""
    named = {name: value for name, value in vars(test_api).items() if name.startswith("test_") and name != _OF_MEMORY}
    assert len(named) > 10, "the tests of the API have moved"
    return named


@asynccontextmanager
async def api_over(h: StoreHarness) -> AsyncIterator[Api]:
    """The API over the store of a harness, with the tasks that the tests know."""
    await h.open()
    await h.store.define(
        [Define(alias="mail", queue="post", retry=RetryPolicy(max_attempts=3), timeout=7.0), Define(alias="off")]
    )
    parts = Parts(store=h.store, new_id=IdMaker(h.clock.now), node=info)
    # In the loop of the store, which its connections are bound to; Litestar's own test client has one of its own.
    served: Any = make_api(parts)
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver.local") as client:
        await Api(client, h.store, h.clock).ask("PATCH", "/definitions/off", {"status": "canceled"})  # type: ignore[arg-type]
        yield Api(client, h.store, h.clock)  # type: ignore[arg-type]
    await h.close()
