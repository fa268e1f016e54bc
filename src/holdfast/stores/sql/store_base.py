"""What all parts of the SQL store stand on: one transaction for a script, and what follows from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.chance import SystemDraw
from holdfast.clock import Clock, SystemClock
from holdfast.errors import StoreClosed
from holdfast.stores.sql.figures import merge
from holdfast.stores.sql.script import Step
from holdfast.stores.sql.slice import Need, carry_out
from holdfast.stores.wakeups import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.draw import Draw
    from holdfast.stores.sql.script import Driver, Script
    from holdfast.stores.sql.wake import Watch

T = TypeVar("T")

#: Minutes between two looks at the figures by a process in which nothing ends.
_IDLE_MINUTES: Final = 10


class SqlBase:
    """The one step: run a script in a transaction, then tell those who wait."""

    def __init__(self, driver: Driver, watch: Watch, *, clock: Clock | None = None, draw: Draw | None = None) -> None:
        """`clock` dates new ids; what is stored is dated by the driver's database."""
        self._driver = driver
        self._db = driver.db
        self._hot = driver.db.hot
        self._watch = watch
        self._due: float | None = None  # when the next job becomes ready, as the last claim knew it
        self._clock: Clock = clock or SystemClock()
        self._draw: Draw = draw or SystemDraw(self._clock)
        self._open = False
        self._tended = 0  # in which minute since the epoch figures were merged last
        self._work = Signal()  # work may be ready
        self._ends = Signal()  # jobs have ended
        self._cancel_calls: set[Callable[[], None]] = set()
        self._schedule_calls: set[Callable[[], None]] = set()

    @property
    def count_exact(self) -> int:
        """Up to how many jobs a count is exact, or looks for what no index knows."""
        return self._db.count_exact

    @count_exact.setter
    def count_exact(self, jobs: int) -> None:
        self._db.count_exact = jobs

    def now(self) -> float:
        """The store's clock as this process knows it, in seconds since the epoch."""
        return self._driver.now()

    def _check_open(self) -> None:
        if not self._open:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")

    async def _write(self, make: Callable[[Step], Script[T]], *, repeats: bool = False) -> T:
        """Run a script that writes; then tell those who wait in this process. Others learn of it from the database.

        `repeats`: doing it twice is the same as once, so that an unknown outcome is resolved by doing it again.
        """
        self._check_open()
        steps: list[Step] = []

        def script() -> Script[T]:
            for before in steps:
                before.take_back()
            step = Step(self._db, self._draw)
            steps[:] = [step]
            answer = yield from make(step)
            if step.news:
                yield from self._db.announce(step)
            return answer

        try:
            answer = await self._driver.run(script, repeats=repeats)
        except Exception:
            for step in steps:
                step.take_back()
            raise
        except asyncio.CancelledError:
            # It may be stored all the same: let those who wait look.
            self._work.notify()
            self._ends.notify()
            raise
        self._tell(steps[0])
        return answer

    async def _tend_figures(self) -> None:
        """Merge the figures of minutes that are over: once a minute where jobs end, else rarely."""
        minute, idle = int(self.now() // 60), not self._db.rollup.used
        if minute - self._tended < (_IDLE_MINUTES if idle else 1):
            return
        self._tended, self._db.rollup.used = minute, False
        while await self._write(merge):
            pass

    async def _read(self, make: Callable[[Step], Script[T]]) -> T:
        """Run a script that only reads; it sees everything that was acknowledged before."""
        self._check_open()
        return await self._driver.run(lambda: make(Step(self._db, self._draw)), write=False)

    async def _command(self, command: object, need: Need) -> Any:
        """Do a command by the ledger's rules on what it needs; return its answer."""

        def script(step: Step) -> Script[Any]:
            return (yield from carry_out(step, command, need))[1]

        return await self._write(script)

    def _tell(self, step: Step) -> None:
        if step.ready:
            self._work.notify()
        if step.ended:
            self._ends.notify()
        if step.cancel_asked:
            for call in tuple(self._cancel_calls):
                call()
        if step.schedules:
            for call in tuple(self._schedule_calls):
                call()
