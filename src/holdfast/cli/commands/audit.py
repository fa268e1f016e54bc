"""`holdfast audit`: who did what, and to how many."""

from __future__ import annotations

import click

from holdfast.audit import AuditFilter, AuditPage
from holdfast.cli.output import when
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError
from holdfast.job.commands import Page


@click.command("audit")
@click.option("--who", help="Only what this person or token did.")
@click.option("--action", help="Only this: cancel, retry, change_queue, clear_queue …")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", default="", help="Go on where the page before ended.")
@shared()
def command(session: Session, who: str | None, action: str | None, limit: int, cursor: str) -> int:
    """List what operators did, the newest first."""
    page = session.run(_read(session, AuditFilter(who=who, action=action), Page(limit=limit, cursor=cursor)))
    if session.out.as_json:
        session.out.value(page)
        return 0
    rows = [[when(one.at), one.who, one.action, one.subject, one.count, one.detail] for one in page.items]
    session.out.table(["when (UTC)", "who", "what", "to what", "how many", "more"], rows)
    if page.cursor:
        session.out.note(f"there is more: --cursor {page.cursor}")
    return 0


async def _read(session: Session, which: AuditFilter, page: Page) -> AuditPage:
    from holdfast.connect import make_audit

    async with session.store() as store:
        audit = make_audit(store)
        if audit is None:
            raise ConfigError("expected a store that keeps an audit log, found one that does not.")
        return await audit.entries(which, page)
