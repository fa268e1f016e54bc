"""The schema: numbered steps, each taken once, under a lock.

The number of the newest step stands in the table "meta". Before anything is made or believed, the tables that are there are
looked at: another application's tables of the same names are refused, and never touched.
"""

from __future__ import annotations

import re
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.errors import ConfigError
from holdfast.stores.sql.rows import seconds
from holdfast.stores.sql.schema import TABLES

if TYPE_CHECKING:
    from holdfast.stores.sql.dialects.dialect import Dialect
    from holdfast.stores.sql.script import Script, Step

_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")
_LOCK: Final = ("schema", ("migrate",))
#: An epoch that goes by the time counts ten minutes each since 2024, in microseconds: tokens stay below 2 ** 53 for 39 years.
#: Its fraction counts as well (see rows.first_token): seven tokens for each microsecond, so no two restores begin with one.
_EPOCH_ZERO: Final = 1_704_067_200_000_000
_EPOCH_STEP: Final = 600_000_000
_EPOCH_END: Final = 1 << 21
_EPOCH_DIGITS: Final = Decimal("1e-9")


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
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), _statements(db, text)))
    return sorted(found)


def _statements(db: Dialect, text: str) -> tuple[str, ...]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return tuple(db.q(part.strip()).sql for part in parts if part.strip())


def as_text(db: Dialect) -> str:
    """All steps as one script, for somebody who may run it where Holdfast's account may not make tables."""
    parts = [f"-- Holdfast's tables for {db.name}. Run it once, in an empty schema.", "BEGIN;"]
    for migration in migrations_of(db):
        parts.append(f"\n-- {migration.name}")
        parts += [f"{statement};" for statement in migration.statements]
    newest = migrations_of(db)[-1].number
    meta = db.tables["meta"]
    parts.append(f"DELETE FROM {meta} WHERE name = 'schema';")
    parts.append(f"INSERT INTO {meta} (name, value) VALUES ('schema', '{newest}');")
    return "\n".join([*parts, "COMMIT;", ""])


# --- in the database -----------------------------------------------------------------------------------------------


def applied(step: Step) -> Script[int]:
    """The number of the newest step that was taken; 0 when there is no table of ours.

    Raises ConfigError when tables of our names are there and are not ours.
    """
    there = yield from step.db.columns_there()
    if there is None:  # a database that is not asked for its columns
        if not (yield from step.db.has_tables()):
            return 0
    elif not there:
        return 0
    elif not there.get("meta", frozenset()) >= set(TABLES["meta"].columns):
        raise _foreign(step.db, sorted(there))
    rows = yield step.db.q("SELECT value FROM {meta} WHERE name = 'schema'")
    number = str(rows[0][0]) if rows else ""
    if not number.isdigit():
        raise _foreign(step.db, sorted(there or ("meta",)))
    return int(number)


def migrate(step: Step) -> Script[list[str]]:
    """Take the steps that were not taken yet; return their names."""
    db = step.db
    known = migrations_of(db)
    yield from db.lock(*_LOCK)
    done = yield from applied(step)
    _refuse_newer(done, known)
    taken: list[str] = []
    for migration in known:
        if migration.number > done:
            if not taken:
                yield from db.make_schema()
            for statement in migration.statements:
                yield db.raw(statement)
            yield from db.upsert("meta", [("schema", str(migration.number))])
            taken.append(migration.name)
    return taken


def behind(step: Step) -> Script[bool]:
    """Tell whether there are steps to take."""
    known = migrations_of(step.db)
    done = yield from applied(step)
    _refuse_newer(done, known)
    return done < known[-1].number


def check(step: Step) -> Script[None]:
    """Raise ConfigError when the tables are not there, not ours, or older or newer than this release."""
    if not (yield from behind(step)):
        there = yield from step.db.columns_there()
        if there is not None:
            _refuse_others(step.db, there)
        return
    newest = migrations_of(step.db)[-1].number
    done = yield from applied(step)
    found = f"the schema at step {done}" if done else "none of them"
    raise ConfigError(
        f"the database: expected Holdfast's tables at step {newest}, found {found}. Run `holdfast migrate` (with --sql it "
        "prints the statements), or open the store with auto_migrate=True."
    )


def restored(step: Step) -> Script[int]:
    """Raise the epoch of all tokens, because the database was restored from a backup; return it.

    Claims that were handed out after the backup was made are not known any more, and their numbers must not be given again;
    also when the same backup is restored twice, so the epoch goes by the time as well. It is another database from now on.
    """
    yield from check(step)
    yield from step.db.lock(*_LOCK)
    [[known]] = yield step.db.q("SELECT value FROM {meta} WHERE name = 'epoch'")
    now = yield from step.now()
    by_time = Decimal(max(0, now - _EPOCH_ZERO)) / _EPOCH_STEP
    epoch = max(Decimal(int(Decimal(known)) + 1), by_time.quantize(_EPOCH_DIGITS))
    if epoch >= _EPOCH_END:
        raise ConfigError(
            f"the database: expected a token epoch below {_EPOCH_END}, found {known} in {step.db.tables['meta']}, and a "
            f"clock that says {now // 1_000_000} seconds since 1970. Set the database's clock, and try again."
        )
    yield from step.db.upsert("meta", [("epoch", str(epoch)), ("database", step.draw.job_id(seconds(now)))])
    yield from step.db.feed.restored(step)
    return int(epoch)


def _refuse_others(db: Dialect, there: dict[str, frozenset[str]]) -> None:
    wrong = [
        table
        for table, wanted in TABLES.items()
        if not there.get(table, frozenset()) >= {*wanted.all, *db.filled.get(table, ())}
    ]
    if wrong:
        raise _foreign(db, wrong)


def _foreign(db: Dialect, tables: list[str]) -> ConfigError:
    names = ", ".join(db.prefix + table for table in tables[:4])
    return ConfigError(
        f"the database: expected no tables named {db.prefix}… but Holdfast's own, found others: {names}. Nothing was "
        "changed. Use another database, or another prefix= (and schema= on PostgreSQL)."
    )


def _refuse_newer(done: int, known: list[Migration]) -> None:
    if done > known[-1].number:
        raise ConfigError(
            f"the database's schema is at step {done}, this release knows steps up to {known[-1].number}: it was made by a "
            "newer release. Upgrade holdfast here, or use another database."
        )
