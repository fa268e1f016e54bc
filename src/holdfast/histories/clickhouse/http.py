"""A ClickHouse server, over HTTP, by the driver clickhouse-connect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import ConfigError, StoreError, StoreUnavailable
from holdfast.histories.clickhouse.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT: Final = "JSONCompactEachRow"
_CODE: Final = re.compile(r"[Cc]ode:? (\d+)")
#: What a server says that will be better later: time-outs, too many queries, parts or connections, no memory, no room, a
#: table or server that is read-only or goes down, a keeper that is away.
_LATER: Final = frozenset({3, 159, 160, 164, 173, 202, 203, 209, 210, 236, 241, 242, 243, 252, 285, 319, 425, 439, 999})
#: Who asks is not known, or may not.
_DENIED: Final = frozenset({192, 193, 194, 497, 516})


class HttpClient(Client):
    """The Client over HTTP. A connection that broke is made anew by the next call."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        database: str,
        username: str = "default",
        password: str = "",
        secure: bool = False,
        timeout: float = 30.0,
    ) -> None:
        """timeout: seconds for the answer of a query, and for an insert."""
        self._where: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": username,
            "password": password,
            "secure": secure,
        }
        self._database, self._timeout = database, timeout
        self._client: Any = None
        self.shown = f"ClickHouse at {host}:{port}"

    async def open(self) -> None:
        """Ask the server for its version, and make the database if it is missing."""
        if self._client is not None:
            return
        import clickhouse_connect

        try:
            self._client = await clickhouse_connect.get_async_client(
                **self._where,
                send_receive_timeout=self._timeout,
                connect_timeout=10,
                autogenerate_session_id=False,
                query_retries=0,
            )
            await self._client.command(f"CREATE DATABASE IF NOT EXISTS `{self._database}`")
        except Exception as error:
            await self.close()
            raise self._meaning(error) from error
        self._client.database = self._database

    async def close(self) -> None:
        """Let the connections go."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _ask(self, sql: str, params: dict[str, str | int | float]) -> bytes:
        client = await self._ready()
        try:
            answer: bytes = await client.raw_query(sql, parameters=params or None, fmt=_FORMAT if _reads(sql) else None)
        except Exception as error:
            raise self._meaning(error) from error
        return answer

    async def _put(self, table: str, columns: Sequence[str], lines: bytes) -> None:
        client = await self._ready()
        try:
            await client.raw_insert(table, columns, lines, fmt=_FORMAT, compression=None)
        except Exception as error:
            raise self._meaning(error) from error

    async def _ready(self) -> Any:
        if self._client is None:
            raise StoreUnavailable(f"{self.shown} was not reached yet, or the history is closed. It is tried again.")
        return self._client

    def _meaning(self, error: Exception) -> Exception:
        """Return a driver's error as one of ours; what is none of a driver's is returned as it is."""
        from clickhouse_connect.driver import exceptions as its

        said = f"{self.shown}: {str(error)[:2_000]}"
        if isinstance(error, its.Error):
            found = _CODE.search(str(error))
            code = int(found[1]) if found else None
            if code in _DENIED:
                return ConfigError(
                    f"{said} Give user and password in the URL: clickhouse://user:password@host:8123/name."
                )
            if code is None or code in _LATER:
                return StoreUnavailable(f"{said} Nothing is known to be stored; it is tried again.")
            return StoreError(f"{self.shown} refused: {str(error)[:2_000]}")
        if isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("aiohttp"):
            return StoreUnavailable(
                f"{said or type(error).__name__}. Nothing is known to be stored; it is tried again."
            )
        return error


def _reads(sql: str) -> bool:
    return sql.lstrip().upper().startswith(("SELECT", "WITH", "SHOW"))
