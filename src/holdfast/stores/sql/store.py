"""The Store port on a SQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.store import Capabilities
from holdfast.stores.sql.migrate import as_text, behind, check, migrate, restored
from holdfast.stores.sql.store_control import ControlCalls
from holdfast.stores.sql.store_feed import FeedCalls
from holdfast.stores.sql.store_hot import HotCalls
from holdfast.stores.sql.store_reads import ReadCalls
from holdfast.stores.sql.store_wait import WaitCalls
from holdfast.stores.sql.within import TransactionCalls, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.stores.sql.script import Driver, Script, Step
    from holdfast.stores.sql.wake import Watch

T = TypeVar("T")


class SqlStore(HotCalls, WaitCalls, ControlCalls, ReadCalls, FeedCalls, TransactionCalls):
    """Jobs in a database, for any number of processes."""

    def __init__(
        self, driver: Driver, *, capabilities: Capabilities, watch: Watch, auto_migrate: bool = False, **parts: Any
    ) -> None:
        """`driver` is not open yet. auto_migrate: bring the schema up to date at open, instead of refusing an old one."""
        super().__init__(driver, watch, **parts)
        self.capabilities = capabilities
        self._auto_migrate = auto_migrate

    async def open(self) -> None:
        """Connect, and check the schema."""
        if self._open:
            return
        await self._driver.open()
        self._open = True
        try:
            if self._auto_migrate and await self._read(behind):
                await self._write(migrate)
            await self._read(check)
            self.database_id = await self._read(identity)
            await self._watch.start(self._work, self._ends, self._cancel_calls)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let everything go."""
        self._open = False
        await self._watch.stop()
        await self._driver.close()

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; return the steps that were taken. A store that is not open is so for the moment."""
        return await self._write_once(migrate)

    async def restored(self) -> int:
        """Say that the database was restored from a backup: no token that was given since is given again. Return the epoch.

        To be called while no process works on it.
        """
        return await self._write_once(restored)

    async def _write_once(self, make: Callable[[Step], Script[T]]) -> T:
        if self._open:
            return await self._write(make)
        await self._driver.open()
        self._open = True
        try:
            return await self._write(make)
        finally:
            await self.close()

    def schema_text(self) -> str:
        """The statements that make the schema, for somebody else to run."""
        return as_text(self._db)
