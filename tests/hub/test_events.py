"""Live events: told as they happen, told again from any place that is still known, and never at the cost of others."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from holdfast.hub.events import LISTENERS_MAX, Ring
from holdfast.hub.refusals import Refusal
from holdfast.job.commands import ErrorInfo, Failed
from holdfast.node.live import looking
from holdfast.stores.memory import MemoryStore
from tests.hub.site import Site


def parsed(text: str) -> list[tuple[str, str, Any]]:
    """The events of a piece of a stream: id, kind, data."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def some(listener: AsyncIterator[str], count: int) -> list[tuple[str, str, Any]]:
    """The next `count` events."""
    found: list[tuple[str, str, Any]] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += parsed(await anext(listener))
    return found


async def test_whoever_listens_is_told_what_comes() -> None:
    ring = Ring("b")
    listener = ring.listen()
    assert parsed(await anext(listener)) == []
    ring.publish("a", {"n": 1})
    ring.publish("b", {"n": 2})
    assert await some(listener, 2) == [("b:1", "a", {"n": 1}), ("b:2", "b", {"n": 2})]
    await cast("Any", listener).aclose()
    assert ring.listeners == 0


async def test_whoever_comes_back_gets_what_he_missed_and_nothing_twice() -> None:
    ring = Ring("b")
    for number in range(1, 251):
        ring.publish("e", number)
    events = await some(ring.listen("b:200"), 50)
    assert [data for _, _, data in events] == list(range(201, 251))


@pytest.mark.parametrize("after", ["b:1", "other:5", "b:99", "b:x", "x", "b:" + "9" * 30])
async def test_a_place_that_is_not_known_here_is_answered_with_reset(after: str) -> None:
    ring = Ring("b", size=5)
    for number in range(10):
        ring.publish("e", number)
    [(name, kind, _)] = await some(ring.listen(after), 1)
    assert (name, kind) == ("b:10", "reset")
    again = ring.listen(name)
    await anext(again)
    ring.publish("e", "next")
    assert (await some(again, 1))[0][2] == "next"


async def test_a_listener_that_is_overtaken_is_told_and_goes_on() -> None:
    ring = Ring("b", size=5)
    slow = ring.listen()
    await anext(slow)
    for number in range(50):
        ring.publish("e", number)
    assert [kind for _, kind, _ in await some(slow, 1)] == ["reset"]
    ring.publish("e", "later")
    assert (await some(slow, 1))[0][2] == "later"
    assert len(ring._events) == 5


async def test_events_of_other_threads_wake_a_listener() -> None:
    ring = Ring("b")
    listener = ring.listen()
    await anext(listener)
    waiting = asyncio.create_task(some(listener, 1))
    await asyncio.sleep(0)
    await asyncio.to_thread(ring.publish, "e", 1)
    assert (await waiting)[0][2] == 1


async def test_too_many_listeners_are_refused_and_a_place_becomes_free() -> None:
    ring = Ring("b")
    listeners = [ring.listen() for _ in range(LISTENERS_MAX)]
    for listener in listeners:
        await anext(listener)
    with pytest.raises(Refusal):
        await anext(ring.listen())
    await cast("Any", listeners[0]).aclose()
    await anext(ring.listen())


async def test_what_happens_in_a_store_becomes_events_that_hold_no_payload(site: Site) -> None:
    listener = site.ring.listen()
    await anext(listener)
    await site.define("t")
    made = await site.do("POST", "/jobs", {"task": "t", "payload": {"secret": "canary"}})
    claim = await site.rig_claim_through(site.store)
    await site.store.settle([site.settlement(claim, Failed(ErrorInfo("E", "canary", "")))])
    await site.do("POST", "/job-actions", {"action": {"type": "retry"}, "ids": [made["id"]]})
    await site.do("PATCH", "/queues/q", {"paused": True, "create": True, "who": "ann"})
    events = await some(listener, 5)
    kinds = [kind for _, kind, _ in events]
    assert kinds == ["enqueued", "claimed", "settled", "ordered", "changed"]
    data = {kind: told for _, kind, told in events}
    assert data["enqueued"]["jobs"][0]["id"] == made["id"]
    assert data["settled"]["states"] == {"failed": 1}
    assert data["ordered"] == {"action": "retry", "who": "", "done": 1, "refused": 0}
    assert data["changed"] == {"what": "change_queue", "name": "q", "who": "ann"}
    assert "canary" not in json.dumps(events)


async def test_what_other_processes_do_is_seen_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.node.live.LOOK", 0.0)
    store, ring = MemoryStore(), Ring("b")
    await store.open()
    listener = ring.listen()
    await anext(listener)
    async with looking(ring, cast("Any", store)):
        from holdfast.job.model import NewJob

        await store.enqueue([NewJob(id="a", task="t")])
        [(_, kind, data)] = await some(listener, 1)
    assert kind == "stats"
    assert data["queues"]["default"]["queued"] == 1


async def test_the_stream_is_served_with_its_own_kind_and_goes_on_from_the_last_id(site: Site) -> None:
    for number in range(3):
        site.ring.publish("e", number)
    got: list[bytes] = []
    started: dict[str, Any] = {}
    enough = asyncio.Event()

    async def receive() -> Any:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        got.append(message.get("body", b""))
        if b"data: 2" in b"".join(got):
            enough.set()

    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/api/v1/events", "raw_path": b"/api/v1/events", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost"), (b"last-event-id", b"boot:1")], "client": ("127.0.0.1", 1),
        "server": ("localhost", 80), "state": {},
    }  # fmt: skip
    async with asyncio.timeout(30):
        await site.door(scope, receive, send)
    headers = dict(started["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert [name for name, _, _ in parsed(b"".join(got).decode())] == ["boot:2", "boot:3"]
