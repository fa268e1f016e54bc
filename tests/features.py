"""Marks a test with the features that it shows: `@feature("G8", "T16")`. docs/features.md is made from the marks."""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

import pytest

WORDS_FILE: Final = Path(__file__).with_name("feature_words.toml")
# Faults of older systems that must not come back (GW3, TW2 …) may be named too; they are listed below the features.
_FAULT: Final = re.compile(r"[GTHBS]W[1-9][0-9]?")


@cache
def words() -> dict[str, str]:
    """Return what each feature id means, in our words."""
    found: dict[str, str] = tomllib.loads(WORDS_FILE.read_text())["words"]
    return found


@cache
def families() -> dict[str, str]:
    """Return the title of each family of ids, by its letter."""
    found: dict[str, str] = tomllib.loads(WORDS_FILE.read_text())["families"]
    return found


def check_ids(ids: tuple[str, ...]) -> None:
    """Raise ValueError if one of `ids` is no feature."""
    unknown = [name for name in ids if name not in words() and not _FAULT.fullmatch(name)]
    if unknown or not ids:
        raise ValueError(f"expected feature ids of {WORDS_FILE.name}, found {unknown or 'none'}; correct the mark")


def feature(*ids: str) -> pytest.MarkDecorator:
    """Return a mark which says that the test shows the features `ids`."""
    check_ids(ids)
    return pytest.mark.feature(*ids)
