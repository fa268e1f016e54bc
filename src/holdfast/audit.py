"""The port of the audit log: who did what, to how many, and when. Its promises are shown by tests/hub/test_audit.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from holdfast.history import Limit

if TYPE_CHECKING:
    from holdfast.history import Page

__all__ = ["AUDIT_LIMIT", "AuditEntry", "AuditFilter", "AuditLog", "AuditPage"]

AUDIT_LIMIT: Final = Limit(1_000, 100)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator did. subject: to what. count: to how many. at: seconds since the epoch."""

    who: str
    action: str
    subject: str = ""
    detail: str = ""
    count: int = 0
    at: float = 0.0


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which entries; all given fields must match. Those from `after` up to `before`, seconds since the epoch."""

    who: str | None = None
    action: str | None = None
    after: float | None = None
    before: float | None = None

    def matches(self, entry: AuditEntry) -> bool:
        """Whether an entry is one of these."""
        return (
            self.who in (None, entry.who)
            and self.action in (None, entry.action)
            and (self.after is None or entry.at >= self.after)
            and (self.before is None or entry.at < self.before)
        )


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries, the newest first, and the cursor of the next page (empty: this was the last)."""

    items: tuple[AuditEntry, ...]
    cursor: str = ""


class AuditLog(Protocol):
    """Who did what. A store writes an entry in the same step as an operator's action; `record` is for the rest."""

    async def record(self, entry: AuditEntry) -> None:
        """Write an entry; the store says when. Long texts are cut."""
        ...

    async def entries(self, which: AuditFilter, page: Page) -> AuditPage:
        """Entries, the newest first, in keyset pages of AUDIT_LIMIT rows. Raises ContentError for a bad cursor."""
        ...
