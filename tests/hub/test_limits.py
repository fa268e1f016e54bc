"""T55, T56: who may come in, how often and how much; the documented number is the tested number."""

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from holdfast.errors import ConfigError
from holdfast.hub.api import GZIP_LEAST, make_api
from holdfast.hub.door import RATE, URL_MAX, WRONG_BURST, Door
from holdfast.hub.events import LISTENERS_MAX, RING
from holdfast.hub.limits import CALLERS_MAX, Buckets
from holdfast.hub.routing import BATCH_BODY_MAX, BODY_MAX
from holdfast.hub.scopes import Scope
from holdfast.hub.sessions import IDLE, INVITE_LIFE, LIFE
from holdfast.node import sockets
from holdfast.node.errors import UnsafeBind
from holdfast.node.server import BODY_LEAST, BODY_LOOK, CONNECTIONS_MAX, HEAD_LIMIT, HEAD_MAX, TAKE_LIMIT
from tests.features import feature
from tests.hub.site import Site

PAGE = Path(__file__).parents[2] / "docs" / "hub.md"


async def test_t55_whoever_guesses_tokens_may_try_ten_and_then_ten_a_minute(site: Site) -> None:
    right = site.make("ann", Scope.READ)
    site.token = "hf_wrong"
    statuses = [(await site.send("GET", "/stats")).status_code for _ in range(WRONG_BURST + 5)]
    assert statuses == [401] * WRONG_BURST + [429] * 5
    site.token = right
    refused = await site.send("GET", "/stats")  # from the same address nobody gets an answer now, right or wrong
    assert (refused.status_code, int(refused.headers["retry-after"])) == (429, 6)
    site.clock.advance(6.0)
    assert (await site.send("GET", "/stats")).status_code == 200
    site.token = "hf_wrong"
    assert [(await site.send("GET", "/stats")).status_code for _ in range(2)] == [401, 429]


async def test_t55_nothing_a_caller_writes_raises_its_scopes(site: Site) -> None:
    secret = site.make("ann", Scope.READ)
    site.token = None
    tries = [f"{secret} admin", f"{secret}.admin", secret.upper(), secret[:-1], f"{secret},{secret}", ""]
    for given in tries:
        headers = {"authorization": f"Bearer {given}"}
        assert (await site.send("PATCH", "/queues/q", {"create": True}, headers=headers)).status_code in (401, 429)
    site.clock.advance(600.0)
    headers = {"authorization": f"Bearer {secret}", "x-scopes": "admin", "x-forwarded-user": "root"}
    answer = await site.send("PATCH", "/queues/q", {"create": True, "who": "root"}, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "token", ["changeme", "a" * 40, "abababababababababababab", "x" * 19 + "y", "secretsecretsecretsec"]
)
def test_t55_a_secret_that_can_be_guessed_is_refused_on_every_address(token: str) -> None:
    with pytest.raises(ConfigError, match="can be guessed"):
        sockets.refuse_weak(token)
    sockets.refuse_weak(None)
    sockets.refuse_weak("Zt7-kQ2_pL9xV4mB8nR1")


def test_t55_another_address_is_served_once_a_token_was_made(site: Site) -> None:
    with pytest.raises(UnsafeBind):
        sockets.refuse_unsafe("0.0.0.0", None, site.tokens)
    site.make("ann", Scope.READ)
    sockets.refuse_unsafe("0.0.0.0", None, site.tokens)


async def test_t56_each_caller_has_a_bucket_of_his_own(site: Site) -> None:
    door = Door(make_api(site.parts), site.policy(rate=5.0))
    one, two = site.make("one", Scope.READ), site.make("two", Scope.READ)
    async with site.client_of(door) as client:

        async def status(secret: str) -> int:
            answer = await client.get("/api/v1/node", headers={"authorization": f"Bearer {secret}"})
            return answer.status_code

        assert [await status(one) for _ in range(11)] == [200] * 10 + [429]
        assert await status(two) == 200
        site.clock.advance(0.2)
        assert [await status(one) for _ in range(2)] == [200, 429]


