"""Every operator's action is on record, in every store: who, what, to how many, and when."""

from collections import deque
from typing import Any

import pytest

from holdfast.audit import AuditEntry, AuditFilter, AuditLog
from holdfast.errors import ContentError
from holdfast.hub.scopes import Scope
from holdfast.job.commands import ErrorInfo, Failed, Page
from holdfast.stores.sql.cold import audit
from tests.features import feature
from tests.hub.site import Site


def log_of(site: Site) -> AuditLog:
    assert site.audit is not None
    return site.audit


async def told(site: Site, **which: Any) -> list[tuple[str, str, str, int]]:
    page = await log_of(site).entries(AuditFilter(**which), Page(limit=1_000))
    return [(one.who, one.action, one.subject, one.count) for one in page.items]


async def test_the_newest_entries_stay_and_the_oldest_go(every_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(every_site)
    monkeypatch.setattr(audit, "AUDIT_KEPT", 20)
    monkeypatch.setattr(audit, "AUDIT_SLACK", 5)
    ledger = getattr(every_site.rig.store, "ledger", None)
    if ledger is not None:  # memory and journal have a limit of their own
        ledger.audit = deque(maxlen=26)
    for number in range(60):
        await log.record(AuditEntry(who="ann", action="pause", subject=str(number)))
    found = [subject for _, _, subject, _ in await told(every_site)]
    assert found[:20] == [str(number) for number in range(59, 39, -1)]
    assert len(found) in range(20, 27)


async def test_entries_come_back_as_they_were_written_newest_first(every_site: Site) -> None:
    log = log_of(every_site)
    start = every_site.clock.now()
    for number in range(5):
        await log.record(AuditEntry(who="ann", action=f"step{number}", subject="s", detail="d", count=number))
        every_site.clock.advance(1.0)
    page = await log.entries(AuditFilter(), Page(limit=10))
    assert [entry.action for entry in page.items] == [f"step{number}" for number in (4, 3, 2, 1, 0)]
    first = page.items[-1]
    assert (first.who, first.subject, first.detail, first.count) == ("ann", "s", "d", 0)
    assert first.at == pytest.approx(start, abs=0.5)


async def test_pages_neither_repeat_nor_hide_while_others_come(every_site: Site) -> None:
    log = log_of(every_site)
    for number in range(7):
        await log.record(AuditEntry(who="ann", action=str(number)))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await log.entries(AuditFilter(), Page(limit=3, cursor=cursor))
        seen += [entry.action for entry in page.items]
        cursor = page.cursor
        if not cursor:
            break
        await log.record(AuditEntry(who="bob", action="late"))
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


async def test_a_filter_shows_what_matches_and_nothing_else(every_site: Site) -> None:
    log = log_of(every_site)
    for who, action in (("ann", "a"), ("bob", "a"), ("ann", "b")):
        await log.record(AuditEntry(who=who, action=action))
        every_site.clock.advance(10.0)
    assert [entry[:2] for entry in await told(every_site, who="ann")] == [("ann", "b"), ("ann", "a")]
    assert [entry[:2] for entry in await told(every_site, action="a")] == [("bob", "a"), ("ann", "a")]
    late = every_site.clock.now() - 15.0
    assert [entry[:2] for entry in await told(every_site, after=late)] == [("ann", "b")]
    assert len(await told(every_site, before=late)) == 2


async def test_texts_are_cut_and_made_storable(every_site: Site) -> None:
    await log_of(every_site).record(AuditEntry(who="a\ud800", action="x" * 5_000, detail="\x00\n"))
    [(who, action, _, _)] = await told(every_site)
    assert (who, len(action)) == ("a\\ud800", 1_000)


async def test_a_bad_cursor_is_refused(every_site: Site) -> None:
    for cursor in ("x", "1.5", "-1", "9" * 40, "1:x"):
        with pytest.raises(ContentError, match="cursor"):
            await log_of(every_site).entries(AuditFilter(), Page(cursor=cursor))


@feature("A17")
async def test_a17_clearing_waiting_and_dead_jobs_is_done_and_history_shows_who_and_when(every_site: Site) -> None:
    site, rig = every_site, every_site.rig
    await site.define("t")
    ids = [(await site.do("POST", "/jobs", {"task": "t"}))["id"] for _ in range(5)]
    for claim in await rig.claim(2):
        await rig.settle(claim, Failed(ErrorInfo("E", "broke", "")))
    [running] = await rig.claim(1)
    site.token = site.make("ann", Scope.OPERATE, Scope.READ)
    preview = await site.do("POST", "/queue-clear", {"queue": rig.queue, "preview": True})
    assert (preview["matched"], preview["done"]) == (2, 0)
    cleared = await site.do("POST", "/queue-clear", {"queue": rig.queue, "why": "wrong batch"})
    assert (cleared["matched"], cleared["done"]) == (2, 2)
    dead = await site.do("POST", "/queue-clear", {"queue": rig.queue, "dead": True})
    assert dead["done"] == 2
    found = await site.store.jobs(ids)
    states = [str(job.state) if job and job.deleted_at is None else "hidden" for job in found]
    assert states == ["hidden", "hidden", "running", "canceled", "canceled"]
    assert running.id == ids[2]
    counts = (await site.get(f"/queues/{rig.queue}"))["counts"]
    assert (counts["queued"], counts["failed"], counts["canceled"], counts["running"]) == (0, 0, 2, 1)
    entries = (await site.get("/audit?limit=2"))["items"]
    # The operations that did it stand between.
    whole = (await site.get("/audit"))["items"]
    mine = [one for one in whole if one["action"] in ("clear_queue", "clear_dead")]
    assert [(one["who"], one["action"], one["subject"], one["count"]) for one in mine] == [
        ("ann", "clear_dead", rig.queue, 2),
        ("ann", "clear_queue", rig.queue, 2),
    ]
    assert mine[1]["detail"] == "wrong batch"
    assert all(one["at"] == pytest.approx(site.clock.now(), abs=2.0) for one in entries)


STEPS: list[tuple[str, str, Any, str]] = [
    ("PATCH", "/queues/q", {"paused": True, "create": True}, "change_queue"),
    ("DELETE", "/queues/q", None, "delete_queue"),
    ("PATCH", "/definitions/t", {"title": "T"}, "change_definition"),
    ("PUT", "/schedules", {"name": "s", "rule": "every 1h", "task": "t"}, "save_schedule"),
    ("PUT", "/workers", {"name": "w"}, "configure_worker"),
    ("DELETE", "/workers/w", None, "delete_worker"),
    ("POST", "/job-actions", {"action": {"type": "cancel"}, "ids": ["none"]}, "cancel"),
    ("POST", "/job-actions", {"action": {"type": "pause"}, "filter": {"queue": "q"}}, "pause"),
    ("POST", "/session-links", {"who": "bob"}, "invite"),
    ("POST", "/store/migrate", None, "migrate"),
    ("POST", "/import", {"jobs": []}, "import"),
]


async def test_whatever_an_operator_does_over_http_is_on_record_under_the_name_of_the_token(site: Site) -> None:
    await site.define("t")
    site.token = site.make("ann", Scope.ADMIN)
    for method, path, body, action in STEPS:
        await site.do(method, path, body)
        assert (await told(site))[0][:2] == ("ann", action), path


async def test_a_change_is_on_record_with_what_became_of_what(every_site: Site) -> None:
    site = every_site
    await site.define("t")
    site.token = site.make("ann", Scope.ADMIN)
    await site.do("PATCH", "/queues/q", {"paused": True, "create": True, "why": "too many errors"})
    await site.do("PATCH", "/queues/q", {"paused": False, "limit": 5, "keep_failed": None})
    await site.do("PATCH", "/queues/q", {"limit": 5})  # changes nothing
    await site.do("PATCH", "/definitions/t", {"title": "T", "memo": "m"})
    await site.do("DELETE", "/queues/q", None)
    page = await log_of(site).entries(AuditFilter(who="ann"), Page(limit=10))
    assert [(one.action, one.subject, one.count, one.detail) for one in page.items] == [
        ("delete_queue", "q", 1, ""),
        ("change_definition", "t", 1, "title, memo"),
        ("change_queue", "q", 1, "resumed, limit 5, keep_failed none"),
        ("change_queue", "q", 1, "paused (too many errors)"),
    ]


async def test_whoever_holds_no_token_of_his_own_is_on_record_as_local(site: Site) -> None:
    await site.do("PATCH", "/queues/q", {"paused": True, "create": True})
    await site.do("PATCH", "/queues/q", {"paused": False, "who": "cron"})
    assert [entry[:2] for entry in await told(site)] == [("cron", "change_queue"), ("local", "change_queue")]
