"""`holdfast import` without a command line."""

import io
from collections.abc import Callable
from typing import Any

from holdfast.cli.importing import Importing, checked
from holdfast.store import Store


async def into(store: Store, lines: list[bytes], done: Callable[[int], None] = lambda _lines: None) -> Any:
    """Import lines into an open store, as the command does; return its counts."""
    spool = io.BytesIO(b"".join(lines))
    end = checked(spool)
    spool.seek(0)
    return await Importing(store, end, "ann").run(spool, done)