def test_a_bucket_fills_with_time_and_forgets_those_who_stay_away() -> None:
    now = 0.0
    buckets = Buckets(2.0, 4.0, lambda: now)
    assert [buckets.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    now = 1.0
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    assert buckets.empty("a") == 0.5
    assert buckets.empty("b") == 0.0
    for number in range(CALLERS_MAX + 10):
        buckets.take(str(number))
    assert len(buckets._levels) == CALLERS_MAX
    assert buckets.take("a") == 0.0


async def send_body(site: Site, size: int, path: str = "/queues/q", method: str = "PATCH") -> int:
    async def pieces() -> AsyncIterator[bytes]:
        left = size
        while left:
            yield b" " * min(left, 65_536)
            left -= min(left, 65_536)

    headers = {"content-type": "application/json"}
    return (await site.send(method, path, None, content=pieces(), headers=headers)).status_code


@feature("HW17")
async def test_t56_a_body_is_counted_while_it_comes_whatever_its_length_was_said_to_be(site: Site) -> None:
    assert await send_body(site, BODY_MAX) == 400  # spaces are no JSON; but they were read
    assert await send_body(site, BODY_MAX + 1) == 413
    assert await send_body(site, BATCH_BODY_MAX + 1, "/jobs", "POST") == 413


async def test_t56_addresses_have_a_limit(site: Site) -> None:
    path = "/api/v1/jobs"
    fits = "cursor=" + "1" * (URL_MAX - len(path) - len("cursor="))
    assert (await site.client.get(f"{path}?{fits}")).status_code == 422
    assert (await site.client.get(f"{path}?{fits}1")).status_code == 414


async def test_t56_batches_pages_and_ranges_have_limits(site: Site) -> None:
    await site.define("t")
    assert (await site.ask("POST", "/jobs", [{"task": "t"}] * 10_000))[0] == 201
    assert (await site.ask("POST", "/jobs", [{"task": "t"}] * 10_001))[0] == 413
    for path, status in (
        ("/jobs?limit=1000", 200),
        ("/jobs?limit=1001", 422),
        ("/jobs?limit=0", 422),
        ("/worker-series?hours=168", 200),
        ("/worker-series?hours=169", 422),
        ("/worker-series?hours=0", 422),
        ("/tasks?offset=10000", 200),
        ("/tasks?offset=10001", 422),
        ("/jobs?cursor=x", 422),
        ("/jobs?state=none", 422),
        ("/jobs?colour=red", 422),
        ("/stats?colour=red", 422),
    ):
        found, answer = await site.ask("GET", path)
        assert found == status, (path, answer)
        if status == 422:
            assert answer["field"] in path, (path, answer)


async def test_t56_so_many_may_listen_and_no_more(site: Site) -> None:
    site.ring.listeners = LISTENERS_MAX
    answer = await site.send("GET", "/events")
    assert (answer.status_code, answer.json()["code"]) == (429, "http-429")


@pytest.mark.parametrize("accept", ["gzip, deflate", "identity"])
async def test_long_answers_are_packed_for_those_who_take_it(site: Site, accept: str) -> None:
    await site.define("t")
    await site.do("POST", "/jobs", [{"task": "t"}] * 50)
    async with site.client.stream(
        "GET", "/api/v1/jobs", headers={"accept-encoding": accept, "authorization": f"Bearer {site.token}"}
    ) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    packed = answer.headers.get("content-encoding") == "gzip"
    assert packed == ("gzip" in accept)
    text = gzip.decompress(raw) if packed else raw
    assert text.count(b'"id"') == 50
    assert len(text) > GZIP_LEAST
    assert "accept-encoding" in answer.headers["vary"]


async def test_what_has_not_changed_is_not_sent_again(site: Site) -> None:
    first = await site.send("GET", "/stats")
    again = await site.send("GET", "/stats", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await site.define("t")
    await site.do("POST", "/jobs", {"task": "t"})
    assert (await site.send("GET", "/stats", headers={"if-none-match": first.headers["etag"]})).status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2:3", True), ("a b", False), ("x" * 65, False), ("a\x01", False), (None, False)]
)
async def test_a_request_has_a_name_the_callers_own_where_that_is_plain(
    site: Site, given: str | None, kept: bool
) -> None:
    try:
        answer = await site.send("GET", "/nowhere", headers={} if given is None else {"x-request-id": given})
    except httpx.LocalProtocolError:
        return
    name = answer.headers["x-request-id"]
    assert (name == given) == kept
    assert re.fullmatch(r"[\w.:-]{1,64}", name)


@feature("HW17")
async def test_every_answer_says_how_it_may_be_used(site: Site) -> None:
    for path in ("//", "//session", "/stats", "/nowhere", "//hub.css", "//healthz"):
        answer = await site.send("GET", path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "script" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = answer.headers["content-type"].startswith("text/html")
        assert answer.headers["referrer-policy"] == ("same-origin" if page else "no-referrer")
        assert "access-control-allow-origin" not in answer.headers
    options = await site.send(
        "OPTIONS", "/stats", headers={"origin": "https://evil.example", "access-control-request-method": "GET"}
    )
    assert "access-control-allow-origin" not in options.headers


def test_the_page_tells_the_numbers_that_are_tested_here() -> None:
    text = PAGE.read_text()
    for number in (
        f"{BODY_MAX // 2**20} MiB", f"{BATCH_BODY_MAX // 2**20} MiB", f"{URL_MAX // 1024} KiB", f"{HEAD_MAX // 1024} KiB",
        f"{HEAD_LIMIT:g} s", f"{BODY_LEAST // 1024} KiB", f"{BODY_LOOK:g} s", f"{TAKE_LIMIT:g} s", f"{CONNECTIONS_MAX:,}",
        f"{LISTENERS_MAX}", f"{RING:,}", f"{RATE:,.0f}", f"{INVITE_LIFE / 60:g} minutes", f"{LIFE / 3600:g} hours",
        f"{IDLE / 3600:g} hours", f"{WRONG_BURST} wrong",
    ):  # fmt: skip
        assert number in text, number


async def test_a_number_past_all_jobs_means_as_many_as_a_request_can_have(site: Site) -> None:
    await site.define("t")
    await site.do("POST", "/jobs", {"task": "t", "id": "one", "payload": {}})
    want = {"queues": [[site.rig.queue, 2**70]], "limit": 2**70, "instance": "i", "worker": "w"}
    answer = await site.do("POST", "/store/claim", want)
    assert [one["id"] for one in answer["items"]] == ["one"]
    assert (await site.send("POST", "/store/rescue", {"limit": 2**70})).status_code < 300
