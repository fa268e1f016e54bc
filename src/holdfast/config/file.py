"""The configuration file: YAML, one setting per line. A key that stands there twice is refused, with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import MissingExtra

if TYPE_CHECKING:
    from pathlib import Path


class Place(msgspec.Struct, frozen=True):
    """A value and where it stands: file:line."""

    value: Any
    where: str


def read_file(path: Path, faults: list[str]) -> dict[str, Place]:
    """Return the entries of the file with their lines; what can not be read is added to `faults`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: expected a YAML file in UTF-8, but it can not be read ({error}).")
        return {}
    try:
        return _entries(path, text, faults)
    except RecursionError:  # each level of a list within a list is a call of the parser's
        faults.append(
            f"{path}: expected settings such as `worker_count: 8`, found values within values, too deep to read."
        )
        return {}


def _entries(path: Path, text: str, faults: list[str]) -> dict[str, Place]:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the configuration file {path}", "node") from error
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = False
    try:
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        faults.append(f"{path}{line}: {(error.problem or 'not YAML').splitlines()[0]}.")
        return {}
    except YAMLError as error:
        faults.append(f"{path}: not YAML: {str(error).splitlines()[0]}.")
        return {}
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        faults.append(f"{path}:1: expected settings such as `worker_count: 8`, found {_kind(loaded)}.")
        return {}
    return {str(name): Place(_plain(value), f"{path}:{_line(loaded, name)}") for name, value in loaded.items()}


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{_plain(value)!r:.40}"


def _line(loaded: Any, name: Any) -> int:
    position = loaded.lc.data.get(name)
    return int(position[0]) + 1 if position else 1


def _plain(value: Any) -> Any:
    """Return a YAML value as plain Python: its own classes keep comments and quotes, which nobody here needs."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)
