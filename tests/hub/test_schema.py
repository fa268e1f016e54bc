"""T50: schemathesis over the whole API, per role: no answer is a 5xx, each is as described, nothing odd is taken."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from holdfast.clock import ManualClock
from holdfast.hub.api import API_ROUTES
from holdfast.hub.openapi import BASE
from holdfast.hub.scopes import Scope, allowed
from holdfast.job.commands import Define
from holdfast.job.model import Job
from holdfast.stores.memory import MemoryStore
from holdfast.testing.contract.harness import StoreHarness
from scripts.openapi import PAGE, text
from tests.features import feature
from tests.hub.site import Site

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: Roles: a token with one scope each, one with all, and nobody.
ROLES: Final = [*(scope.value for scope in Scope), "nobody"]
SCHEMA: Final = schemathesis.openapi.from_dict(json.loads(text()))
OPERATIONS: Final = {
    operation.label: operation
    for operation in (cast("Any", found).ok() for found in SCHEMA.get_all_operations())
    if not operation.label.endswith("/events")  # its answer does not end; see test_events.py
}


class Impatient(MemoryStore):
    """A store that never waits: a request may ask it to for minutes."""

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        return False

    async def finished(self, ids: Sequence[str], timeout: float) -> list[Job]:
        return await super().finished(ids, 0.0)


class Caller:
    """A hub and a caller of one role, in a loop of their own."""

    def __init__(self, folder: Path, role: str) -> None:
        clock = ManualClock()
        self.runner = asyncio.Runner()
        self.site = Site(StoreHarness(Impatient(clock=clock), clock), folder, reads_need_token=True)
        self.role = role
        self.run(self.site.open())
        self.run(self.site.store.define([Define(alias="mail"), Define(alias="0")]))
        self.site.token = None if role == "nobody" else self.site.make("caller", Scope(role))

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def close(self) -> None:
        self.run(self.site.close())
        self.runner.close()

    def call(self, case: Any) -> httpx.Response:
        """Send a case as this role."""
        given_ = case.as_transport_kwargs(base_url="http://localhost")
        headers = {str(name): str(value) for name, value in (given_.pop("headers", None) or {}).items()}
        if self.site.token is not None:
            headers["authorization"] = f"Bearer {self.site.token}"
        content = given_.get("data")
        if given_.get("json") is not None or (
            content is None and case.body is not None and isinstance(case.body, dict | list)
        ):
            content = json.dumps(given_.get("json", case.body)).encode("utf-8", "surrogatepass")
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        request = self.site.client.build_request(
            given_["method"], given_["url"], params=given_.get("params"), headers=headers, content=content
        )
        response: httpx.Response = self.run(self.site.client.send(request))
        return response


@pytest.fixture(params=ROLES)
def caller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Caller]:
    made = Caller(tmp_path, request.param)
    yield made
    made.close()


def scope_of(label: str) -> Scope:
    method, path = label.split(" ", 1)
    [route] = [one for one in API_ROUTES if one.method == method and BASE + one.path == path]
    return route.scope


def explore(caller: Caller, examples: int, first: int = 7, each: int = 1) -> int:
    """Send cases of every `each`-th operation, those that fit and those that do not; return how many."""
    may = allowed((Scope(caller.role),)) if caller.role != "nobody" else frozenset()
    sent = [0]
    for operation in list(OPERATIONS.values())[ROLES.index(caller.role) % each :: each]:
        refused = scope_of(operation.label) not in may
        look = looking_at(caller, operation, refused=refused, sent=sent)
        steps = settings(
            max_examples=1 if refused else examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(first)(steps(given(data=st.data())(look)))()
    return sent[0]


def looking_at(caller: Caller, operation: Any, *, refused: bool, sent: list[int]) -> Any:
    """Return a test of one operation."""

    def look(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        response = caller.call(case)
        sent[0] += 1
        assert "Traceback" not in response.text
        if refused:
            assert response.status_code in (401, 403, 404), (operation.label, response.status_code)
        wrong = mode is GenerationMode.NEGATIVE and not refused
        case.validate_response(response, checks=[*CHECKS, negative_data_rejection] if wrong else CHECKS)

    return look


def test_t50_no_role_breaks_the_api_and_each_answer_is_as_described(caller: Caller) -> None:
    if caller.role == Scope.ADMIN:
        assert explore(caller, 5) >= len(OPERATIONS)
    else:  # what is refused to a role is all in test_matrix.py
        assert explore(caller, 2, each=4) > 10


@pytest.mark.soak
def test_t50_a_hundred_requests_for_each_operation_in_each_role(caller: Caller) -> None:
    explore(caller, 100)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(5))
def test_t50_a_hundred_thousand_requests(tmp_path: Path, first: int) -> None:
    caller = Caller(tmp_path, "admin")
    try:
        assert explore(caller, 300, first) > 15_000
    finally:
        caller.close()


@feature("HW14", "HW19")
def test_the_description_that_is_kept_is_the_one_that_is_served() -> None:
    assert PAGE.read_text() == text(), "run: python -m scripts.openapi"
