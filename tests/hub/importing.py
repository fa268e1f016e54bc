"""`holdfast import` without a command line: its module is named by a word of the language."""

import importlib
import io
from typing import Any

from holdfast.store import Store

command: Any = importlib.import_module("holdfast.cli.commands.import")


async def into(store: Store, lines: list[bytes]) -> Any:
    """Import lines into an open store, as the command does; return its counts."""
    spool = io.BytesIO(b"".join(lines))
    end = command._checked(spool)
    spool.seek(0)
    return await command._Importing(store, end, "ann").run(spool)
