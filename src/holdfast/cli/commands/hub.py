"""`holdfast hub`: the API and the status page of a store, without a worker; and the link that lets a person in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.cli.commands.run import run_node
from holdfast.cli.logs import set_up_logs
from holdfast.cli.session import Session, shared
from holdfast.errors import ConfigError, NodeNotRunning

if TYPE_CHECKING:
    from holdfast.hub.routes.people import Invite

_SCOPES: Final = ("read", "read:payload", "enqueue", "operate", "admin")


@click.group("hub", invoke_without_command=True)
@click.option("--history", metavar="URL", help="The history that it shows: clickhouse://… (default: the store's own).")
@click.option("--host", metavar="ADDRESS", help="Address to listen at (default 127.0.0.1).")
@click.option("--port", metavar="PORT", help="Port to listen at (default 7420; 0 picks a free one).")
@click.option("--base-path", metavar="/PATH", help="Where a proxy serves it.")
@click.option("--metrics-port", metavar="PORT", help="Port of the metrics (default 9090; 0: only /metrics of the API).")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, human or json.")
@shared()
def command(session: Session, **options: Any) -> int:
    """Serve the HTTP API and the status page of a store, without a worker: holdfast hub --url postgresql://host/name.

    Any number of hubs may serve one database. It listens on loopback unless a token guards it (holdfast tokens make).
    """

    if click.get_current_context().invoked_subcommand is not None:
        return 0
    session.flag(**options)
    set_up_logs(session.settings)
    return run_node(session.settings, None, session.out, session.who)


@command.command("open")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(_SCOPES), help="What it may do (default: admin).")
@shared()
def open_link(session: Session, scopes: tuple[str, ...]) -> int:
    """Print a link that opens a session in a browser: once, and within ten minutes."""
    invite = session.run(_invite(session, scopes or ("admin",)))
    if session.out.as_json:
        session.out.value(invite)
    else:
        click.echo(invite.url or f"this node serves no pages over TCP; the code is {invite.code}")
    return 0


async def _invite(session: Session, scopes: tuple[str, ...]) -> Invite:
    """Ask the node or hub of the data folder, or the one of --url, for a link."""
    from holdfast.connect import make_store
    from holdfast.hub.routes.people import Invite, InviteRequest
    from holdfast.hub.scopes import Scope
    from holdfast.wire.place import find_node

    url = session.settings.url or ""
    if not url.startswith(("http:", "https:")):
        place = find_node(session.settings.data)
        if place is None:
            raise NodeNotRunning(str(session.settings.data))
        url = f"unix:{place}"
    elif not session.settings.api_token:
        raise ConfigError("expected a token with scope admin (HOLDFAST_API_TOKEN), found none. Or name its --data.")
    store: Any = make_store(url, clock=session.clock, **session.store_options)
    await store.open()
    try:
        asked = InviteRequest(who=session.who, scopes=tuple(map(Scope, scopes)))
        invite: Invite = await store.ask("POST", "/session-links", Invite, asked)
        return invite
    finally:
        await store.close()
