"""Flags win over the environment, that over the file, that over defaults. All faults are told at once, with their origin."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.config.file import Place, read_file
from holdfast.config.settings import BY_NAME, FIELDS, OTHER_VARIABLES, Faults, Field, Settings
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_PREFIX: Final = "HOLDFAST_"
#: Variables of the tests and tools around the project; they configure no node.
_FOREIGN: Final = ("HOLDFAST_TEST_", "HOLDFAST_VENV", "HOLDFAST_BENCH_")
HIDDEN: Final = "***"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value with its origin: a flag, a variable, file and line, or the default."""

    name: str
    value: Any
    origin: str
    about: str
    secret: bool = False

    @property
    def shown(self) -> Any:
        """The value for people and programs: secrets hidden, paths as text."""
        if self.secret and self.value is not None:
            return HIDDEN
        return msgspec.to_builtins(self.value, enc_hook=str)


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, and where each came from."""

    settings: Settings
    table: tuple[Setting, ...]

    def origin(self, name: str) -> str:
        """Where a setting came from."""
        return next(setting.origin for setting in self.table if setting.name == name)


class _Found(msgspec.Struct, frozen=True):
    value: Any
    origin: str


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> Resolved:
    """Return the settings.

    flags: by the name of the setting; None means not given. file: read when it is there; a file that was asked for and is
    missing is the caller's to refuse. Raises ConfigError that lists every fault.
    """
    faults: list[str] = []
    found: dict[str, _Found] = {}
    for layer in (_from_file(file, faults), _from_environment(environment, faults), _from_flags(flags)):
        for field, value, origin in layer:
            read = _read(field, value, origin, faults)
            if read is not None:
                found[field.name] = read
    _join_older_names(found, faults)
    if faults:
        raise ConfigError(f"{len(faults)} setting{'s' if len(faults) > 1 else ''} can not be used:", faults)
    table = tuple(_setting(field, found.get(field.name)) for field in FIELDS)
    return Resolved(settings=Settings(**{setting.name: setting.value for setting in table}), table=table)


def _setting(field: Field, found: _Found | None) -> Setting:
    value, origin = (found.value, found.origin) if found is not None else (field.default, "default")
    return Setting(name=field.name, value=value, origin=origin, about=field.about, secret=field.secret)


def _read(field: Field, value: Any, origin: str, faults: list[str]) -> _Found | None:
    try:
        return _Found(field.read(value), origin)
    except Faults as error:
        faults.extend(f"{origin}: {field.name}: {fault}." for fault in error.faults)
        return None
    except ValueError as error:
        shown = HIDDEN if field.secret else f"{value!r:.100}"
        faults.append(f"{origin}: {field.name}: {error}, found {shown}.")
        return None


def _from_flags(flags: Mapping[str, Any]) -> Iterable[tuple[Field, Any, str]]:
    for name, value in flags.items():
        if value is not None and value != ():
            yield BY_NAME[name], value, f"flag --{_FLAGS.get(name, name.replace('_', '-'))}"


_FLAGS: Final = {
    "worker_count": "workers",
    "task_timeout": "timeout",
    "snapshot_interval": "snapshot",
    "queues": "queue",
}


def _from_environment(environment: Mapping[str, str], faults: list[str]) -> Iterable[tuple[Field, Any, str]]:
    by_variable = {field.variable: field for field in FIELDS}
    for name, value in environment.items():
        if not name.startswith(_PREFIX) or name in OTHER_VARIABLES or name.startswith(_FOREIGN):
            continue
        field = by_variable.get(name)
        if field is None:
            faults.append(f"variable {name}: no such setting{_near(name, by_variable)}.")
        else:
            yield field, value, f"variable {name}"


def _from_file(file: Path | None, faults: list[str]) -> Iterable[tuple[Field, Any, str]]:
    if file is None:
        return
    entries: dict[str, Place] = read_file(file, faults)
    for name, place in entries.items():
        field = BY_NAME.get(name)
        if field is None:
            faults.append(f"{place.where}: {name}: no such setting{_near(name, BY_NAME)}.")
        else:
            yield field, place.value, place.where


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else "; `holdfast config` lists all"


def _join_older_names(found: dict[str, _Found], faults: list[str]) -> None:
    """`wal_path` and `snapshot_path` name files; here both live in one folder, which they choose."""
    folders = {name: found[name] for name in ("wal_path", "snapshot_path") if name in found and found[name].value}
    chosen: dict[Path, str] = {}
    for name, entry in folders.items():
        chosen.setdefault(entry.value.parent, f"{entry.origin}: {name}")
    if "data" in found:
        chosen.setdefault(found["data"].value, f"{found['data'].origin}: data")
    if len(chosen) > 1:
        places = "; ".join(f"{where} says {folder}" for folder, where in chosen.items())
        faults.append(f"expected log and snapshots in one folder, found several: {places}. Set `data` alone.")
    elif folders and "data" not in found:
        [(folder, where)] = chosen.items()
        found["data"] = _Found(folder, where)
