"""The Store port on a SQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.store import Capabilities
from holdfast.stores.sql.migrate import check, migrate
from holdfast.stores.sql.store_control import ControlCalls
from holdfast.stores.sql.store_hot import HotCalls
from holdfast.stores.sql.store_reads import ReadCalls
from holdfast.stores.sql.store_wait import WaitCalls

if TYPE_CHECKING:
    from holdfast.stores.sql.script import Driver
    from holdfast.stores.sql.wake import Watch


class SqlStore(HotCalls, WaitCalls, ControlCalls, ReadCalls):
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
            if self._auto_migrate:
                await self._write(migrate)
            else:
                await self._read(check)
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
        """Bring the schema up to date; return the steps that were taken."""
        return await self._write(migrate)
