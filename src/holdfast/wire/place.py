"""Where a node can be found: its socket and its token, in the data folder.

The path of a socket holds about 100 bytes. A longer one is reached through an open handle of its folder, which the system
shows under a short name.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET: Final = "node.sock"
TOKEN: Final = "token"  # the name of the file
_PATH_MAX: Final = 100


@contextmanager
def short_name(path: str | Path) -> Iterator[str]:
    """While in the block, `path` under a name that fits into the address of a socket."""
    text = os.fspath(path)
    if len(os.fsencode(text)) <= _PATH_MAX:
        yield text
        return
    folder = os.open(Path(text).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{Path(text).name}"
    finally:
        os.close(folder)


def answers(path: str | Path) -> bool:
    """Whether somebody listens at the socket `path`. A file that a killed process left behind does not answer."""
    if not Path(path).exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, short_name(path) as name:
        probe.settimeout(2.0)
        try:
            probe.connect(name)
        except OSError:
            return False
    return True


def find_node(data: str | Path) -> Path | None:
    """Return the socket of the node that runs on the data folder, or None."""
    path = Path(data) / SOCKET
    return path if answers(path) else None
