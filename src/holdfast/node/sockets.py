"""Addresses that a node listens at: bound before anything is served, so that a fault is told before work begins."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.errors import ConfigError
from holdfast.node.errors import CannotListen, PortInUse, UnsafeBind
from holdfast.wire.place import SOCKET, TOKEN, answers, short_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.hub.tokens import TokenFile

_BACKLOG: Final = 512
TOKEN_MIN: Final = 20
TOKEN_SIGNS_MIN: Final = 8


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_weak(api_token: str | None) -> None:
    """Raise ConfigError for a token that can be guessed."""
    if api_token is not None and (len(api_token) < TOKEN_MIN or len(set(api_token)) < TOKEN_SIGNS_MIN):
        raise ConfigError(
            f"api_token: expected a secret of {TOKEN_MIN} characters or more, {TOKEN_SIGNS_MIN} of them different, found "
            "one that can be guessed. To make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )


def refuse_unsafe(host: str, api_token: str | None, keys: TokenFile | None = None) -> None:
    """Raise UnsafeBind for an address that others reach, unless a token guards it: `api_token`, or one of `keys`."""
    if is_loopback(host):
        return
    if len(api_token or "") < TOKEN_MIN and not (keys is not None and keys.all()):
        raise UnsafeBind(host)


def bind_tcp(host: str, port: int, setting: str) -> socket.socket:
    """Return a bound TCP socket; port 0 picks a free one. Raises PortInUse, which names `setting`, and CannotListen."""
    name = host.strip("[]")
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise CannotListen(
            f"host {host!r}: expected an address of this machine, found {error}. Use 127.0.0.1."
        ) from error
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port, setting) from None
        raise CannotListen(
            f"{host}:{port}: expected to listen there, but the system refused ({error.strerror}). Choose another."
        ) from error
    bound.setblocking(False)
    return bound


def prepare_folder(data: Path) -> None:
    """Make the data folder, for its owner alone. Raises ConfigError when it can not be one."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"data folder {data}: expected a folder of your own, but the system refused ({error.strerror}). "
            "Choose another with --data."
        ) from error


def bind_unix(data: Path) -> socket.socket:
    """Return the socket of the data folder, bound, for its owner alone. A file left by a killed node is replaced.

    Called only while the store of the folder is held, so that no living node's socket can be taken away.
    """
    path = data / SOCKET
    if answers(path):
        raise CannotListen(
            f"{path}: expected no other node, found one that answers. Stop it, or choose another --data."
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Made under another name with its rights set, and renamed: at no moment can others open it.
    fresh = data / f".{SOCKET}.{os.getpid()}"
    try:
        fresh.unlink(missing_ok=True)
        with short_name(fresh) as name:
            bound.bind(name)
        fresh.chmod(0o600)
        bound.listen(_BACKLOG)
        fresh.rename(path)
    except OSError as error:
        bound.close()
        fresh.unlink(missing_ok=True)
        raise CannotListen(f"{path}: expected to listen there, but the system refused ({error}).") from error
    bound.setblocking(False)
    # A forked child that held it would answer nobody, and yet look like a node for as long as it lives.
    os.register_at_fork(after_in_child=partial(_close, weakref.ref(bound)))
    return bound


def _close(reference: Callable[[], socket.socket | None]) -> None:
    bound = reference()
    if bound is not None:
        bound.close()


def write_token(data: Path) -> str:
    """Make a new token and write it beside the socket, for the owner alone; return it."""
    token = secrets.token_urlsafe(32)
    fresh = data / f".{TOKEN}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(token + "\n")
    fresh.rename(data / TOKEN)
    return token


def forget(data: Path) -> None:
    """Remove socket and token: nobody listens any more."""
    for name in (SOCKET, TOKEN):
        (data / name).unlink(missing_ok=True)
