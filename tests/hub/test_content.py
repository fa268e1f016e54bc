"""T58 and T61 over HTTP, on every store: what a value holds is never run, and is taken or refused alike everywhere."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from holdfast.job.commands import ErrorInfo, Failed, JobFilter, Progress, Succeeded
from holdfast.job.state import State
from holdfast.testing.contract.corpus import TEXTS, VALUES, clean
from tests.contract.adapters import ADAPTERS
from tests.hub.site import Site

#: What T61 and T58 ask of a commit, and of a night.
VALUES_WANTED: Final = 300
INJECTIONS: Final = 100  # on each of the five stores
#: Fields of a filter that are texts; each is a column, or stands in one.
FIELDS: Final = ("id", "queue", "task", "worker", "instance", "key", "unique", "tag", "paused_by", "text")
_BREAKS: Final = [
    "'",
    '"',
    "`",
    "\\",
    "\\'",
    "''",
    ")",
    "]]",
    "}",
    "*/",
    "\x00",
    "\n",
    ";",
    "$1",
    "%",
    "_",
    "?",
    "{job}",
    "$$",
]
_DEEDS: Final = [
    "DROP TABLE holdfast_job", "DELETE FROM holdfast_job", "UPDATE holdfast_job SET state = 6", "SELECT pg_sleep(60)",
    "UNION SELECT body FROM holdfast_audit", "OR 1=1", "OR '1'='1", "SLEEP(60)", "load_extension('x')", "1/0",
    "INTO OUTFILE '/tmp/x'", "COPY holdfast_job TO PROGRAM 'id'", "ATTACH DATABASE 'x' AS y", "redis.call('FLUSHALL')",
    "CASE WHEN 1=1 THEN 1 ELSE 1/0 END", "BENCHMARK(1000000000,MD5(1))", "PRAGMA writable_schema=1", "xp_cmdshell 'id'",
]  # fmt: skip
_ENDS: Final = ["--", "#", "/*", ";--", "", "\x00", "-- -", "' AND 'a'='a", ") --", "]]--", "%'"]


def injections(count: int, chosen: int) -> list[str]:
    """Texts that would do something where a text is pasted into a statement, each another one."""
    pick = random.Random(chosen)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join((pick.choice("ax1 "), pick.choice(_BREAKS), " ", pick.choice(_DEEDS), pick.choice(_ENDS)))] = None
    return list(found)


def values(count: int) -> list[bytes]:
    """JSON and what is none: the corpus, and mixtures of its texts and values."""
    pick, texts = random.Random(61), [text for text in TEXTS.values() if len(text) < 1_000]
    found = dict.fromkeys([*VALUES.values(), *(b'{"v": %s}' % value for value in VALUES.values())])
    while len(found) < count:
        one, two = pick.sample(texts, 2)
        inner = pick.choice([value for value in VALUES.values() if len(value) < 500]).decode("latin-1")
        shapes = (json.dumps({one: two}), f'{{"a": {inner}}}', f"{{{json.dumps(one)}: [{inner}, {json.dumps(two)}]}}")
        found[pick.choice(shapes).encode("utf-8", "surrogatepass")] = None
    return list(found)


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Site]:
    """A hub over the store in memory, whose word counts."""
    (tmp_path / "plain").mkdir()
    site = Site(ADAPTERS["memory"](), tmp_path / "plain")
    await site.open()
    yield site
    await site.close()


async def verdict(site: Site, number: int, payload: bytes) -> tuple[int, Any]:
    """Send a payload as it is; return the status, and what is stored of it."""
    body = b'{"task": "t", "id": "n%d", "payload": %s}' % (number, payload)
    headers = {"authorization": f"Bearer {site.token}", "content-type": "application/json"}
    answer = await site.client.post("/api/v1/jobs", content=body, headers=headers)
    stored = (await site.store.jobs([f"n{number}"]))[0]
    return answer.status_code, stored.payload if stored is not None else answer.json()["code"]


async def same_verdicts(site: Site, plain: Site, count: int) -> None:
    for one in (site, plain):
        await one.define("t")
    taken = 0
    for number, payload in enumerate(values(count)):
        status, stored = await verdict(site, number, payload)
        assert (status, stored) == await verdict(plain, number, payload), payload[:200]
        assert status == 201 or 400 <= status < 500, payload[:200]
        taken += status == 201
    assert taken > count // 4
    assert await site.store.count(JobFilter()) == taken
    for view in ("/jobs?limit=1000&attempts=all", "//"):
        assert (await site.send("GET", view)).status_code == 200


async def test_t61_each_value_is_taken_or_refused_alike_on_every_store(every_site: Site, plain: Site) -> None:
    await same_verdicts(every_site, plain, VALUES_WANTED)


@pytest.mark.soak
async def test_t61_of_five_thousand_values_each_is_taken_or_refused_alike(every_site: Site, plain: Site) -> None:
    await same_verdicts(every_site, plain, 5_000)


async def test_t61_texts_of_handlers_end_their_jobs_and_are_shown(every_site: Site) -> None:
    site = every_site
    await site.define("t")
    texts = list(TEXTS.values())
    await site.do("POST", "/jobs", [{"task": "t"} for _ in texts])
    claims = await site.rig.claim(len(texts))
    for place, (text, claim) in enumerate(zip(texts, claims, strict=True)):
        told = json.dumps(text).encode()
        log = json.dumps([[1.0, "info", text]]).encode()
        [noted] = await site.rig.store.progress([Progress(claim=claim, value=told, log=log)])
        assert noted.accepted.value in ("applied", "repeated")
        ending = Succeeded(told) if place % 2 else Failed(ErrorInfo(text, text, text), retryable=False)
        [settled] = await site.rig.store.settle([site.settlement(claim, ending)])
        assert settled.state is (State.SUCCEEDED if place % 2 else State.FAILED), text[:50]
    for view in ("/jobs?limit=100&attempts=all", "/attempts?limit=100", "/failed-jobs", "//"):
        assert (await site.send("GET", view)).status_code == 200, view
    shown = (await site.get("/jobs?limit=100&attempts=all"))["items"]
    results = {job.get("result", "") for job in shown if job["state"] == "succeeded"}
    assert {text for text in texts[1::2] if clean(text)} <= results


async def nothing_is_run(site: Site, texts: list[str]) -> None:
    await site.define("t")
    kept = [(await site.do("POST", "/jobs", {"task": "t", "key": text, "unique": text, "tags": ["x"]}))["id"] for text in
            ("a' OR '1'='1", 'a"; DROP TABLE holdfast_job; --')]  # fmt: skip
    pick = random.Random(58)
    for place, text in enumerate(texts):
        field = FIELDS[place % len(FIELDS)]
        answer = await site.send("GET", "/jobs", params={field: text, "limit": 5})
        assert answer.status_code in (200, 422), (field, text, answer.text)
        assert answer.status_code == 422 or answer.json()["items"] == [], (field, text)
        other = pick.choice(("/attempts", "/statistics", "/series", "/worker-stats", "/job-count", "/audit"))
        name = {"/audit": "who"}.get(other, "worker")
        assert (await site.send("GET", other, params={name: text})).status_code in (200, 422), (other, text)
        cursor = await site.send("GET", "/jobs", params={"cursor": text})
        assert (cursor.status_code, cursor.json()["field"]) == (422, "cursor"), text
    for one in (await site.get("/jobs"))["items"]:
        found = await site.send("GET", "/jobs", params={"key": one["key"], "unique": one["unique"]})
        assert [job["id"] for job in found.json()["items"]] == [one["id"]]
    assert sorted(one["id"] for one in (await site.get("/jobs"))["items"]) == sorted(kept)
    assert {one["state"] for one in (await site.get("/jobs"))["items"]} == {"queued"}


async def test_t58_a_text_of_a_filter_is_looked_for_and_never_run(every_site: Site) -> None:
    await nothing_is_run(every_site, injections(INJECTIONS, 58))


@pytest.mark.soak
async def test_t58_of_twenty_thousand_texts_none_is_run(every_site: Site) -> None:
    await nothing_is_run(every_site, injections(4_000, 59))
