"""The only room of the log that touches the operating system.

`Files` is the port: one folder, files named relative to it, opened files known by a handle. Everything that can fail
raises OSError. Tests put a simulated disk behind it that loses power; the real one is `OsFiles`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.wal.errors import LogIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})  # errors that mean "no room", not "broken"
_ZEROS: Final = bytes(1 << 20)
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS})
_SYNC: Final = getattr(os, "fdatasync", os.fsync)
_ALLOCATE: Final = getattr(os, "posix_fallocate", None)


class Files(Protocol):
    """One folder. Names may contain one slash (`quarantine/x`). Handles are small integers."""

    @property
    def path(self) -> str:
        """The folder, for messages."""
        ...

    def make_folder(self, name: str = "") -> None:
        """Make the folder, or one inside it, with mode 0700, if it is not there, and make its name durable."""
        ...

    def list(self, name: str = "") -> list[str]:
        """Sorted names in the folder, or in one inside it; empty if it does not exist."""
        ...

    def create(self, name: str) -> int:
        """Open a new file (mode 0600) for reading and writing; FileExistsError if the name is taken."""
        ...

    def open(self, name: str, *, write: bool = False) -> int:
        """Open an existing file."""
        ...

    def close(self, handle: int) -> None: ...

    def size(self, handle: int) -> int: ...

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return `size` bytes; fewer only at the end of the file."""
        ...

    def write(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        """Write at `offset`; return how many bytes were taken, which may be fewer than given."""
        ...

    def sync(self, handle: int) -> None:
        """Return when all that was written is on stable storage (fdatasync)."""
        ...

    def truncate(self, handle: int, size: int) -> None: ...

    def allocate(self, handle: int, size: int) -> None:
        """Grow the file to `size` bytes of zeros that have their place on the disk."""
        ...

    def rename(self, name: str, target: str) -> None:
        """Give a file another name, replacing what had it."""
        ...

    def link(self, name: str, target: str, into: Files | None = None) -> bool:
        """Give a file a second name, perhaps in another folder; False where that can not be. `target` must be free."""
        ...

    def unlink(self, name: str) -> None: ...

    def sync_folder(self, name: str = "") -> None:
        """Make the names in the folder durable."""
        ...

    def free(self) -> int:
        """Bytes that may still be written."""
        ...

    def lock(self, handle: int) -> bool:
        """Take the exclusive lock of an opened file; False if someone else holds it. Ends with the handle."""
        ...

    def same(self, handle: int, name: str) -> bool:
        """Whether `name` still means the opened file."""
        ...

    def kind(self) -> str:
        """Type of the file system, as the system calls it; "" if unknown."""
        ...


class OsFiles:
    """`Files` over a real folder.

    `sync` and `allocate` are the system's calls; where it lacks them (macOS), fsync and written zeros take their place.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: Callable[[int], None] = _SYNC,
        allocate: Callable[[int, int, int], None] | None = _ALLOCATE,
        link: Callable[..., None] = os.link,
    ) -> None:
        self._path = os.path.abspath(path)
        self.sync = sync  # straight to the system call: it is on the path of every group
        self._allocate, self._link = allocate, link

    @property
    def path(self) -> str:
        return self._path

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name) if name else self._path

    def make_folder(self, name: str = "") -> None:
        path = self._at(name)
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700)
            _sync_path(os.path.dirname(path))

    def list(self, name: str = "") -> list[str]:
        path = self._at(name)
        return sorted(os.listdir(path)) if os.path.isdir(path) else []

    def create(self, name: str) -> int:
        return os.open(self._at(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open(self, name: str, *, write: bool = False) -> int:
        return os.open(self._at(name), (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def read(self, handle: int, size: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (data := os.pread(handle, size, offset)):
            parts.append(data)
            size, offset = size - len(data), offset + len(data)
        return b"".join(parts)

    def write(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(handle, data, offset)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def allocate(self, handle: int, size: int) -> None:
        if self._allocate is not None:
            self._allocate(handle, 0, size)
            return
        at = self.size(handle)
        while at < size:
            at += os.pwrite(handle, _ZEROS[: size - at], at)

    def rename(self, name: str, target: str) -> None:
        os.rename(self._at(name), self._at(target))

    def link(self, name: str, target: str, into: Files | None = None) -> bool:
        try:
            self._link(self._at(name), os.path.join((into or self).path, target), follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        return True

    def unlink(self, name: str) -> None:
        os.unlink(self._at(name))

    def sync_folder(self, name: str = "") -> None:
        _sync_path(self._at(name))

    def free(self) -> int:
        return shutil.disk_usage(self._path).free

    def lock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def same(self, handle: int, name: str) -> bool:
        try:
            there = os.stat(self._at(name), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(handle), there)

    def kind(self) -> str:
        return file_system_of(self._path, text_of("/proc/self/mountinfo"))


def _sync_path(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def text_of(path: str) -> str:
    """What the system says in one of its files; "" where it has no such file."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        return lines.read()


def file_system_of(path: str, mounts: str) -> str:
    """Type of the file system that holds `path`, by a mount table in the form of /proc/self/mountinfo; "" if unknown."""
    path = os.path.realpath(path)
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # a later mount on the same point covers the earlier one
            best, kind = len(point), right.split(" ")[0]
    return kind


def write_all(files: Files, handle: int, data: bytes, offset: int) -> None:
    """Write all of `data`; goes on after a short write."""
    done = files.write(handle, data, offset)
    while done < len(data):
        done += files.write(handle, memoryview(data)[done:], offset + done)


@contextmanager
def opened(files: Files, name: str, *, write: bool = False) -> Iterator[int]:
    """An existing file, open for the length of a `with` block."""
    handle = files.open(name, write=write)
    try:
        yield handle
    finally:
        files.close(handle)


@contextmanager
def created(files: Files, name: str) -> Iterator[int]:
    """A new file, open for the length of a `with` block; removed again if the block fails."""
    handle = files.create(name)
    try:
        try:
            yield handle
        finally:
            files.close(handle)
    except BaseException:
        files.unlink(name)
        raise


def put(files: Files, name: str, data: bytes, temporary: str) -> None:
    """Give `name` the content `data`, durably and in one step: temporary file, sync, rename, folder sync."""
    with created(files, temporary) as handle:
        write_all(files, handle, data, 0)
        files.sync(handle)
    files.rename(temporary, name)
    files.sync_folder()


@contextmanager
def calls(what: str) -> Iterator[None]:
    """Turn the system's errors into ours; `what` says in words what was being done."""
    try:
        yield
    except OSError as error:
        raise LogIO(what, error) from error


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def boot() -> str:
    """Id of this start of the machine: a pid means something only together with it. "" if the system has none."""
    return text_of("/proc/sys/kernel/random/boot_id").strip()
