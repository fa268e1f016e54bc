"""A hub as its callers see it, without a server: the API behind its door, over any store of the contract suites."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx

from holdfast.chance import IdMaker
from holdfast.connect import make_audit, make_history
from holdfast.hub.api import make_api
from holdfast.hub.door import Door, Policy
from holdfast.hub.events import Ring
from holdfast.hub.openapi import BASE
from holdfast.hub.parts import Parts
from holdfast.hub.scopes import Scope
from holdfast.hub.sessions import Sessions
from holdfast.hub.tokens import FILE, TokenFile
from holdfast.job.commands import Define, QueueWant, Settlement, Want
from holdfast.job.retry import RetryPolicy
from holdfast.node.live import Live
from holdfast.telemetry.front_door import FrontDoor
from holdfast.testing.contract.harness import StoreHarness
from tests.node.remote import info

ORIGIN: Final = "http://localhost"
OWN: Final = "the-node's-own-secret-0123456789"


class Site:
    """One hub. `token`: what is sent unless something else is said; None: nothing."""

    def __init__(self, rig: StoreHarness, folder: Path, **policy: Any) -> None:
        self.rig, self._policy = rig, policy
        self.clock = rig.clock
        self.tokens = TokenFile(folder / FILE)
        self.sessions = Sessions(self.clock.now)
        self.ring = Ring("boot")
        self.token: str | None = OWN
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Open the store and put the API before it."""
        await self.rig.open()
        history, workers = make_history(self.rig.store)
        self.store = FrontDoor(self.rig.store, [Live(self.ring)])
        self.audit = make_audit(self.rig.store)
        self.parts = Parts(
            store=self.store,
            new_id=IdMaker(self.clock.now),
            node=info,
            history=history,
            workers=workers,
            audit=self.audit,
            sessions=self.sessions,
            events=self.ring,
        )
        self.door = Door(make_api(self.parts), self.policy(**self._policy))
        self.client = await self._stack.enter_async_context(self.client_of(self.door))

    def policy(self, **changes: Any) -> Policy:
        """The rules of the door, with `changes`."""
        fields: dict[str, Any] = {
            "tokens": (OWN,),
            "keys": self.tokens,
            "sessions": self.sessions,
            "now": self.clock.now,
            "monotonic": self.clock.monotonic,
        }
        return Policy(**fields | changes)

    def client_of(self, door: Door) -> httpx.AsyncClient:
        """A client of another door before the same API."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url=ORIGIN)

    async def close(self) -> None:
        """Let everything go."""
        await self._stack.aclose()
        await self.rig.close()

    # --- asking

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """Send a request; `path` is below /api/v1 unless it begins with "//"."""
        headers = dict(more.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("authorization", f"Bearer {self.token}")
        if body is not None:
            more["content"] = json.dumps(body).encode()
            headers.setdefault("content-type", "application/json")
        where = path[1:] if path.startswith("//") else BASE + path
        return await self.client.request(method, where, headers=headers, **more)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Send a request; return status and decoded answer."""
        answer = await self.send(method, path, body, **more)
        return answer.status_code, answer.json()

    async def get(self, path: str) -> Any:
        """Read what must be there."""
        status, answer = await self.ask("GET", path)
        assert status == 200, answer
        return answer

    async def do(self, method: str, path: str, body: Any = None) -> Any:
        """Change something that can be changed."""
        status, answer = await self.ask(method, path, body)
        assert status in (200, 201), answer
        return answer

    # --- callers

    def make(self, name: str, *scopes: Scope) -> str:
        """Make a token."""
        return self.tokens.make(name, scopes, now=self.clock.now())

    async def person(self, *scopes: Scope, who: str = "ann") -> str:
        """Open a session through its link, as a browser does; return its CSRF token. Nothing else is sent from then on."""
        self.token = None
        code = self.sessions.invite(who, frozenset(scopes or Scope))
        answer = await self.client.post("/session", data={"code": code}, headers={"origin": ORIGIN})
        assert answer.status_code == 303, answer.text
        [session] = list(self.sessions._kept.sessions.values())[-1:]
        return session.csrf

    # --- work

    async def define(self, *aliases: str, max_attempts: int = 1) -> None:
        """Make tasks known, of the queue that the rig's workers serve."""
        retry = RetryPolicy(max_attempts=max_attempts, base=0.0, factor=1.0, cap=0.0)
        await self.store.define([Define(alias=alias, queue=self.rig.queue, retry=retry) for alias in aliases])

    async def rig_claim_through(self, store: Any) -> Any:
        """Claim the one job that is ready, through the front door, which the rig does not pass."""
        want = Want(queues=(QueueWant(self.rig.queue, 1),), limit=1, instance="i1", worker="w")
        [claim] = (await store.claim(want)).items
        return claim

    @staticmethod
    def settlement(claim: Any, ending: Any) -> Any:
        """An ending, as a worker reports it."""
        return Settlement(claim, ending)
