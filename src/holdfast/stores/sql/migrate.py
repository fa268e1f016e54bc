"""The schema: numbered steps, each taken once, in one transaction."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.stores.sql.dialects.dialect import Dialect
    from holdfast.stores.sql.script import Script, Step

_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    name: str
    statements: tuple[str, ...]


def migrations_of(db: Dialect) -> list[Migration]:
    """All steps that this release knows for a database, in order."""
    folder = resources.files("holdfast.stores.sql") / "migrations" / db.name
    found = []
    for file in folder.iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), _statements(db, file.read_text())))
    return sorted(found)


def _statements(db: Dialect, text: str) -> tuple[str, ...]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return tuple(db.q(part.strip()).sql for part in parts if part.strip())


def applied(step: Step) -> Script[int]:
    """The number of the newest step that was taken; 0 when there is no table of ours."""
    if not (yield from step.db.has_tables()):
        return 0
    rows = yield step.db.q("SELECT value FROM {meta} WHERE name = 'schema'")
    return int(rows[0][0]) if rows else 0


def migrate(step: Step) -> Script[list[str]]:
    """Take the steps that were not taken yet; return their names."""
    db = step.db
    known = migrations_of(db)
    done = yield from applied(step)
    _refuse_newer(done, known)
    taken = []
    for migration in known:
        if migration.number > done:
            for statement in migration.statements:
                yield db.raw(statement)
            yield from db.upsert("meta", [("schema", str(migration.number))])
            taken.append(migration.name)
    return taken


def check(step: Step) -> Script[None]:
    """Raise ConfigError when the schema is older or newer than this release."""
    known = migrations_of(step.db)
    done = yield from applied(step)
    _refuse_newer(done, known)
    if done < known[-1].number:
        raise ConfigError(
            f"the database's schema is at step {done}, this release needs step {known[-1].number}. "
            "Run `holdfast migrate`, or open the store with auto_migrate=True."
        )


def _refuse_newer(done: int, known: list[Migration]) -> None:
    if done > known[-1].number:
        raise ConfigError(
            f"the database's schema is at step {done}, this release knows steps up to {known[-1].number}: it was made by a "
            "newer release. Upgrade holdfast here, or use another database."
        )
