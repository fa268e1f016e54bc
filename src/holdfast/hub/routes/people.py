"""People: who did what, links that open a session, and live events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.audit import AUDIT_LIMIT, AuditEntry, AuditFilter, AuditLog, AuditPage
from holdfast.errors import NoHistory
from holdfast.hub.refusals import Refusal
from holdfast.hub.routing import EVENTS, Route
from holdfast.hub.scopes import Scope, allowed
from holdfast.hub.sessions import INVITE_LIFE
from holdfast.job.commands import Page
from holdfast.job.ids import check_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdfast.hub.routing import Call

WHO_MAX: Final = 200


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries, and which part of the list. Times are seconds since the epoch."""

    who: str | None = None
    action: str | None = None
    after: float | None = None
    before: float | None = None
    limit: int = AUDIT_LIMIT.default
    cursor: str = ""

    def filter(self) -> AuditFilter:
        """Return the filter that it describes."""
        return AuditFilter(who=self.who, action=self.action, after=self.after, before=self.before)


class AuditNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry from a program that acts for a person: what it did, and to how many."""

    action: str
    who: str = ""
    subject: str = ""
    detail: str = ""
    count: int = 0


class InviteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom a session is, and what it may do."""

    who: str = ""
    scopes: tuple[Scope, ...] = (Scope.ADMIN,)


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """A link that opens a session, once. url: empty when this process does not know its own address."""

    code: str
    url: str
    ends_at: float


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """after: the last id that was seen; the header Last-Event-ID counts before it. Left out: from now on."""

    after: str = ""


async def list_audit(call: Call) -> AuditPage:
    """List what operators did, the newest first."""
    query: AuditQuery = call.query
    return await _log(call).entries(query.filter(), Page(limit=query.limit, cursor=query.cursor))


async def note_audit(call: Call) -> AuditNote:
    """Write an entry of the audit log."""
    note: AuditNote = call.body
    check_text(note.action, "action", WHO_MAX)
    await record(call, note.action, note.subject, note.count, note.detail)
    return note


def _log(call: Call) -> AuditLog:
    if call.parts.audit is None:
        raise NoHistory
    return call.parts.audit


async def record(call: Call, action: str, subject: str = "", count: int = 0, detail: str = "") -> None:
    """Write what the caller did into the audit log, where there is one."""
    if call.parts.audit is not None:
        entry = AuditEntry(who=call.who, action=action, subject=subject, count=count, detail=detail)
        await call.parts.audit.record(entry)


async def record_nameless(call: Call, action: str, subject: str, count: int = 1) -> None:
    """Write what the store does not, since the request names nobody: no action is nobody's."""
    if not call.body.who:
        await record(call, action, subject, count)


async def invite(call: Call) -> Invite:
    """Make a link that opens a session in a browser, once and within ten minutes."""
    asked: InviteRequest = call.body
    sessions = call.parts.sessions
    if sessions is None:
        raise Refusal(
            501, "this process serves no pages: expected one that listens at an address, as a node or hub does."
        )
    check_text(call.who, "who", WHO_MAX)
    scopes = allowed(asked.scopes)
    if not scopes:
        raise Refusal(422, f"scopes: expected one or more of {', '.join(Scope)}, found none.", field="scopes")
    code = sessions.invite(call.who, scopes)
    await record(call, "invite", ", ".join(asked.scopes))
    info = call.parts.node()
    url = f"{info.url}/session?code={code}" if info.url else ""
    return Invite(code=code, url=url, ends_at=info.now + INVITE_LIFE)


def events(call: Call) -> AsyncIterator[str]:
    """Tell what happens as it happens, as server-sent events."""
    ring = call.parts.events
    if ring is None:
        raise Refusal(501, "this process tells no events.")
    return ring.listen(call.headers.get("last-event-id", "") or call.query.after)


ROUTES: Final = (
    Route(
        method="GET",
        path="/audit",
        handle=list_audit,
        scope=Scope.OPERATE,
        query=AuditQuery,
        answer=AuditPage,
        summary="List what operators did, the newest first",
    ),
    Route(
        method="POST",
        path="/audit",
        handle=note_audit,
        scope=Scope.OPERATE,
        body=AuditNote,
        answer=AuditNote,
        summary="Write an entry of the audit log",
        status=201,
    ),
    Route(
        method="POST",
        path="/session-links",
        handle=invite,
        scope=Scope.ADMIN,
        body=InviteRequest,
        answer=Invite,
        summary="Make a link that opens a session in a browser, once",
        status=201,
    ),
    Route(
        method="GET",
        path="/events",
        handle=events,
        scope=Scope.READ,
        query=EventQuery,
        answer=str,
        media=EVENTS,
        summary="Tell what happens as it happens, as server-sent events",
    ),
)
