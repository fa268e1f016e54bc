"""`holdfast migrate`: bring the schema of a store up to date."""

from __future__ import annotations

import click

from holdfast.cli.session import Session, shared


@click.command("migrate")
@shared()
def command(session: Session) -> int:
    """Bring the schema of a store up to date. A journal has none."""
    return session.run(_migrate(session))


async def _migrate(session: Session) -> int:
    async with session.store() as store:
        done = await store.migrate()
    if session.out.as_json:
        session.out.value({"done": done})
    for name in done:
        session.out.line(name)
    session.out.line(f"{len(done)} steps taken." if done else "nothing to do: the schema is up to date.")
    return 0
