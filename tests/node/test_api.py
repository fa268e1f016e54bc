"""The HTTP API over a store: what it takes, what it refuses, and how it says so."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar.testing import AsyncTestClient

from holdfast.chance import IdMaker
from holdfast.clock import ManualClock
from holdfast.hub.api import API_ROUTES, make_api
from holdfast.hub.parts import Parts
from holdfast.job.commands import Define
from holdfast.job.retry import RetryPolicy
from holdfast.stores.memory import MemoryStore
from tests.features import feature
from tests.node.remote import info

Answer = tuple[int, Any]


class Api:
    """The API as a client sees it."""

    def __init__(self, client: AsyncTestClient[Any], store: MemoryStore, clock: ManualClock) -> None:
        self.client, self.store, self.clock = client, store, clock

    async def ask(self, method: str, path: str, body: object = None, *, content: bytes | None = None) -> Answer:
        """Send a request below /api/v1."""
        data = content if content is not None else None if body is None else json.dumps(body).encode()
        answer = await self.client.request(method, f"/api/v1{path}", content=data)
        return answer.status_code, answer.json()

    async def count(self) -> int:
        """How many jobs there are."""
        return int((await self.ask("GET", "/job-count"))[1]["count"])


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    await store.open()
    await store.define(
        [Define(alias="mail", queue="post", retry=RetryPolicy(max_attempts=3), timeout=7.0), Define(alias="off")]
    )
    parts = Parts(store=store, new_id=IdMaker(clock.now), node=info)
    async with AsyncTestClient(make_api(parts)) as client:
        await Api(client, store, clock).ask("PATCH", "/definitions/off", {"status": "canceled"})
        yield Api(client, store, clock)


async def test_a_job_is_stored_as_its_task_says(api: Api) -> None:
    status, answer = await api.ask("POST", "/jobs", {"task": "mail", "payload": {"to": "ann"}})
    assert (status, answer["verdict"], answer["state"], answer["queue"]) == (201, "new", "queued", "post")
    _, found = await api.ask("GET", f"/jobs/{answer['id']}")
    job = found["job"]
    assert job["payload"] == {"to": "ann"}
    assert (job["retry"]["max_attempts"], job["timeout"]) == (3, 7.0)
    assert [reason["code"] for reason in found["why"]] == ["no_worker"]


async def test_what_a_request_says_itself_counts_more_than_the_task(api: Api) -> None:
    request = {
        "task": "mail", "id": "my/own", "queue": "fast", "priority": 9, "delay": "5m", "timeout": "2s",
        "max_attempts": 1, "key": "user:1", "tags": ["a", "b"], "headers": {"x": 1},
    }  # fmt: skip
    assert (await api.ask("POST", "/jobs", request))[0] == 201
    _, found = await api.ask("GET", "/jobs/my/own")
    job = found["job"]
    assert (job["queue"], job["priority"], job["timeout"], job["state"]) == ("fast", 9, 2.0, "scheduled")
    assert job["run_at"] == api.clock.now() + 300
    assert (job["key"], job["tags"], job["headers"]) == ("user:1", ["a", "b"], {"x": 1})
    assert job["retry"]["max_attempts"] == 1


async def test_the_older_form_names_the_task_in_its_payload(api: Api) -> None:
    _, answer = await api.ask("POST", "/jobs", {"id": "j1", "payload": {"type": "mail", "to": "ann"}})
    _, found = await api.ask("GET", "/jobs/j1")
    assert (answer["task"], found["job"]["payload"]) == ("mail", {"to": "ann"})


REFUSED = [
    ({"task": "nope"}, 422, "unknown task 'nope'"),
    ({"task": "off"}, 409, "task 'off' is canceled"),
    ({"payload": {}}, 422, "task: expected the alias"),
    ({"task": "mail", "payload": [1]}, 422, "payload: expected an object"),
    ({"task": "mail", "payload": {"x": "a\x00b"}}, 422, "at $.x: expected text without NUL"),
    ({"task": "mail", "payload": {"x": 2**64}}, 422, "integer of at most 64 bits"),
    ({"task": "mail", "colour": 1}, 422, "unknown field `colour`"),
    ({"task": "mail", "priority": 101}, 422, "priority: expected a whole number from -100 to 100"),
    ({"task": "mail", "delay": "soon"}, 422, "delay: expected"),
    ({"task": "mail", "delay": 1, "run_at": 2.0}, 422, "delay or run_at, found both"),
    ({"task": "mail", "run_at": "2030-01-01T00:00:00"}, 422, "timezone"),
    ({"task": "mail", "queue": "a b"}, 422, "queue: expected"),
    ({"task": "mail", "id": "x" * 129}, 422, "id: expected at most 128"),
    ({"task": "mail", "max_attempts": 0}, 422, "max_attempts: expected 1"),
    ({"task": "mail", "unique_for": "1h"}, 422, "need unique"),
    ({"task": "mail", "tags": [str(n) for n in range(17)]}, 422, "tags: expected at most 16"),
    ({"task": "mail", "payload": {"x": "y" * 1_100_000}}, 413, "payload: expected at most 1,048,576 bytes"),
    (7, 422, "Expected"),
]  # fmt: skip


@pytest.mark.parametrize(("request_body", "status", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
async def test_what_can_not_be_stored_is_refused_in_words(api: Api, request_body: Any, status: int, words: str) -> None:
    found, problem = await api.ask("POST", "/jobs", request_body)
    assert (found, problem["status"]) == (status, status)
    assert words in problem["detail"]
    assert await api.count() == 0


async def test_a_batch_with_one_bad_job_stores_nothing_and_names_the_job(api: Api) -> None:
    status, problem = await api.ask("POST", "/jobs", [{"task": "mail"}, {"task": "mail", "priority": 1_000}])
    assert status == 422
    assert problem["detail"].startswith("job 2 of 2: priority")
    assert await api.count() == 0


async def test_a_batch_is_limited_in_number(api: Api) -> None:
    status, problem = await api.ask("POST", "/jobs", [{"task": "mail"}] * 10_001)
    assert (status, problem["code"]) == (413, "TooLarge")
    assert (await api.ask("POST", "/jobs", [{"task": "mail"}] * 10_000))[0] == 201
    assert await api.count() == 10_000


@pytest.mark.parametrize("content", [b"", b"{", b'{"task": NaN}', b"\xff", b"[" * 200_000], ids=repr)
async def test_what_is_no_json_is_refused(api: Api, content: bytes) -> None:
    status, problem = await api.ask("POST", "/jobs", content=content)
    assert status in (400, 422)
    assert problem["title"]


async def test_a_body_over_the_limit_of_its_address_is_refused(api: Api) -> None:
    status, problem = await api.ask("PATCH", "/queues/post", content=b" " * (2 * 1024 * 1024 + 1))
    assert (status, problem["code"]) == (413, "http-413")


async def test_a_taken_id_is_a_conflict_that_names_its_holder(api: Api) -> None:
    await api.ask("POST", "/jobs", {"task": "mail", "id": "one"})
    status, problem = await api.ask("POST", "/jobs", [{"task": "mail", "id": "two"}, {"task": "mail", "id": "one"}])
    assert (status, problem["code"], problem["data"]["taken"]) == (409, "DuplicateJob", {"one": "one"})
    assert await api.count() == 1


async def test_pages_neither_repeat_nor_hide_a_job(api: Api) -> None:
    made = [(await api.ask("POST", "/jobs", {"task": "mail"}))[1]["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        _, page = await api.ask("GET", f"/jobs?limit=2&cursor={cursor}&newest_first=false")
        seen += [job["id"] for job in page["items"]]
        cursor = page["cursor"]
        if not cursor:
            break
        await api.ask("POST", "/jobs", {"task": "mail", "queue": "other"})
    assert seen[:5] == made
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "cursor=x", "state=lost", "colour=red", "newest_first=perhaps"]
)
async def test_a_bad_query_is_refused(api: Api, query: str) -> None:
    assert (await api.ask("GET", f"/jobs?{query}"))[0] == 422


async def test_actions_by_ids_rule_on_each_and_by_filter_can_be_seen_before(api: Api) -> None:
    await api.ask("POST", "/jobs", [{"task": "mail", "id": "a"}, {"task": "mail", "id": "b"}])
    action = {"action": {"type": "cancel", "why": "enough"}, "who": "ann"}
    _, seen = await api.ask("POST", "/job-actions", {**action, "filter": {"queue": "post"}, "preview": True})
    assert (seen["matched"], seen["done"]) == (2, 0)
    _, answer = await api.ask("POST", "/job-actions", {**action, "ids": ["a", "zz"]})
    assert [(one["id"], one["done"]) for one in answer["rulings"]] == [("a", True), ("zz", False)]
    _, answer = await api.ask("POST", "/job-actions", {**action, "filter": {"queue": "post"}})
    assert (answer["matched"], answer["done"], answer["refused"]) == (2, 1, 1)
    _, operations = await api.ask("GET", "/operations")
    done = [(one["id"], one["action"], one["state"]) for one in operations]
    assert (answer["operation"]["id"], "cancel", "done") in done


ACTIONS = [
    ({"type": "pause"}, "paused"),
    ({"type": "delete"}, "canceled"),
    ({"type": "edit", "run_at": "2099-01-01T00:00:00Z", "priority": 3}, "scheduled"),
    ({"type": "edit", "payload": {"to": "bob"}}, "queued"),
]


@pytest.mark.parametrize(("action", "state"), ACTIONS, ids=lambda value: str(value)[:40])
async def test_each_action_does_what_it_says(api: Api, action: dict[str, Any], state: str) -> None:
    await api.ask("POST", "/jobs", {"task": "mail", "id": "a", "payload": {"to": "ann"}})
    status, answer = await api.ask("POST", "/job-actions", {"action": action, "ids": ["a"]})
    assert (status, answer["done"]) == (200, 1), answer
    _, found = await api.ask("GET", "/jobs/a")
    assert found["job"]["state"] == state
    if "payload" in action:
        assert found["job"]["payload"] == action["payload"]


TYPED = b'{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'


@feature("T10")
@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "missing argument 'n'"),
        ({"n": "1"}, "argument 'n': expected int"),
        ({"n": 1, "m": 2}, "unknown argument 'm'"),
    ],
)
async def test_arguments_that_a_task_does_not_take_are_refused_by_a_hub_that_has_no_code_of_it(
    api: Api, payload: dict[str, Any], said: str
) -> None:
    await api.store.define([Define(alias="typed", parameters=TYPED)])
    status, answer = await api.ask("POST", "/jobs", {"task": "typed", "payload": payload})
    assert (status, said in answer["detail"], "another version" in answer["detail"]) == (422, True, False)
    many = [{"task": "typed", "payload": one} for one in ({"n": 1}, payload)]
    status, answer = await api.ask("POST", "/jobs", many)
    assert (status, f"job 2 of 2: task 'typed': {said}" in answer["detail"], await api.count()) == (422, True, 0)
    await api.ask("POST", "/jobs", {"task": "typed", "id": "a", "payload": {"n": 1}})
    _, answer = await api.ask("POST", "/job-actions", {"action": {"type": "edit", "payload": payload}, "ids": ["a"]})
    assert (answer["done"], said in answer["rulings"][0]["why"]) == (0, True)
    schedule = {"name": "s", "task": "typed", "rule": "@daily", "status": "active", "payload": payload}
    status, answer = await api.ask("PUT", "/schedules", schedule)
    assert (status, said in answer["detail"], await api.ask("GET", "/schedules")) == (422, True, (200, []))


@feature("T31")
async def test_an_active_schedule_without_a_next_time_gets_it(api: Api) -> None:
    schedule = {"name": "s", "task": "mail", "rule": "every 1m", "status": "active"}
    status, answer = await api.ask("PUT", "/schedules", schedule)
    assert (status, answer["next_run_at"] is not None) == (200, True)
    [stored] = await api.store.schedules()
    assert stored.next_run_at == api.clock.now() + 60.0


async def test_an_action_needs_ids_or_a_filter_and_never_both(api: Api) -> None:
    for extra in ({}, {"ids": ["a"], "filter": {}}):
        assert (await api.ask("POST", "/job-actions", {"action": {"type": "pause"}, **extra}))[0] == 422


async def test_queues_are_paused_limited_and_forgotten(api: Api) -> None:
    await api.ask("POST", "/jobs", {"task": "mail", "id": "a"})
    change = {"paused": True, "why": "deploy", "who": "ann", "limit": 3}
    assert (await api.ask("PATCH", "/queues/post", change))[1]["limit"] == 3
    _, found = await api.ask("GET", "/jobs/a")
    assert found["why"][0]["code"] == "queue_paused"
    assert "ann" in found["why"][0]["text"]
    assert "deploy" in found["why"][0]["text"]
    assert (await api.ask("GET", "/queues/post"))[1]["counts"]["queued"] == 1
    assert (await api.ask("DELETE", "/queues/post"))[0] == 409
    for path in ("/queues/none", "/definitions/none", "/jobs/none", "/workers/none"):
        assert (await api.ask("GET", path))[0] == 404
    assert (await api.ask("PATCH", "/queues/none", {"paused": True}))[0] == 404
    assert (await api.ask("PATCH", "/queues/post", {"limit": 0}))[0] == 422


async def test_what_is_not_served_is_told_as_a_problem(api: Api) -> None:
    assert (await api.ask("GET", "/nowhere"))[1]["code"] == "http-404"
    assert (await api.ask("PUT", "/jobs", {}))[1]["code"] == "http-405"


async def test_the_description_holds_every_route_and_every_reference_in_it_leads_somewhere(api: Api) -> None:
    answer = await api.client.get("/api/v1/openapi.json")
    description = answer.json()
    assert description["openapi"] == "3.1.0"
    found = {(method, path) for path, methods in description["paths"].items() for method in methods}
    assert found == {(route.method.lower(), f"/api/v1{route.path}") for route in API_ROUTES}
    names = [route.operation for route in API_ROUTES]
    assert len(names) == len(set(names))
    schemas = description["components"]["schemas"]
    references = {part.split('"')[0] for part in answer.text.split('"#/components/schemas/')[1:]}
    assert references <= set(schemas)


async def test_an_error_of_ours_is_a_short_500_and_no_traceback(api: Api) -> None:
    api.store.ledger.index.lines = None  # type: ignore[assignment]  # something breaks
    status, problem = await api.ask("GET", "/stats")
    assert (status, problem["code"]) == (500, "http-500")
    assert "Traceback" not in json.dumps(problem)
    assert "NoneType" not in json.dumps(problem)
