"""`holdfast ddl`: the statements that make a task table, or make one of a table that exists."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.cli.session import Session, shared
from holdfast.errors import BadAppModule

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from holdfast.table.shape import Shape

#: Name of a dialect -> what SQLAlchemy calls it.
_DIALECTS: Final = ("sqlite", "postgresql", "mysql", "mariadb")
_SHOWN: Final = ("sqlite", "postgresql", "mysql")


@click.command("ddl")
@click.argument("model")
@click.option("--dialect", type=click.Choice(_DIALECTS), help="One database; all of them otherwise.")
@click.option("--adopt", is_flag=True, help="For a table that exists: add the columns and the index.")
@shared()
def command(session: Session, model: str, dialect: str | None, adopt: bool) -> int:
    """Print the statements that make the table of MODEL (module:Model), for each database.

    Nothing is sent to a database. A migration tool makes the same from the model's metadata.
    """
    shape = _shape(model)
    made = {}
    for name in (dialect,) if dialect else _SHOWN:
        found = _dialect(name)
        made[name] = shape.ddl_to_adopt(found) if adopt else shape.ddl(found)
    if session.out.as_json:
        session.out.value({"table": shape.table.fullname, "ddl": made})
        return 0
    for name, text in made.items():
        if len(made) > 1:
            session.out.line(f"-- {name}")
        session.out.line(text)
    return 0


def _dialect(name: str) -> Dialect:
    from sqlalchemy import URL

    # Not the registry, which gives a class for one name and something else for another.
    return URL.create(name).get_dialect()()


def _shape(name: str) -> Shape[Any]:
    from holdfast.table.shape import Shape

    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise BadAppModule(f"model: expected module:Model, as in shop.models:Order, found {name!r}. Name both.")
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise BadAppModule(
            f"model: importing {module_name!r} failed: {error}. Start in the folder that holds it."
        ) from error
    if not hasattr(module, attribute):
        raise BadAppModule(f"model: module {module_name!r} has no {attribute!r}. Check the spelling.")
    return Shape(getattr(module, attribute))
