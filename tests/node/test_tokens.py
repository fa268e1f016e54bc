"""Tokens with scopes: what they open, and that they open nothing more once they are revoked or have ended."""

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from holdfast.chance import IdMaker
from holdfast.clock import ManualClock
from holdfast.errors import ConfigError, Conflict
from holdfast.hub.api import API_ROUTES, make_api
from holdfast.hub.door import Door, Policy
from holdfast.hub.openapi import BASE
from holdfast.hub.parts import Parts
from holdfast.hub.scopes import Scope, allowed
from holdfast.hub.tokens import FILE, PREFIX, TokenFile
from holdfast.stores.memory import MemoryStore
from tests.node.remote import info


class Hub:
    """An API behind a door that others reach, its tokens, and the clock that ends them."""

    def __init__(self, client: httpx.AsyncClient, tokens: TokenFile, clock: ManualClock) -> None:
        self.client, self.tokens, self.clock = client, tokens, clock

    def make(self, name: str, *scopes: Scope, lives: float | None = None) -> str:
        """Make a token; return its secret."""
        now = self.clock.now()
        return self.tokens.make(name, scopes, now=now, expires_at=None if lives is None else now + lives)

    async def status(self, secret: str | None, method: str = "GET", path: str = "/stats", body: object = None) -> int:
        """Send a request with a token; return the status of the answer."""
        return (await self.answer(secret, method, path, body))[0]

    async def answer(
        self, secret: str | None, method: str = "GET", path: str = "/stats", body: object = None
    ) -> tuple[int, str]:
        """Send a request with a token; return status and text of the answer."""
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        content = None if body is None else json.dumps(body).encode()
        found = await self.client.request(method, f"{BASE}{path}", headers=headers, content=content)
        return found.status_code, found.text


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    await store.open()
    tokens = TokenFile(tmp_path / FILE)
    api = make_api(Parts(store=store, new_id=IdMaker(clock.now), node=info))
    door = Door(api, Policy(tokens=("the node's own secret",), keys=tokens, now=clock.now, reads_need_token=True))
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield Hub(client, tokens, clock)


async def test_each_scope_opens_its_own_routes_and_no_other(hub: Hub) -> None:
    secrets = {scope: hub.make(scope, scope) for scope in Scope if scope is not Scope.ADMIN}
    for route in API_ROUTES:
        path = route.path.replace("{id}", "x").replace("{name}", "x")
        for scope, secret in secrets.items():
            status = await hub.status(secret, route.method, path, {})
            assert (status == 403) == (route.scope not in allowed((scope,))), (route.method, route.path, scope, status)


async def test_admin_opens_everything(hub: Hub) -> None:
    secret = hub.make("root", Scope.ADMIN)
    for route in API_ROUTES:
        path = route.path.replace("{id}", "x").replace("{name}", "x")
        assert await hub.status(secret, route.method, path, {}) not in (401, 403), (route.method, route.path)


async def test_a_missing_scope_is_named_with_those_that_are_there(hub: Hub) -> None:
    secret = hub.make("shop", Scope.ENQUEUE, Scope.READ)
    status, text = await hub.answer(secret, "PATCH", "/queues/default", {"paused": True})
    assert status == 403
    assert "scope operate, found read, enqueue" in text


@pytest.mark.parametrize("given", ["wrong", "", "hf_", PREFIX + "x" * 43])
async def test_a_token_that_nobody_made_opens_nothing(hub: Hub, given: str) -> None:
    hub.make("shop", Scope.READ)
    assert await hub.status(given) == 401
    assert await hub.status(None) == 401
    assert await hub.status("the node's own secret") == 200


async def test_a_revoked_token_opens_nothing_from_then_on(hub: Hub) -> None:
    secret, other = hub.make("shop", Scope.READ), hub.make("office", Scope.READ)
    assert await hub.status(secret) == 200
    hub.tokens.revoke("shop")
    assert await hub.status(secret) == 401
    assert await hub.status(other) == 200


async def test_a_token_revoked_by_another_process_opens_nothing_either(hub: Hub, tmp_path: Path) -> None:
    secret = hub.make("shop", Scope.READ)
    assert await hub.status(secret) == 200
    TokenFile(tmp_path / FILE).revoke("shop")
    assert await hub.status(secret) == 401


async def test_a_token_ends_when_it_was_said_to(hub: Hub) -> None:
    secret = hub.make("guest", Scope.READ, lives=60.0)
    hub.clock.advance(59.0)
    assert await hub.status(secret) == 200
    hub.clock.advance(1.0)
    assert await hub.status(secret) == 401


async def test_the_records_name_the_holder_of_the_token_and_not_what_the_body_says(hub: Hub) -> None:
    secret = hub.make("night-shift", Scope.OPERATE, Scope.READ)
    change = {"paused": True, "create": True, "who": "somebody else"}
    assert await hub.status(secret, "PATCH", "/queues/mail", change) == 200
    _, text = await hub.answer(secret, path="/queues/mail")
    assert json.loads(text)["queue"]["paused_by"] == "night-shift"


async def test_the_file_holds_no_secret_and_is_for_its_owner_alone(hub: Hub, tmp_path: Path) -> None:
    secret = hub.make("shop", Scope.READ)
    assert secret.removeprefix(PREFIX) not in (tmp_path / FILE).read_text()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


async def test_a_name_that_is_taken_or_no_name_is_refused_and_changes_nothing(hub: Hub) -> None:
    secret = hub.make("shop", Scope.READ)
    with pytest.raises(Conflict, match="called 'shop' already"):
        hub.make("shop", Scope.ADMIN)
    with pytest.raises(ConfigError, match="expected 1 to"):
        hub.make("", Scope.READ)
    with pytest.raises(ConfigError, match="one scope or more"):
        hub.make("empty")
    with pytest.raises(ConfigError, match="no token is called 'shpo'; there are: shop"):
        hub.tokens.revoke("shpo")
    assert await hub.status(secret) == 200


async def test_a_file_that_is_not_ours_lets_nobody_in_and_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(ConfigError, match=r"tokens\.json: expected the tokens"):
        TokenFile(tmp_path / FILE).all()
