"""LISTEN and NOTIFY: how a process learns at once what others did on PostgreSQL.

Listening has a connection of its own, which is made when somebody first waits, and made again whenever it was lost. It is
asked for an answer every few seconds: a socket whose other end vanished without a word is noticed in less than 15 s, and
then no connection that still waits is trusted. What may have come while nobody listened counts as news.

Notifications are sent after the commit, by the first step at once and by those that follow closely with one that speaks for
all: a NOTIFY inside each transaction would make all commits of the server wait for each other. Should the process die in
between, the workers' own look behind it finds the work. Of many idle processes only as many go as there is work: herd.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import HoldfastError
from holdfast.stores.sql.dialects.postgresql import news_from
from holdfast.stores.sql.drivers.pool import end
from holdfast.stores.sql.herd import Herd
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.stores.sql.drivers.asyncpg import AsyncpgDriver
    from holdfast.stores.sql.script import Row, Step
    from holdfast.stores.wakeups import Signal

logger = logging.getLogger("holdfast.stores.postgresql")

_MARKS: Final = 10**15
_AGAIN_FIRST: Final = 0.1
_AGAIN_MAX: Final = 2.0
#: Seconds between two notifications of a process: short after a pause, longer while they keep coming.
_GAP_FIRST: Final = 0.005
_GAP_MAX: Final = 0.04


class Listener:
    """A `Watch` by LISTEN. Bound to the loop that first waits."""

    def __init__(self, driver: AsyncpgDriver, channel: str) -> None:
        self._driver, self.channel = driver, channel
        #: Goes before what this process sends: it has told its own waiters, and need not ask the database once more.
        self.mark = str(random.randrange(_MARKS))
        self._work: Signal | None = None
        self._ends: Signal | None = None
        self._cancel_calls: set[Callable[[], None]] = set()
        self.schedule_calls: set[Callable[[], None]] = set()  # when others have changed a schedule or a task
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._lost = asyncio.Event()
        self._asking = asyncio.Lock()
        self.herd = Herd(self._wake, time.monotonic)
        self._told = False  # that nothing is heard through a pooler
        self._asked = 0.0  # when it last answered, by the loop's time

    # --- Watch -----------------------------------------------------------------------------------------------------

    async def start(self, work: Signal, ends: Signal, cancel_calls: set[Callable[[], None]]) -> None:
        """Begin: from the first `wait` on, news are told to these."""
        self._work, self._ends, self._cancel_calls = work, ends, cancel_calls

    async def stop(self) -> None:
        """End, and let the connection go."""
        task, self._task = self._task, None
        self._work = self._ends = None
        self.herd.stop()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def wait(self, signal: Signal, seen: int, timeout: float) -> bool:
        """Wait for `signal`, and listen meanwhile."""
        if self._task is None and self._work is not None and self._may_listen():
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="holdfast-listen")
        return await signal.wait(seen, timeout)

    def _may_listen(self) -> bool:
        """Whether LISTEN has a way of its own: a pooler that lends connections for a transaction would lose it."""
        driver = self._driver
        if not driver.pooled or driver.options.listen_url:
            return True
        if not self._told:
            self._told = True
            logger.warning(
                "%s is a pooler: new work is found by looking for it, every few seconds. Give listen_url= with a URL of the "
                "server itself to be told at once.",
                driver.where,
            )
        return False

    # --- for the store ---------------------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether news come at once."""
        return self._connection is not None

    async def ask(self, statement: Statement) -> Sequence[Row] | None:
        """Put a question through the listening connection, which proves that it lives; None when there is none."""
        connection = self._connection
        if connection is None:
            return None
        loop = asyncio.get_running_loop()
        async with self._asking:
            # Not a time-out on the call: that would try to cancel the query, over the same broken way.
            watch = loop.call_later(self._driver.options.probe_limit, self._give_up, connection)
            try:
                rows: Sequence[Row] = await connection.fetch(statement.sql, *statement.args)
            except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is made
                connection.terminate()
                self._lost.set()
                return None
            finally:
                watch.cancel()
        self._asked = loop.time()
        return rows

    # --- listening -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        wait, failures = _AGAIN_FIRST, 0
        while True:
            try:
                connection = await self._driver.connect_listening()
            except Exception as error:  # noqa: BLE001 - the server is away; the workers' own look goes on meanwhile
                failures += 1
                if failures == 1:
                    logger.warning("can not listen on %s, trying on: %s", self._driver.where, error)
                await asyncio.sleep(wait)
                wait = min(_AGAIN_MAX, wait * 2)
                continue
            if failures:
                logger.warning("listening on %s again", self._driver.where)
            wait, failures = _AGAIN_FIRST, 1  # a loss after this is worth one more line when it heals
            try:
                await self._stay(connection)
            finally:
                self._connection = None
                await _let_go(connection)

    async def _stay(self, connection: Any) -> None:
        """Listen on a connection until it is lost."""
        lost = self._lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(self.channel, self._heard)
        except Exception as error:  # noqa: BLE001 - lost between connecting and listening
            logger.warning("can not listen on %s, trying on: %s", self._driver.where, error)
            return
        loop = asyncio.get_running_loop()
        self._connection, self._asked = connection, loop.time()
        self._tell_all()
        every = self._driver.options.probe_every
        while not lost.is_set():
            quiet = self._asked + every - loop.time()
            try:
                async with asyncio.timeout(max(0.0, quiet)):
                    await lost.wait()
            except TimeoutError:
                if self._asked + every <= loop.time():
                    await self.ask(Statement("SELECT 1"))
        logger.warning("lost the connection that listens on %s", self._driver.where)

    def _give_up(self, connection: Any) -> None:
        """It does not answer: neither will others on the same way."""
        connection.terminate()
        self._driver.suspect()

    # --- news ------------------------------------------------------------------------------------------------------

    def _heard(self, _connection: object, _pid: int, _channel: str, news: object) -> None:
        text = str(news)
        body = text.lstrip("0123456789")
        if text.removesuffix(body) == self.mark:
            return
        signs, done, new = news_from(body)
        self.herd.called_off(done)
        if new is not None:
            self.herd.heard(new)
        if "e" in signs and self._ends is not None:
            self._ends.notify()
        calls = (self._cancel_calls if "c" in signs else set()) | (self.schedule_calls if "s" in signs else set())
        for call in calls:
            call()

    def _wake(self) -> None:
        if self._work is not None:
            self._work.notify()

    def _tell_all(self) -> None:
        """Anything may have come while nobody listened."""
        self._heard(None, 0, "", "ecsr0,,")


