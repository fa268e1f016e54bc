"""T52: the authorisation matrix, made from the routes: each operation by each role, with known and unknown ids, and mixes."""

import json
from typing import Any, Final

import pytest

from holdfast.hub.api import API_ROUTES
from holdfast.hub.routing import EVENTS, Route
from holdfast.hub.scopes import Scope, allowed
from tests.hub.site import Site

ROLES: Final = [*Scope, None]
#: Bodies that are as each route wants them, so that a refusal is for the caller and not for what he sent.
BODIES: Final[dict[str, Any]] = {
    "POST /jobs": {"task": "t"},
    "POST /job-actions": {"action": {"type": "cancel"}, "ids": ["ID"]},
    "DELETE /operations/{id}": {},
    "PATCH /queues/{name}": {"paused": False},
    "POST /queue-clear": {"queue": "none"},
    "PUT /schedules": {"name": "s", "rule": "every 1h", "task": "t"},
    "POST /schedules/fire": {"name": "s", "due": 1.0, "jobs": [], "next_run_at": None},
    "POST /definitions": {"definitions": []},
    "PATCH /definitions/{name}": {"title": "x"},
    "PUT /workers": {"name": "w"},
    "POST /records": {"jobs": []},
    "POST /record-statuses": {"updates": []},
    "POST /record-attempts": {"attempts": []},
    "POST /audit": {"action": "note"},
    "POST /session-links": {"who": "bob"},
    "POST /store/lookup": {"ids": ["ID"]},
    "POST /tasks/{id}/replay": {},
    "POST /tasks/batch-retry": {"task_ids": ["ID"]},
}


def label(route: Route) -> str:
    return f"{route.method} {route.path}"


def filled_in(value: Any, job_id: str) -> Any:
    return json.loads(json.dumps(value).replace("ID", job_id))


@pytest.mark.parametrize("route", [one for one in API_ROUTES if one.media != EVENTS], ids=label)
async def test_t52_each_role_comes_as_far_as_its_scopes_reach(site: Site, route: Route) -> None:
    await site.define("t")
    there = (await site.do("POST", "/jobs", {"task": "t"}))["id"]
    secrets = {role: site.make(role.value.replace(":", "-"), role) for role in Scope}
    for role in ROLES:
        site.token = secrets[role] if role is not None else None
        may = allowed((role,)) if role is not None else frozenset({Scope.READ})
        for name in (there, "unknown"):
            path = route.path.replace("{id}", name).replace("{name}", name)
            status, problem = await site.ask(route.method, path, filled_in(BODIES.get(label(route), {}), name))
            if route.scope in may and not (role is None and route.method != "GET"):
                assert status not in (401, 403), (role, problem)
            elif role is None and route.method != "GET":
                assert status == 401, (role, problem)
            else:
                # A refusal tells nothing of what is there: it is the same for an id that exists and for one that does not.
                assert (status, "unknown" in json.dumps(problem)) == (403, False), (role, problem)
                assert there not in json.dumps(problem)


async def test_t52_an_action_on_a_mix_of_ids_is_judged_id_by_id(site: Site) -> None:
    await site.define("t")
    ids = [(await site.do("POST", "/jobs", {"task": "t"}))["id"] for _ in range(3)]
    mix = [ids[0], "unknown", ids[1], ids[0], "../x", ids[2]]
    answer = await site.do("POST", "/job-actions", {"action": {"type": "cancel"}, "ids": mix})
    assert [(one["id"], one["done"]) for one in answer["rulings"]] == [
        (ids[0], True),
        ("unknown", False),
        (ids[1], True),
        ("../x", False),
        (ids[2], True),
    ]
    assert (answer["matched"], answer["done"], answer["refused"]) == (5, 3, 2)


async def test_t52_a_route_without_a_scope_can_not_be_written() -> None:
    for route in API_ROUTES:
        assert route.scope in Scope
        assert route.method == "GET" or route.scope is not Scope.READ or route.path.startswith("/store/"), label(route)
