"""T59 and redaction: what is in the jobs is seen by those who may see it, and stands nowhere else."""

import json
import logging
import re
from typing import Any

import msgspec
import pytest

from holdfast.hub.api import API_ROUTES
from holdfast.hub.redaction import redacted, without_content
from holdfast.hub.scopes import Scope
from holdfast.job.commands import ErrorInfo, Failed, Progress, Snoozed, Succeeded
from holdfast.job.model import Job
from holdfast.wire.documents import JobDoc, PageDoc, job_doc
from tests.hub.site import OWN, Site

#: 100 of them; each stands in one place.
CANARY = re.compile(r"canary-\d\d\d-x7Qv")


async def filled(site: Site) -> None:
    """Jobs that hold a canary wherever a handler or a producer can put one."""
    rig = site.rig
    await site.define("t", max_attempts=3)
    words = [f"canary-{number:03}-x7Qv" for number in range(100)]
    for number in range(0, 80, 10):
        await site.do(
            "POST",
            "/jobs",
            {"task": "t", "payload": {"a": words[number]}, "headers": {"h": words[number + 1]}},
        )
    claims = await rig.claim(8)
    for place, claim in enumerate(claims):
        log = json.dumps([[1.0, "info", words[90 + place]]]).encode()
        await rig.store.progress([Progress(claim=claim, value=json.dumps(words[place]).encode(), log=log)])
        if place % 3 == 0:
            await rig.settle(claim, Succeeded(json.dumps(words[20 + place]).encode()))
        elif place % 3 == 1:
            info = ErrorInfo(
                "builtins.ValueError", f"no such user {words[30 + place]}", f"Traceback {words[40 + place]}"
            )
            await rig.settle(claim, Failed(info))
        else:
            await rig.settle(
                claim, Snoozed(60.0, reason=words[50 + place], update=json.dumps({"d": words[60]}).encode())
            )
    await site.do("PUT", "/schedules", {"name": "s", "rule": "every 1h", "task": "t", "payload": {"p": words[70]}})


async def everything(site: Site) -> str:
    """All that a caller can read: every route, every page, the metrics, the problems."""
    jobs = [job.id for job in (await site.store.find(_all(), _page())).items]
    texts = []
    for route in API_ROUTES:
        if route.method == "GET" and route.media == "application/json":
            for name in jobs if "{id}" in route.path else ["t"]:
                path = route.path.replace("{id}", name).replace("{name}", name)
                queries = ("", "?attempts=all", "?end=failed")
                texts += [(await site.send("GET", path + query)).text for query in queries]
    for method, path, body in (
        ("POST", "/store/lookup", {"ids": jobs}),
        ("POST", "/store/find", {"filter": {}}),
        ("GET", "//", None),
    ):
        texts.append((await site.send(method, path, body)).text)
    return "\n".join(texts)


def _all() -> Any:
    from holdfast.job.commands import JobFilter

    return JobFilter()


def _page() -> Any:
    from holdfast.job.commands import Page

    return Page(limit=200)


async def test_t59_without_read_payload_nothing_of_what_is_in_the_jobs_is_shown(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await filled(site)
    for secret in (site.make("watcher", Scope.READ), None):
        site.token = secret
        shown = await everything(site)
        assert CANARY.findall(shown) == []
        assert '"hidden":[' in shown
    site.token = site.make("reader", Scope.READ_PAYLOAD)
    assert len(set(CANARY.findall(await everything(site)))) > 30
    assert CANARY.findall(caplog.text) == []


async def test_t59_workers_see_what_they_run_and_producers_do_not_see_the_work_of_others(site: Site) -> None:
    await site.define("t")
    await site.do("POST", "/jobs", {"task": "t", "id": "one", "payload": {"a": "canary-000-x7Qv"}})
    site.token = site.make("shop", Scope.ENQUEUE)
    batch = {"jobs": [{"id": "one", "task": "t"}], "on_duplicate": "return"}
    answer = await site.send("POST", "/store/enqueue", batch)
    assert CANARY.findall(answer.text) == []
    site.token = site.make("worker", Scope.WORK)
    want = {"queues": [[site.rig.queue, 5]], "limit": 5, "instance": "i", "worker": "w"}
    answer = await site.send("POST", "/store/claim", want)
    assert CANARY.findall(answer.text) != []


async def test_a_search_in_hidden_text_is_refused_as_it_would_spell_it_out(site: Site) -> None:
    await filled(site)
    site.token = site.make("watcher", Scope.READ, Scope.OPERATE)
    action = {"action": {"type": "cancel"}, "filter": {"text": "canary"}, "preview": True}
    for method, path, body in (
        ("GET", "/jobs?text=canary", None),
        ("GET", "/job-count?text=canary", None),
        ("GET", "/attempts?text=canary", None),
        ("POST", "/store/find", {"filter": {"text": "canary"}}),
        ("POST", "/store/count", {"filter": {"text": "canary"}}),
        ("POST", "/job-actions", action),
    ):
        status, problem = await site.ask(method, path, body)
        assert (status, "read:payload" in problem["detail"], "text" in problem["field"]) == (403, True, True), path


async def test_t59_secrets_of_callers_stand_in_no_answer_page_metric_or_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = [site.make(f"t{number}", Scope.ADMIN) for number in range(20)]
    csrf = await site.person()
    cookie = site.client.cookies["holdfast_session"]
    page = (await site.client.get("/")).text
    assert csrf in page  # its own form carries it, for its own eyes
    site.client.cookies.clear()
    site.token = made[0]
    texts = [await everything(site), site.tokens._path.read_text(), caplog.text]
    for token in ("wrong-secret-of-somebody", f"{made[1]}x"):
        site.token = token
        texts.append((await site.send("GET", "/stats")).text)
    for secret in (*made, csrf, cookie, OWN, "wrong-secret-of-somebody"):
        assert not any(secret in text for text in texts)


def test_every_answer_that_can_hold_a_job_is_looked_through() -> None:
    """A new route or field must not pass by: whatever type an answer has, a job in it is found."""
    job = Job(seq=1, id="a", task="t", payload=b'"canary-000-x7Qv"', result=b'"canary-001-x7Qv"')
    doc = job_doc(job)
    nested: list[Any] = [doc, [doc, None], (doc,), PageDoc(items=(doc,)), [[PageDoc(items=(doc,))]]]
    for answer in nested:
        assert CANARY.findall(msgspec.json.encode(redacted(answer)).decode()) == []
        assert CANARY.findall(msgspec.json.encode(answer).decode()) != []
    assert redacted(doc).hidden == ("payload", "result")
    assert without_content(job).payload == b""


def test_what_holds_nothing_stays_the_same() -> None:
    doc = job_doc(Job(seq=1, id="a", task="t"))
    assert redacted(doc) == doc
    page = PageDoc(items=(doc,))
    assert redacted(page) == page
    assert isinstance(doc, JobDoc)
