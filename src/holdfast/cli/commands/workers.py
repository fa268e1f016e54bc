"""`holdfast workers`: the processes that run jobs."""

from __future__ import annotations

import click

from holdfast.cli.output import when
from holdfast.cli.session import Session, shared


@click.command("workers")
@shared()
def command(session: Session) -> int:
    """List live and lately lost worker processes."""
    return session.run(_list(session))


async def _list(session: Session) -> int:
    async with session.node() as store:
        found = await store.instances()
    if session.out.as_json:
        session.out.value(found)
        return 0
    rows = [
        (
            one.worker,
            one.state,
            one.host,
            one.pid,
            f"{one.busy}/{one.slots}",
            ", ".join(one.queues),
            when(one.heartbeat_at),
        )
        for one in found
    ]
    session.out.table(["worker", "state", "host", "pid", "busy", "queues", "heard of (UTC)"], rows)
    return 0
