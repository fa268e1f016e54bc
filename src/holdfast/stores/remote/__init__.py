"""A store that another process owns, reached over its HTTP API: on another machine, or the node of a data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.clock import SystemClock
from holdfast.stores.remote.http import HttpClient, read_address
from holdfast.stores.remote.store import RemoteStore

if TYPE_CHECKING:
    from holdfast.clock import Clock

__all__ = ["RemoteStore", "open_remote"]


def open_remote(url: str, *, clock: Clock | None = None, token: str = "") -> RemoteStore:
    """Return the store behind `http://host:7420`, `https://…` or `unix:/path/to/node.sock`, not opened yet.

    token: what changes over TCP need; a node writes it into the file `token` of its data folder.
    """
    return RemoteStore(HttpClient(read_address(url), token), clock=clock or SystemClock())
