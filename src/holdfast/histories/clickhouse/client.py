"""What the history asks of a ClickHouse, whichever way it is reached: texts go in, rows come back.

Values go as parameters of the server ({name:Type}), lists as JSON in one parameter; rows go in and come back as JSON lines.
So an adapter carries texts and bytes alone, and the SQL behind both is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

_encode: Final = msgspec.json.Encoder().encode_lines
_decode: Final = msgspec.json.Decoder(list[Any]).decode_lines
#: How a SELECT is answered. Versions of a row never lie in two partitions (see schema/), so each is merged on its own; the
#: index of ids may leave out granules, as all versions of a job have its id.
READING: Final = (
    " SETTINGS do_not_merge_across_partitions_select_final = 1, use_skip_indexes_if_final = 1,"
    " output_format_json_quote_64bit_integers = 0"
)


class Client(ABC):
    """A ClickHouse database. Raises StoreUnavailable when it can be asked again, StoreError when it refused."""

    #: For messages: where it is, without secrets.
    shown = "ClickHouse"

    @abstractmethod
    async def open(self) -> None:
        """Be ready. Raises ConfigError when it is no ClickHouse, or lets us not in."""

    @abstractmethod
    async def close(self) -> None:
        """Let everything go. Calling it twice is fine."""

    @abstractmethod
    async def _ask(self, sql: str, params: dict[str, str | int | float]) -> bytes:
        """Return the answer as JSON lines."""

    @abstractmethod
    async def _put(self, table: str, columns: Sequence[str], lines: bytes) -> None:
        """Insert rows that are JSON lines."""

    async def query(self, sql: str, **params: str | int | float) -> list[list[Any]]:
        """Return the rows of a SELECT."""
        return _decode(await self._ask(sql + READING, params))

    async def execute(self, sql: str, **params: str | int | float) -> None:
        """Do a statement that has no rows."""
        await self._ask(sql, params)

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add rows, in one block if they fit."""
        if rows:
            await self._put(table, columns, _encode(rows))
