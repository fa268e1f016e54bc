"""T53, T54 and DNS rebinding in a real browser: what is stored never runs, and no other page acts in a person's name."""

from typing import Any, Final
from urllib.parse import quote

import pytest

from holdfast.hub.scopes import Scope
from holdfast.hub.sessions import COOKIE
from holdfast.job.commands import Beat, ChangeQueue, Define, ErrorInfo, Failed
from holdfast.job.model import Instance, InstanceState
from holdfast.job.retry import RetryPolicy
from tests.hub.browser import REBOUND, Watched, browsing, door, press, served
from tests.hub.site import Site
from tests.hub.test_page import OURS, PAYLOADS

BATCH: Final = 70
#: What the browser says of an address that is not there; it looks for an icon at each new place.
NO_ICON: Final = "error: Failed to load resource: the server responded with a status of 404 (Not Found)"


async def fill(site: Site, texts: list[str], number: int) -> None:
    """Put texts into whatever the status page and the views of jobs show."""
    store, retry = site.rig.store, RetryPolicy(max_attempts=1)
    await store.define([Define(alias="t", queue=site.rig.queue, retry=retry, title=texts[0], description=texts[1])])
    for text in texts:
        key, tags = (text, (text,)) if text.isprintable() and len(text) < 100 else (None, ())
        await site.rig.add(retry=retry, key=key, tags=tags, payload=b"1", headers=b"")
    for text, claim in zip(texts, await site.rig.claim(len(texts)), strict=False):
        await site.rig.settle(claim, Failed(ErrorInfo(text, text, text)))
    await store.change_queue(ChangeQueue(name=f"q{number}", create=True, paused=True, who=texts[2], why=texts[3]))
    for place in range(0, len(texts) - 3, 4):
        worker, host, one, two = texts[place : place + 4]
        instance = Instance(
            id=f"i{number}-{place}", worker=worker, host=host, queues=(one, two), state=InstanceState.READY
        )
        await store.heartbeat(Beat(instance=instance, lease=1e6))


async def test_t53_nothing_that_is_stored_runs_in_a_browser(site: Site) -> None:
    async with browsing() as browser, served(door(site)) as port:
        page = await browser.new_page()
        watched = Watched(page)
        code = site.sessions.invite(PAYLOADS[0], frozenset(Scope))
        await page.goto(f"http://localhost:{port}/session?code={code}")
        await press(page, "button")
        for number, start in enumerate(range(0, len(PAYLOADS), BATCH)):
            await fill(site, PAYLOADS[start : start + BATCH], number)
            await page.goto(f"http://localhost:{port}/")
            assert set(await watched.nodes()) <= OURS
            for view in ("jobs?limit=100&attempts=all", "instances", "definitions", "queues", "attempts", "audit"):
                answer = await page.goto(f"http://localhost:{port}/api/v1/{view}")
                assert answer is not None
                assert answer.status == 200, view
                assert await page.evaluate("document.contentType") == "application/json"
                assert not set(await watched.nodes()) & {"script", "img", "iframe", "svg", "object", "embed"}
        assert watched.ran == [] or set(watched.ran) == {NO_ICON}
        assert {url.split("/")[2] for url in watched.asked} == {f"localhost:{port}"}


