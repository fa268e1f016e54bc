"""`holdfast migrate`: bring the schema of a store up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.session import Session, shared

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command("migrate")
@click.option("--sql", "print_sql", is_flag=True, help="Print the statements instead; nothing is connected to.")
@click.option(
    "--restored",
    is_flag=True,
    help="The database was restored from a backup: let no token that was given since be valid.",
)
@shared()
def command(session: Session, print_sql: bool, restored: bool) -> int:
    """Bring the schema of a store up to date. A journal has none."""
    if print_sql and restored:
        raise click.UsageError("--sql and --restored: expected one of them.")
    if print_sql:
        return _print(session)
    return session.run(_restored(session) if restored else _migrate(session))


def _database(session: Session) -> Any:
    """The store if it has a schema, not opened: a database without its tables refuses to be."""
    if session.data is not None:
        return None
    from holdfast.connect import make_store

    store = make_store(session.url, clock=session.clock, **session.store_options)
    return store if hasattr(store, "schema_text") else None


def _print(session: Session) -> int:
    store = _database(session)
    text: Callable[[], str] | None = None if store is None else store.schema_text
    session.out.line("-- this store has no schema." if text is None else text().rstrip())
    return 0


async def _migrate(session: Session) -> int:
    store = _database(session)
    if store is not None:
        done = await store.migrate()
    else:
        async with session.store() as opened:
            done = await opened.migrate()
    if session.out.as_json:
        session.out.value({"done": done})
    for name in done:
        session.out.line(name)
    taken = "1 step taken." if len(done) == 1 else f"{len(done)} steps taken."
    session.out.line(taken if done else "nothing to do: the schema is up to date.")
    return 0


async def _restored(session: Session) -> int:
    store = _database(session)
    if store is None:
        session.out.line("nothing to do: only a database needs that. A journal raises its epoch whenever it is opened.")
        return 0
    await store.migrate()
    epoch = await store.restored()
    if session.out.as_json:
        session.out.value({"epoch": epoch})
    session.out.line(f"tokens are given under epoch {epoch} from now on; workers may be started.")
    return 0
