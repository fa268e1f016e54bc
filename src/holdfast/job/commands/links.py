"""Keys and their owners, as the store fences them: a router chooses which worker process owns a key, `bind` makes it true."""

from __future__ import annotations

import msgspec


class KeyLink(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who owns a key of a service: the worker process `instance`, which is `pod` of the service, under `epoch`.

    pod None: nobody; `instance` is then the last owner, and empty if there never was one. The epoch of a key only grows.
    """

    service: str
    key: str
    pod: int | None = None
    instance: str = ""
    epoch: int = 0


class Bind(msgspec.Struct, frozen=True):
    """Give keys to processes, or take them away (pod None). Each stands alone."""

    links: tuple[KeyLink, ...]


class BoundKey(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The answer for one key: whether it was accepted, the link that holds now, and why it was refused."""

    accepted: bool
    link: KeyLink
    why: str = ""


class LinkFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which links to read, by service and key: up to `limit` that come after (service, key) `after`."""

    service: str | None = None
    key: str | None = None
    instance: str | None = None
    after: tuple[str, str] | None = None
    limit: int = 1_000
