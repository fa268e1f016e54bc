"""The tables: numbered texts, each taken once. There are no locks in ClickHouse: the texts may be taken twice at once."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.histories.clickhouse.client import Client

#: Tables, by the word that stands for them in texts.
TABLES: Final = ("job", "block", "attempt", "minute", "hour", "day", "worker", "meta")
_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")
_TTL: Final = re.compile(r"\{ttl (\w+)\}")
_PREFIX: Final = re.compile(r"[a-z_][a-z0-9_]{0,30}")


class Tables(NamedTuple):
    """How the tables are named, and how many days they keep what has ended; None: for ever."""

    database: str
    prefix: str = "holdfast_"
    keep_days: int | None = 400

    def named(self, text: str) -> str:
        """Return a text with the names in the place of their words.

        >>> Tables("h", "x_").named("SELECT 1 FROM {job} WHERE a = {a:String}")
        'SELECT 1 FROM `h`.x_job WHERE a = {a:String}'
        """
        for table in TABLES:
            text = text.replace(f"{{{table}}}", f"`{self.database}`.{self.prefix}{table}")
        return text

    def ttl(self, column: str) -> str:
        """The expression after which a row goes; an empty text when it stays."""
        return "" if self.keep_days is None else f"toDateTime({column}) + toIntervalDay({self.keep_days})"


def checked(tables: Tables) -> Tables:
    """Return the names if they can be. Raises ConfigError."""
    for what, name in (("prefix", tables.prefix), ("database", tables.database)):
        if not _PREFIX.fullmatch(name):
            raise ConfigError(
                f"history URL: {what}: expected up to 31 small letters, digits and _, no digit first; found {name!r}."
            )
    return tables


def statements_of(tables: Tables) -> list[tuple[int, tuple[str, ...]]]:
    """All steps that this release knows, in order: number, statements."""
    found = []
    for file in (resources.files("holdfast.histories.clickhouse") / "schema").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("--")]
            text = _TTL.sub(lambda ttl: f"TTL {its}" if (its := tables.ttl(ttl[1])) else "", "\n".join(lines))
            parts = [part.strip() for part in re.split(r";[ \t]*(?:\n|$)", text)]
            found.append((int(match[1]), tuple(tables.named(part) for part in parts if part)))
    return sorted(found)


#: Which column decides when a row of a table goes.
_AGES: Final = {"job": "finished_at", "block": "last", "attempt": "ended_at", "minute": "at", "hour": "at", "day": "at"}


async def migrate(client: Client, tables: Tables) -> list[str]:
    """Take the steps that were not taken; return what was done. Raises ConfigError when a newer release made the tables."""
    steps = statements_of(tables)
    there = await client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        database=tables.database,
        name=f"{tables.prefix}meta",
    )
    found = dict(await client.query(tables.named("SELECT name, value FROM {meta} FINAL"))) if there[0][0] else {}
    known, newest = int(found.get("schema", 0)), steps[-1][0]
    if known > newest:
        raise ConfigError(
            f"{client.shown}: expected tables up to step {newest}, found step {known}: a newer release made them. Upgrade "
            "holdfast here, or use another database or prefix."
        )
    done: list[str] = []
    for number, statements in steps:
        if number > known:
            for statement in statements:
                await client.execute(statement)
            done.append(f"{number:04}")
    keep = "" if tables.keep_days is None else str(tables.keep_days)
    if done:
        await _note(client, tables, "schema", str(newest))
    elif found.get("keep") != keep:
        await _keep(client, tables)
        done.append(f"keep {keep or 'for ever'}")
    if found.get("keep") != keep:
        await _note(client, tables, "keep", keep)
    return done


async def _keep(client: Client, tables: Tables) -> None:
    """Change how long rows stay; what is too old now goes with the next merges."""
    for table, column in _AGES.items():
        ttl = tables.ttl(column)
        change = f"MODIFY TTL {ttl}" if ttl else "REMOVE TTL"
        await client.execute(
            tables.named(f"ALTER TABLE {{{table}}} {change} SETTINGS materialize_ttl_after_modify = 0")
        )


async def _note(client: Client, tables: Tables, name: str, value: str) -> None:
    text = (
        "INSERT INTO {meta} (name, version, value)"
        " SELECT {name:String}, toUnixTimestamp64Nano(now64(9)), {value:String}"
    )
    await client.execute(tables.named(text), name=name, value=value)
