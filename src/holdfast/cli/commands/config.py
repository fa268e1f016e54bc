"""`holdfast config`: every setting with its value and where it came from."""

from __future__ import annotations

import click

from holdfast.cli.session import Session, shared
from holdfast.config.settings import BY_NAME


@click.command("config")
@shared()
def command(session: Session) -> int:
    """Show every setting with its value and where it came from.

    Flags win over HOLDFAST_… variables, those over the file (holdfast.yaml), that over the defaults.
    """
    table = session.resolved.table
    if session.out.as_json:
        session.out.value(
            {
                one.name: {"value": one.shown, "origin": one.origin, "variable": BY_NAME[one.name].variable}
                for one in table
            }
        )
        return 0
    session.out.table(
        ["setting", "value", "origin", "about"], [(one.name, one.shown, one.origin, one.about) for one in table]
    )
    return 0
