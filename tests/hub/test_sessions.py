"""T54 and sessions of people: one link opens one session, and nobody forges a change in its name."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from holdfast.hub.api import API_ROUTES
from holdfast.hub.door import LOOPBACK_HOSTS
from holdfast.hub.scopes import READER, Scope
from holdfast.hub.sessions import COOKIE, FILE, IDLE, INVITE_LIFE, LIFE, Sessions
from holdfast.job.commands import DefinitionFilter
from tests.hub.site import ORIGIN, Site

CHANGES = [route for route in API_ROUTES if route.method != "GET"]


def path_of(path: str) -> str:
    return path.replace("{id}", "x").replace("{name}", "x")


async def test_a_link_opens_one_session_that_may_what_it_says(site: Site) -> None:
    csrf = await site.person(Scope.READ, Scope.OPERATE)
    cookie = next(iter(site.client.cookies.jar))
    assert (cookie.name, cookie.path) == (COOKIE, "/")
    headers = {"origin": ORIGIN, "x-csrf-token": csrf}
    assert (await site.ask("PATCH", "/queues/q", {"paused": True, "create": True}, headers=headers))[0] == 200
    assert (await site.get("/queues/q"))["queue"]["paused_by"] == "ann"
    assert (await site.ask("DELETE", "/queues/q", headers=headers))[0] == 403  # admin's


async def test_a_link_that_was_used_or_is_old_opens_nothing(site: Site) -> None:
    code = site.sessions.invite("ann", frozenset(Scope))
    form = {"data": {"code": code}, "headers": {"origin": ORIGIN}}
    assert (await site.client.post("/session", **form)).status_code == 303  # type: ignore[arg-type]
    again = await site.client.post("/session", **form)  # type: ignore[arg-type]
    assert (again.status_code, "used already" in again.text) == (403, True)
    old = site.sessions.invite("ann", frozenset(Scope))
    site.clock.advance(INVITE_LIFE)
    assert (await site.client.post("/session", data={"code": old}, headers={"origin": ORIGIN})).status_code == 403
    assert (await site.client.post("/session", data={"code": "x"}, headers={"origin": ORIGIN})).status_code == 403


async def test_to_look_at_a_link_does_not_use_it(site: Site) -> None:
    code = site.sessions.invite("ann", frozenset(Scope))
    for _ in range(2):
        page = await site.client.get(f"/session?code={code}")
        assert (page.status_code, code in page.text) == (200, True)
    assert site.sessions.redeem(code) is not None


async def test_a_session_ends_after_half_a_day_and_when_nobody_comes(site: Site) -> None:
    sessions = Sessions(site.clock.now)
    for silent, left in ((IDLE, 0), (IDLE - 1, 1)):
        opened = sessions.redeem(sessions.invite("ann", frozenset(Scope)))
        assert opened is not None
        site.clock.advance(silent)
        assert bool(sessions.find(opened[0])) == bool(left)
    opened = sessions.redeem(sessions.invite("ann", frozenset(Scope)))
    assert opened is not None
    for _ in range(int(LIFE / 3_600)):
        assert sessions.find(opened[0]) is not None
        site.clock.advance(3_600)
    assert sessions.find(opened[0]) is None


async def test_whoever_signs_out_is_out(site: Site) -> None:
    csrf = await site.person()
    page = await site.client.get("/")
    assert f'value="{csrf}"' in page.text
    refused = await site.client.post("/session/end", data={"csrf": "another"}, headers={"origin": ORIGIN})
    assert refused.status_code == 403
    cookie = site.client.cookies[COOKIE]
    left = await site.client.post("/session/end", data={"csrf": csrf}, headers={"origin": ORIGIN})
    assert (left.status_code, left.headers["location"]) == (303, "/session")
    assert site.sessions.find(cookie) is None


FORGED = {
    "no token": {"origin": ORIGIN},
    "a stale token": {"origin": ORIGIN, "x-csrf-token": "a" * 43},
    "another site": {"origin": "https://evil.example", "x-csrf-token": "{csrf}"},
    "another port": {"origin": f"{ORIGIN}:8000", "x-csrf-token": "{csrf}"},
    "a page without origin": {"origin": "null", "x-csrf-token": "{csrf}"},
    "no origin": {"x-csrf-token": "{csrf}"},
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
async def test_t54_no_change_is_forged_in_the_name_of_a_session(site: Site, headers: dict[str, str]) -> None:
    csrf = await site.person()
    before = site.rig.store.ledger.__dict__.copy()  # type: ignore[attr-defined]
    for route in CHANGES:
        given = {name: value.format(csrf=csrf) for name, value in headers.items()}
        status, _ = await site.ask(route.method, path_of(route.path), {}, headers=given)
        assert status == 403, (route.method, route.path)
    assert site.rig.store.ledger.__dict__ == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "x"]
)
async def test_t54_a_body_that_a_plain_form_can_send_is_refused(site: Site, kind: str) -> None:
    csrf = await site.person()
    headers = {"origin": ORIGIN, "x-csrf-token": csrf, "content-type": kind}
    for route in CHANGES:
        assert (await site.ask(route.method, path_of(route.path), {}, headers=headers))[0] == 415, route.path


async def test_t54_no_header_or_field_makes_a_get_into_a_change(site: Site) -> None:
    await site.person()
    await site.define("mail")
    headers = {"x-http-method-override": "DELETE", "x-http-method": "DELETE", "x-method-override": "DELETE"}
    await site.rig.add(id="x", task="mail", key="k")
    before = await whole(site)
    for route in API_ROUTES:
        if route.method != "GET" or route.media != "application/json":
            continue
        answer = await site.send("GET", path_of(route.path), headers=headers, params={"_method": "DELETE"})
        assert answer.status_code in (404, 422), route.path  # an unknown parameter, an unknown name
        await site.send("GET", path_of(route.path), headers=headers)
    for page in ("//", "//session?code=x", "//hub.css", "//healthz", "//readyz"):
        await site.send("GET", page, headers=headers)
    assert await whole(site) == before


async def whole(site: Site) -> str:
    """All that the store holds, by its hash."""
    store = site.rig.store
    ledger = store.ledger  # type: ignore[attr-defined]
    parts = (
        [*ledger.table.values()],
        ledger.next_seq,
        [*ledger.audit],
        await store.queues(),
        await store.definitions(DefinitionFilter(deleted=True)),
        await store.schedules(deleted=True),
        await store.workers(),
        await store.instances(),
        await store.operations(),
    )
    return hashlib.sha256(msgspec.json.encode(parts, enc_hook=repr)).hexdigest()


async def test_a_bearer_token_needs_no_csrf_and_counts_before_the_cookie(site: Site) -> None:
    await site.person(Scope.READ)
    site.token = site.make("shop", Scope.OPERATE)
    assert (await site.ask("PATCH", "/queues/q", {"paused": True, "create": True}))[0] == 200


async def test_the_cookie_is_kept_from_scripts_and_from_other_sites_and_told_to_stay_on_tls(site: Site) -> None:
    for origin, secure in ((ORIGIN, False), ("https://localhost", True)):
        code = site.sessions.invite("ann", frozenset(Scope))
        answer = await site.client.post("/session", data={"code": code}, headers={"origin": origin})
        attributes = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
        assert ("Secure" in attributes) == secure


async def test_behind_a_base_path_pages_links_and_cookies_carry_it(site: Site) -> None:
    from holdfast.hub.api import make_api
    from holdfast.hub.door import Door

    door = Door(make_api(site.parts), site.policy(base_path="/jobs/hub"))
    async with site.client_of(door) as client:
        code = site.sessions.invite("ann", frozenset(Scope))
        page = await client.get(f"/jobs/hub/session?code={code}")
        assert 'action="/jobs/hub/session"' in page.text
        answer = await client.post("/jobs/hub/session", data={"code": code}, headers={"origin": ORIGIN})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/hub/")
        assert "Path=/jobs/hub;" in answer.headers["set-cookie"]
        home = await client.get("/jobs/hub/")
        assert 'href="/jobs/hub/hub.css"' in home.text
        assert (await client.get("/jobs/hub/api/v1/stats")).status_code == 200
        assert (await client.get("/jobs/hubx/api/v1/stats")).status_code == 404
        assert (await client.get("/api/v1/stats")).status_code == 200  # of a proxy that takes the path away


async def test_hubs_that_share_a_folder_share_sessions_and_a_restart_ends_none(site: Site, tmp_path: Path) -> None:
    one, other = (Sessions(site.clock.now, tmp_path / FILE) for _ in range(2))
    opened = other.redeem(one.invite("ann", frozenset({Scope.READ, Scope.OPERATE})))
    assert opened is not None
    cookie, session = opened
    assert one.find(cookie) == session == Sessions(site.clock.now, tmp_path / FILE).find(cookie)
    assert session.scopes == {Scope.READ, Scope.OPERATE}
    text = (tmp_path / FILE).read_text()
    assert cookie not in text
    assert ((tmp_path / FILE).stat().st_mode & 0o777) == 0o600
    for _ in range(3):  # whoever comes to one of them has come to all
        site.clock.advance(IDLE - 1)
        assert one.find(cookie) is not None
    site.clock.advance(2)
    assert other.find(cookie) is not None
    one.end(cookie)
    assert other.find(cookie) is None


async def test_a_file_of_sessions_that_can_not_be_read_ends_them_and_is_made_anew(site: Site, tmp_path: Path) -> None:
    sessions = Sessions(site.clock.now, tmp_path / FILE)
    opened = sessions.redeem(sessions.invite("ann", frozenset(Scope)))
    assert opened is not None
    (tmp_path / FILE).write_text("[")
    assert sessions.find(opened[0]) is None
    again = sessions.redeem(sessions.invite("ann", frozenset(Scope)))
    assert again is not None
    assert Sessions(site.clock.now, tmp_path / FILE).find(again[0]) is not None


async def test_secrets_of_sessions_are_kept_as_hashes_and_bounded(site: Site) -> None:
    sessions = Sessions(site.clock.now)
    opened = [sessions.redeem(sessions.invite("ann", READER.scopes)) for _ in range(1_005)]
    cookies = [one[0] for one in opened if one is not None]
    assert sessions.find(cookies[0]) is None
    assert sessions.find(cookies[-1]) is not None
    assert not set(cookies) & set(sessions._kept.sessions)
    codes = [sessions.invite("ann", READER.scopes) for _ in range(101)]
    assert sessions.redeem(codes[0]) is None
    assert sessions.redeem(codes[-1]) is not None


def test_the_hosts_of_loopback_are_what_a_rebound_name_is_not() -> None:
    assert {"localhost", "127.0.0.1", "[::1]"} == LOOPBACK_HOSTS
