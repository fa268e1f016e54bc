"""A disk that remembers what was synced and can lose power: the `Files` of the log, in memory, for tests.

A file has what the processes see (`seen`) and what survives a power cut for sure (`durable`); between them lie the
changes since its last sync. After a cut each 512-byte or 4-KiB unit of the file is as it was at some moment between the two,
independently of its neighbours; so are size and, as an ordered list of changes each of which may be lost, the names in
a folder. A rename is one change: the old or the new name, never neither. Allocated room reads as zeros.

A sync that fails is the worst the system can do: what was waiting is gone from the disk, yet still seen.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from holdfast.wal.files import Files


class Killed(BaseException):
    """The process that made this call is no more."""


class Node:
    """One file, whatever it is called."""

    def __init__(self, content: bytes = b"") -> None:
        self.seen = bytearray(content)
        self.durable = bytes(content)
        self.changes: list[tuple[int, bytes]] = []  # (offset, data); offset -1: size becomes int(data)
        self.locked = False

    def write(self, offset: int, data: bytes) -> None:
        self.changes.append((offset, data))
        _apply(self.seen, offset, data)

    def resize(self, size: int) -> None:
        self.changes.append((-1, str(size).encode()))
        _apply(self.seen, -1, str(size).encode())

    def sync(self) -> None:
        if self.changes:
            content = bytearray(self.durable)
            for offset, data in self.changes:
                _apply(content, offset, data)
            self.durable = bytes(content)
            self.changes = []

    def lose(self) -> None:
        """What a failed sync leaves: nothing reached the disk, and nobody will try again."""
        self.changes = []


def _apply(content: bytearray, offset: int, data: bytes) -> None:
    if offset < 0:
        size = int(data)
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class SimDisk:
    """`Files` in memory. `before` and `after` are called around each call that changes something or reads: `before` may raise
    OSError to make the call fail. `trace` holds (call, name) of each call, with "!" behind calls that failed."""

    def __init__(self, content: dict[str, bytes] | None = None, *, room: int = 1 << 40) -> None:
        self.names: dict[str, Node] = {name: Node(data) for name, data in (content or {}).items()}
        self.durable_names = dict(self.names)
        self.name_changes: list[tuple[str, str, Node]] = []  # (old name or "", new name or "", file)
        self.room = room
        self.before: Callable[[str, str], None] | None = None
        self.after: Callable[[str, str], None] | None = None
        self.trace: list[tuple[str, str]] = []
        self.count = 0
        self.short_write = 0  # bytes that the next writes take at most; 0: all
        self._open: dict[int, tuple[Node, str]] = {}
        self._next = 100

    path = "/disk"

    # ------------------------------------------------------------------------------------------------------ the calls

    def _begin(self, call: str, name: str) -> None:
        self.count += 1
        self.trace.append((call, name))
        if self.before is not None:
            try:
                self.before(call, name)
            except OSError:
                self.trace[-1] = (call + "!", name)
                if call == "sync":
                    next(node for node, known in self._open.values() if known == name).lose()
                raise

    def _end(self, call: str, name: str) -> None:
        if self.after is not None:
            self.after(call, name)

    def make_folder(self, name: str = "") -> None:
        """Folders are always there."""

    def list(self, name: str = "") -> list[str]:
        prefix = f"{name}/" if name else ""
        inside = (known[len(prefix) :] for known in self.names if known.startswith(prefix))
        return sorted({known.split("/")[0] for known in inside})

    def create(self, name: str) -> int:
        self._begin("create", name)
        if name in self.names:
            raise FileExistsError(errno.EEXIST, "exists", name)
        node = Node()
        self.names[name] = node
        self.name_changes.append(("", name, node))
        self._end("create", name)
        return self._handle(node, name)

    def _handle(self, node: Node, name: str) -> int:
        self._next += 1
        self._open[self._next] = (node, name)
        return self._next

    def open(self, name: str, *, write: bool = False) -> int:
        self._begin("open", name)
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self._handle(self.names[name], name)

    def close(self, handle: int) -> None:
        node, name = self._open.pop(handle)
        node.locked = False
        self._begin("close", name)

    def size(self, handle: int) -> int:
        return len(self._open[handle][0].seen)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        node, name = self._open[handle]
        self._begin("read", name)
        return bytes(node.seen[offset : offset + size])

    def write(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        node, name = self._open[handle]
        self._begin("write", name)
        taken = bytes(data)
        if self.short_write:
            taken = taken[: self.short_write]
        grown = max(0, offset + len(taken) - len(node.seen))
        if grown > self.free():
            taken = taken[: len(taken) - grown + self.free()]
            if not taken:
                raise OSError(errno.ENOSPC, "no room", name)
        node.write(offset, taken)
        self._end("write", name)
        return len(taken)

    def sync(self, handle: int) -> None:
        node, name = self._open[handle]
        self._begin("sync", name)
        node.sync()
        self._end("sync", name)

    def truncate(self, handle: int, size: int) -> None:
        node, name = self._open[handle]
        self._begin("truncate", name)
        node.resize(size)
        self._end("truncate", name)

    def allocate(self, handle: int, size: int) -> None:
        node, name = self._open[handle]
        self._begin("allocate", name)
        if size - len(node.seen) > self.free():
            raise OSError(errno.ENOSPC, "no room", name)
        if size > len(node.seen):
            node.resize(size)
        self._end("allocate", name)

    def rename(self, name: str, target: str) -> None:
        self._begin("rename", target)
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        node = self.names.pop(name)
        self.names[target] = node
        self._open = {handle: (n, target if n is node else known) for handle, (n, known) in self._open.items()}
        self.name_changes.append((name, target, node))
        self._end("rename", target)

    def link(self, name: str, target: str, into: Files | None = None) -> bool:
        self._begin("link", target)
        if into is not None and into is not self:
            return False
        self.names[target] = self.names[name]
        self.name_changes.append(("", target, self.names[name]))
        self._end("link", target)
        return True

    def unlink(self, name: str) -> None:
        self._begin("unlink", name)
        if name not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        self.name_changes.append((name, "", self.names.pop(name)))
        self._end("unlink", name)

    def sync_folder(self, name: str = "") -> None:
        self._begin("sync_folder", name)
        waiting = []
        for change in self.name_changes:
            if name in {_folder(change[0]) if change[0] else name, _folder(change[1]) if change[1] else name}:
                _rename(self.durable_names, change)
            else:
                waiting.append(change)
        self.name_changes = waiting
        self._end("sync_folder", name)

    def free(self) -> int:
        return self.room - sum(len(node.seen) for node in {id(node): node for node in self.names.values()}.values())

    def lock(self, handle: int) -> bool:
        node = self._open[handle][0]
        if node.locked:
            return False
        node.locked = True
        return True

    def same(self, handle: int, name: str) -> bool:
        return self.names.get(name) is self._open[handle][0]

    def kind(self) -> str:
        return "ext4"

    # ------------------------------------------------------------------------------------------------- what may be left

    def die_after(self, calls: int) -> None:
        """Kill the process at one of its next calls: that call, and all later ones, raise Killed. See `revive`."""
        last = self.count + calls

        def die(call: str, name: str) -> None:
            if self.count >= last:
                raise Killed

        self.before = die

    def revive(self) -> None:
        """The process is gone, with its descriptors and locks; what it wrote is still seen."""
        self.before = None
        self._open.clear()
        for node in self.names.values():
            node.locked = False

    def fail_after(self, calls: int, error: int, only: str = "", *, forever: bool = False) -> None:
        """Make one of the next calls (of the kind `only`, if given) fail with an errno; `forever`: and all after it."""
        left = calls

        def fail(call: str, name: str) -> None:
            nonlocal left
            if only in ("", call):
                left -= 1
                if left == 0 or (left < 0 and forever):
                    raise OSError(error, os.strerror(error), name)

        self.before = fail

    def killed(self) -> SimDisk:
        """The disk as the next process finds it when this one was killed: all that was seen."""
        return SimDisk({name: bytes(node.seen) for name, node in self.names.items()}, room=self.room)

    @property
    def calm(self) -> bool:
        """Whether all that is seen would survive a cut."""
        return not self.name_changes and not any(node.changes for node in self.names.values())

    def cut(self, draw: random.Random) -> SimDisk:
        """The disk as it may be after a loss of power at this moment."""
        names = dict(self.durable_names)
        for change in _chosen(self.name_changes, draw):
            _rename(names, change)
        style = draw.choice(("none", "all", "torn", "units", "units", "units", "pages"))
        contents: dict[int, bytes] = {}
        for node in names.values():
            if id(node) not in contents:
                contents[id(node)] = _content(node, style, draw)
        return SimDisk({name: contents[id(node)] for name, node in names.items()}, room=self.room)

    def contents(self) -> dict[str, bytes]:
        """What is seen, by name."""
        return {name: bytes(node.seen) for name, node in self.names.items()}


def _folder(name: str) -> str:
    return os.path.dirname(name)


def _rename(names: dict[str, Node], change: tuple[str, str, Node]) -> None:
    old, new, node = change
    if old and names.get(old) is node:
        del names[old]
    if new:
        names[new] = node


def _chosen(changes: list[tuple[str, str, Node]], draw: random.Random) -> list[tuple[str, str, Node]]:
    style = draw.randrange(4)
    if style == 0:
        return []
    if style == 1:
        return changes
    if style == 2:
        return changes[: draw.randrange(len(changes) + 1)]
    return [change for change in changes if draw.random() < 0.5]


def _content(node: Node, style: str, draw: random.Random) -> bytes:
    if not node.changes or style == "none":
        return node.durable
    if style == "all":
        return bytes(node.seen)
    content = bytearray(node.durable)
    if style == "torn":
        for offset, data in node.changes[: draw.randrange(len(node.changes) + 1)]:
            _apply(content, offset, data)
        offset, data = node.changes[draw.randrange(len(node.changes))]
        if offset >= 0:
            _apply(content, offset, data[: draw.randrange(len(data) + 1)])
        return bytes(content)
    return _mixed(node, 4096 if style == "pages" else 512, draw)


def _mixed(node: Node, unit: int, draw: random.Random) -> bytes:
    """Each unit, and the size, as of a moment of its own."""
    often = draw.choice((0.1, 0.5, 0.9))
    kept: dict[int, bool] = {}
    content = bytearray(node.durable)
    size = len(content)
    for offset, data in node.changes:
        if offset < 0:
            if draw.random() < often:
                size = int(data)
            continue
        for at in range(offset - offset % unit, offset + len(data), unit):
            # Once a unit has stopped following, it stays as it was: units are written whole.
            if kept.get(at, True):
                kept[at] = draw.random() < often
            if kept[at]:
                start, stop = max(at, offset), min(at + unit, offset + len(data))
                _apply(content, start, data[start - offset : stop - offset])
                size = max(size, stop)
    del content[size:]
    content.extend(bytes(size - len(content)))
    return bytes(content)
