"""`holdfast tokens`: make, list and revoke what lets programs and people into the API of a node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from holdfast.audit import AuditEntry
from holdfast.cli.listing import Listing
from holdfast.cli.session import Session, shared
from holdfast.durations import seconds
from holdfast.errors import ConfigError, HoldfastError

if TYPE_CHECKING:
    from holdfast.hub.tokens import TokenFile

_SCOPES = ("read", "read:payload", "enqueue", "work", "operate", "admin")


@click.group("tokens", cls=Listing)
def command() -> None:
    """Make, list and revoke tokens of the API. They are kept, hashed, in the node's data folder."""


@command.command("ls")
@shared()
def list_tokens(session: Session) -> int:
    """List tokens: what they may do and when they end. Their secrets are not kept."""
    tokens = _file(session).all()
    if session.out.as_json:
        shown = [{name: getattr(token, name) for name in _SHOWN} for token in tokens]
        session.out.value(shown)
        return 0
    rows = [[one.name, " ".join(one.scopes), _day(one.created_at), _day(one.expires_at)] for one in tokens]
    session.out.table(["token", "scopes", "made", "ends"], rows)
    return 0


_SHOWN = ("name", "scopes", "created_at", "expires_at")


def _day(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


@command.command("make")
@click.argument("name")
@click.argument("scopes", nargs=-1, required=True, type=click.Choice(_SCOPES))
@click.option("--expires", metavar="DURATION", help="After this time it opens nothing more: 30d, 12h.")
@shared()
def make(session: Session, name: str, scopes: tuple[str, ...], expires: str | None) -> int:
    """Make a token and print its secret, this once. `admin` includes all other scopes.

    A producer needs enqueue and read, and read:payload if it waits for results; a worker needs work, enqueue and read.
    Without read:payload the API hides what is in the jobs: arguments, results, errors, logs.
    """
    from holdfast.hub.scopes import Scope

    now = session.clock.now()
    until = None if expires is None else now + seconds(expires, "--expires", positive=True)
    file = _file(session)
    file.refuse_taken(name)
    # Before it is made: nobody has a token that the log knows nothing of.
    _record(session, "make_token", name, " ".join(scopes))
    secret = file.make(name, tuple(map(Scope, scopes)), now=now, expires_at=until)
    if session.out.as_json:
        session.out.value({"name": name, "token": secret, "scopes": scopes, "expires_at": until})
    else:
        click.echo(secret)
    return 0


@command.command("revoke")
@click.argument("name")
@shared()
def revoke(session: Session, name: str) -> int:
    """Let a token open nothing more, from now on."""
    _file(session).revoke(name)
    try:
        _record(session, "revoke_token", name)
    except HoldfastError as error:
        session.out.note(f"warning: the token is revoked, but the audit log could not be written: {error}")
    if session.out.as_json:
        session.out.value({"revoked": name})
    session.out.line(f"token {name} opens nothing more.")
    return 0


def _record(session: Session, action: str, name: str, detail: str = "") -> None:
    """Write into the audit log what is done to a token; a folder whose journal was never opened has none yet."""
    if session.data is not None and not (session.data / "FORMAT").exists():
        return
    session.run(_written(session, AuditEntry(who=session.who, action=action, subject=name, detail=detail, count=1)))


async def _written(session: Session, entry: AuditEntry) -> None:
    from holdfast.connect import make_audit

    async with session.store() as store:
        audit = make_audit(store)
        if audit is not None:
            await audit.record(entry)


def _file(session: Session) -> TokenFile:
    from holdfast.hub.tokens import FILE, TokenFile

    folder = session.settings.data
    if not folder.is_dir():
        raise ConfigError(
            f"expected a node's data folder at {folder}, found none. Start the node once, or name its folder with --data."
        )
    return TokenFile(folder / FILE)