class Announcer:
    """Sends notifications after the commit: the first at once, those that follow closely together."""

    def __init__(self, send: Callable[[Step], Any], fresh: Callable[[], Step]) -> None:
        """send: a coroutine function that notifies of a step; fresh: a step without news, to gather in."""
        self._send, self._fresh = send, fresh
        self._pending: Step | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def tell(self, step: Step) -> None:
        """Tell other processes what a step did, soon."""
        pending = self._pending
        if pending is None:
            pending = self._pending = self._fresh()
        if step.ready:  # a number counts only as long as all are known
            known = bool(step.jobs) and (bool(pending.jobs) or not pending.ready)
            pending.jobs = pending.jobs + step.jobs if known else 0
        pending.ready |= step.ready
        pending.done += step.done
        pending.ended |= step.ended
        pending.cancel_asked |= step.cancel_asked
        pending.schedules |= step.schedules
        self._start()

    def came(self, queue: str) -> None:
        """Tell other processes that a job came into a queue, soon."""
        pending = self._pending
        if pending is None:
            pending = self._pending = self._fresh()
        pending.jobs = pending.jobs + 1 if pending.jobs or not pending.ready else 0
        pending.ready.add(queue)
        self._start()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="holdfast-notify")

    async def close(self) -> None:
        """Send what is pending, at once, and end."""
        task = self._task
        if task is not None:
            self._closing.set()
            await asyncio.wait([task])
            self._closing.clear()

    async def _run(self) -> None:
        gap = _GAP_FIRST
        try:
            while (step := self._pending) is not None:
                self._pending = None
                try:
                    await self._send(step)
                except HoldfastError as error:
                    logger.info("a notification was not sent, others look by themselves: %s", error)
                await self._pause(gap)
                gap = min(_GAP_MAX, gap * 2)
        finally:
            self._task = None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


async def _let_go(connection: Any) -> None:
    """Close it, also when we are cancelled meanwhile."""
    if connection.is_closed():
        return
    try:
        async with asyncio.timeout(1.0):
            await end(connection)
    except BaseException:
        connection.terminate()
        raise
