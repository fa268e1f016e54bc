"""The process that makes a snapshot: `python -m holdfast.stores.journal.fold_main FOLDER NUMBER BASE`.

It reads files and writes one, takes no lock, and may be killed at any time. BASE is the snapshot to start from: 0 for none,
-1 to look for it. On success the last line of its output is a `Folded` as JSON and its exit code is 0; else the reason
stands on its standard error: exit code 75 if it may be tried again (no room), 1 if not.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec

from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.stores.journal.folding import fold_snapshot
from holdfast.wal import OsFiles

TRY_AGAIN: Final = 75
_NICE: Final = 10


def main(arguments: list[str]) -> int:
    """Fold; return the exit code."""
    folder, number, base = arguments[0], int(arguments[1]), int(arguments[2])
    os.nice(_NICE)  # the process that serves goes first
    try:
        folded = fold_snapshot(OsFiles(folder), number, None if base < 0 else base)
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        return TRY_AGAIN if isinstance(error, StoreUnavailable) else 1
    sys.stdout.write(msgspec.json.encode(folded).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
