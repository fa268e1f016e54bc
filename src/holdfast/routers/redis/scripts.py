"""The scripts as texts with their SHA, read from the files of this package when they are first wanted."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

#: What stands before a script: its part of the common texts.
_PARTS: Final = {
    "set_link": ("_link",),
    "try_set_link": ("_link",),
    "set_link_if_absent": ("_link",),
    "renew_link": ("_link",),
    "get_link": (),
    "get_link_if_persist": (),
    "remove_link": ("_link", "_remove"),
    "remove_link_with_id": ("_link", "_remove"),
    "get_link_service": (),
    "set_state": ("_state",),
    "get_state": ("_state",),
    "remove_state": ("_state",),
    "allocate_pod": ("_state",),
    "compute_link_if_absent": ("_link", "_state"),
    "sweep_users": (),
}
NAMES: Final = tuple(_PARTS)


class Script(msgspec.Struct, frozen=True):
    """A script's whole text, and its SHA1, by which it is called. keys: how many of its arguments are keys."""

    name: str
    text: str
    sha: str
    keys: int


@cache
def script(name: str) -> Script:
    """Return a script by the name of its file."""
    folder = files(__package__) / "scripts"
    texts = [(folder / f"{part}.lua").read_text("utf-8") for part in (*_PARTS[name], name)]
    return make_script(name, "\n".join(texts))


def make_script(name: str, text: str) -> Script:
    """Return a script of any text."""
    keys = max(number for number in (1, 2) if f"KEYS[{number}]" in text)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), keys)
