"""The audit log: from the ledger's memory, and from the table of a SQL store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

from holdfast.audit import AUDIT_LIMIT, AuditEntry, AuditFilter, AuditPage
from holdfast.histories.attempts import bad_cursor
from holdfast.job.commands import Audit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.history import Page
    from holdfast.job.facts import Audited
    from holdfast.job.ledger import Ledger

#: How many rows one step of a search reads.
_SLICE: Final = 1_000


class LedgerAccess(Protocol):
    """What the log needs of a store over a ledger."""

    ledger: Ledger

    async def run(self, command: object) -> Any: ...
    async def read(self, look: Callable[[], Any]) -> Any: ...


class LedgerAudit:
    """The AuditLog of a ledger, which keeps the newest 10,000 entries.

    A cursor is a time and a place among the entries of that time, counted from the oldest: it stays true while others come.
    """

    def __init__(self, store: LedgerAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    async def record(self, entry: AuditEntry) -> None:
        """Write an entry."""
        await self._store.run(_command(entry))

    async def entries(self, which: AuditFilter, page: Page) -> AuditPage:
        """A page of entries, the newest first."""
        limit, below = AUDIT_LIMIT.of(page.limit), _place(page.cursor)
        known: Sequence[Audited] = await self._store.read(lambda: tuple(self._store.ledger.audit))
        found: list[tuple[tuple[float, int], AuditEntry]] = []
        at, place = -1.0, 0
        for fact in known:
            at, place = fact.at, place + 1 if fact.at == at else 0
            entry = _entry(fact)
            if which.matches(entry) and (below is None or (at, place) < below):
                found.append(((at, place), entry))
        shown = found[::-1][:limit]
        (at, place), _ = shown[-1] if shown else ((0.0, 0), None)
        return AuditPage(
            items=tuple(entry for _, entry in shown), cursor=f"{at!r}:{place}" if len(found) > limit else ""
        )


class SqlAccess(Protocol):
    """What the log needs of a SQL store."""

    async def record_audit(self, entry: Audit) -> None: ...
    async def audited(self, before: int | None, limit: int) -> list[tuple[int, Audited]]: ...


class SqlAudit:
    """The AuditLog of a SQL store."""

    def __init__(self, store: SqlAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    async def record(self, entry: AuditEntry) -> None:
        """Write an entry."""
        await self._store.record_audit(_command(entry))

    async def entries(self, which: AuditFilter, page: Page) -> AuditPage:
        """A page of entries, the newest first."""
        limit = AUDIT_LIMIT.of(page.limit)
        if page.cursor and not (page.cursor.isdecimal() and len(page.cursor) <= 18):
            raise bad_cursor(page.cursor)
        before = int(page.cursor) if page.cursor else None
        found: list[tuple[int, AuditEntry]] = []
        while len(found) <= limit:
            rows = await self._store.audited(before, _SLICE)
            found += [(seq, entry) for seq, fact in rows if which.matches(entry := _entry(fact))]
            if len(rows) < _SLICE:
                break
            before = rows[-1][0]
        shown = found[:limit]
        return AuditPage(
            items=tuple(entry for _, entry in shown), cursor=str(shown[-1][0]) if len(found) > limit else ""
        )


class RemoteAccess(Protocol):
    """What the log needs of a store that another process owns."""

    async def ask(self, method: str, path: str, kind: Any, body: object = ...) -> Any: ...


class RemoteAudit:
    """The AuditLog of a store that is reached over HTTP."""

    def __init__(self, store: RemoteAccess) -> None:
        """`store` is open while this is used."""
        self._store = store

    async def record(self, entry: AuditEntry) -> None:
        """Write an entry."""
        names = ("who", "action", "subject", "detail", "count")
        await self._store.ask("POST", "/audit", Any, {name: getattr(entry, name) for name in names})

    async def entries(self, which: AuditFilter, page: Page) -> AuditPage:
        """A page of entries, the newest first."""
        asked = {name: getattr(which, name) for name in which.__struct_fields__} | {"limit": page.limit}
        pairs = [(name, value) for name, value in asked.items() if value is not None]
        query = urlencode([*pairs, ("cursor", page.cursor)] if page.cursor else pairs)
        found: AuditPage = await self._store.ask("GET", f"/audit?{query}", AuditPage)
        return found


def _command(entry: AuditEntry) -> Audit:
    return Audit(who=entry.who, action=entry.action, subject=entry.subject, detail=entry.detail, count=entry.count)


def _entry(fact: Audited) -> AuditEntry:
    return AuditEntry(
        who=fact.who, action=fact.action, subject=fact.subject, detail=fact.detail, count=fact.count, at=fact.at
    )


def _place(cursor: str) -> tuple[float, int] | None:
    if not cursor:
        return None
    at, colon, place = cursor.partition(":")
    try:
        if colon and place.isdecimal() and len(place) < 10:
            return float(at), int(place)
    except ValueError:
        pass
    raise bad_cursor(cursor)
