"""The work itself: compress and hash real files of Python's own standard library. Knows nothing of Holdfast."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import sysconfig
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.compress(data, 9),
    "bz2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
}
EXPAND: Mapping[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
}


def choose_files(count: int) -> list[Path]:
    """Return the `count` largest modules of the standard library, largest first."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found = [path for path in library.rglob("*.py") if "site-packages" not in path.parts and path.stat().st_size > 0]
    return sorted(found, key=lambda path: (-path.stat().st_size, path))[:count]


def pack(source: Path, folder: Path, method: str) -> str:
    """Compress `source` into `folder`; return the SHA-256 of what was written.

    The output appears in one step (written aside, then renamed), so that a run which was cut short leaves nothing half
    done and a second run does the same again: this is what makes the handler safe to repeat.
    """
    packed = COMPRESS[method](source.read_bytes())
    target = output_of(source, folder, method)
    aside = target.with_name(target.name + ".part")
    aside.write_bytes(packed)
    aside.replace(target)
    return hashlib.sha256(packed).hexdigest()


def output_of(source: Path, folder: Path, method: str) -> Path:
    """Where the packed form of `source` goes."""
    flat = "-".join(source.parts[-3:])
    return folder / f"{flat}.{method}"


def check(source: Path, folder: Path, method: str, digest: str) -> str:
    """Compare an output with its source byte for byte; return what is wrong with it, or nothing."""
    target = output_of(source, folder, method)
    if not target.exists():
        return f"{target.name} is missing"
    packed = target.read_bytes()
    if hashlib.sha256(packed).hexdigest() != digest:
        return f"{target.name} is not what its job reported"
    if EXPAND[method](packed) != source.read_bytes():
        return f"{target.name} does not expand to {source}"
    return ""
