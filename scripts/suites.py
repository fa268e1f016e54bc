"""The table of suites: what `make test` runs, read from suites.toml."""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = ROOT / "scripts" / "suites.toml"


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the table; suites.toml says what each field means."""

    name: str
    budget_seconds: float
    commands: tuple[tuple[str, ...], ...] = ()
    paths: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    workers: int = 0
    cover: tuple[str, ...] = ()
    cover_min: float = 100
    limit_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse a row that could not run, or that would measure nothing."""
        if not self.commands and not self.paths:
            raise ValueError(f"suite {self.name}: expected commands or paths, found neither")
        if self.cover and self.workers:
            raise ValueError(f"suite {self.name}: coverage is measured in one process; set workers = 0")

    @property
    def limit(self) -> float:
        """Seconds after which the suite is stopped."""
        return self.limit_seconds or max(120.0, 10 * self.budget_seconds)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    suite: tuple[Suite, ...]


def load(table: Path = TABLE) -> tuple[Suite, ...]:
    """Return the suites in the order of the table; a wrong table raises msgspec.ValidationError with the place."""
    suites = msgspec.convert(tomllib.loads(table.read_text()), _Table).suite
    names = [suite.name for suite in suites]
    if len(set(names)) != len(names):
        raise ValueError(f"{table}: expected each suite name once, found {names}")
    return suites


def choose(suites: tuple[Suite, ...], names: list[str]) -> tuple[Suite, ...]:
    """Return the suites called `names` in the table's order, or all when there are no names."""
    unknown = sorted(set(names) - {suite.name for suite in suites})
    if unknown:
        known = ", ".join(suite.name for suite in suites)
        raise SystemExit(f"no suite is called {', '.join(unknown)}; there are: {known}")
    return tuple(suite for suite in suites if not names or suite.name in names)