async def test_t53_a_link_with_anything_for_a_code_runs_nothing(site: Site) -> None:
    async with browsing() as browser, served(door(site)) as port:
        page = await browser.new_page()
        watched = Watched(page)
        for text in PAYLOADS[:: len(PAYLOADS) // 20]:
            await page.goto(f"http://localhost:{port}/session?code={quote(text)}")
            assert set(await watched.nodes()) <= OURS
            refused = await page.goto(f"http://localhost:{port}/api/v1/jobs/{quote(text, safe='')}")
            assert refused is not None
            assert refused.status in (404, 422)
        assert set(watched.ran) == {NO_ICON}


async def test_a_person_comes_in_by_a_link_and_goes_out_by_a_button(site: Site) -> None:
    async with browsing() as browser, served(door(site)) as port:
        context = await browser.new_context()
        page = await context.new_page()
        code = site.sessions.invite("ann", frozenset(Scope))
        await page.goto(f"http://localhost:{port}/session?code={code}")
        await press(page, "button")
        assert page.url == f"http://localhost:{port}/"
        assert "ann" in await page.inner_text("body")
        assert await page.evaluate("document.cookie") == ""
        [cookie] = await context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Strict")
        await page.goto(f"http://localhost:{port}/session?code={code}")
        await press(page, "button")
        assert "used already" in await page.inner_text("body")
        await page.goto(f"http://localhost:{port}/")
        await press(page, "text=Sign out")
        assert page.url == f"http://localhost:{port}/session"
        assert await context.cookies() == []
        await page.goto(f"http://localhost:{port}/")
        assert "ann" not in await page.inner_text("body")


#: A page of another port, to which the browser sends our cookie all the same: ports do not make a site.
EVIL: Final = """<!doctype html><body><iframe id=frame src="{hub}/"></iframe>
<form id=out method=post action="{hub}/session/end" target=frame2><input name=csrf value=x></form>
<form id=json method=post enctype=text/plain action="{hub}/api/v1/queue-clear" target=frame2>
<input name='{{"queue":"default","x":"' value='"}}'></form><iframe name=frame2></iframe>"""
ATTACKS: Final = (
    ("PATCH", "/queues/default", '{"paused": true}', "application/json"),
    ("POST", "/job-actions", '{"action": {"type": "cancel"}, "filter": {}}', "text/plain"),
    ("POST", "/queue-clear", '{"queue": "default"}', "application/x-www-form-urlencoded"),
    ("DELETE", "/queues/default", "", "text/plain"),
)
_FETCH: Final = """async ([url, method, body, kind, mode]) => { try { const answer = await fetch(url, {method, mode,
    credentials: 'include', body: body || undefined, headers: {'content-type': kind}}); return answer.status }
    catch (error) { return -1 } }"""


def evil(port: int) -> Any:
    """A site of somebody else."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = EVIL.format(hub=f"http://localhost:{port}").encode()
        headers = [(b"content-type", b"text/html"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.mark.parametrize("place", ["localhost", "127.0.0.1"])
async def test_t54_no_page_of_another_site_acts_or_looks_in_a_persons_name(site: Site, place: str) -> None:
    await site.define("t")
    await site.do("POST", "/jobs", {"task": "t"})
    ledger = site.rig.store.ledger  # type: ignore[attr-defined]
    async with browsing() as browser, served(door(site)) as port, served(evil(port)) as other:
        context = await browser.new_context()
        page = await context.new_page()
        code = site.sessions.invite("ann", frozenset(Scope))
        await page.goto(f"http://localhost:{port}/session?code={code}")
        await press(page, "button")
        before = ledger.next_seq, len(ledger.audit), len(await site.store.queues())
        await page.goto(f"http://{place}:{other}/")
        for method, path, body, kind in ATTACKS:
            for mode in ("cors", "no-cors"):
                url = f"http://localhost:{port}/api/v1{path}"
                assert await page.evaluate(_FETCH, [url, method, body, kind, mode]) in (-1, 0), (method, mode)
        seen = await page.evaluate(_FETCH, [f"http://localhost:{port}/api/v1/jobs", "GET", "", "text/plain", "cors"])
        assert seen == -1  # CORS is closed
        for form in ("out", "json"):
            await page.evaluate(f"document.getElementById('{form}').submit()")
        for frame in page.frames[1:]:
            await frame.wait_for_load_state()
            assert "Holdfast" not in await frame.content()
        assert (ledger.next_seq, len(ledger.audit), len(await site.store.queues())) == before
        await page.goto(f"http://localhost:{port}/")
        assert "ann" in await page.inner_text("body")


async def test_a_name_that_was_bent_to_this_machine_reaches_nothing(site: Site) -> None:
    async with browsing() as browser, served(door(site)) as port:
        page = await browser.new_page()
        for path in ("/", "/api/v1/jobs", "/session?code=x", "/metrics"):
            answer = await page.goto(f"http://{REBOUND}:{port}{path}")
            assert answer is not None
            assert answer.status == 421
        seen = await page.evaluate(_FETCH, ["/api/v1/queue-clear", "POST", "{}", "application/json", "cors"])
        assert seen == -1  # the policy of a refusal lets its page ask for nothing
