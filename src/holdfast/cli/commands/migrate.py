"""`holdfast migrate`: bring the schema of a store up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.session import Session, shared

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command("migrate")
@click.option("--sql", "print_sql", is_flag=True, help="Print the statements instead; nothing is connected to.")
@shared()
def command(session: Session, print_sql: bool) -> int:
    """Bring the schema of a store up to date. A journal has none."""
    if print_sql:
        return _print(session)
    return session.run(_migrate(session))


def _store(session: Session) -> Any:
    from holdfast.connect import make_store

    return make_store(session.url, clock=session.clock, **session.store_options)


def _print(session: Session) -> int:
    text: Callable[[], str] | None = getattr(_store(session), "schema_text", None)
    session.out.line("-- this store has no schema." if text is None else text().rstrip())
    return 0


async def _migrate(session: Session) -> int:
    store = _store(session)
    if hasattr(store, "schema_text"):
        # Not opened first: a database without its tables refuses that.
        done = await store.migrate()
    else:
        async with session.store() as opened:
            done = await opened.migrate()
    if session.out.as_json:
        session.out.value({"done": done})
    for name in done:
        session.out.line(name)
    session.out.line(f"{len(done)} steps taken." if done else "nothing to do: the schema is up to date.")
    return 0
