"""One worker process, from its start to its end: hears its signs of life, beats for it, judges it, passes stops on."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.job.commands import Beat
from holdfast.job.content import safe_str
from holdfast.worker.insist import pause
from holdfast.worker.process.death import in_words
from holdfast.worker.process.frames import BrokenFrame
from holdfast.worker.supervisor.exits import ExitCode
from holdfast.worker.supervisor.heart import SIGN_EVERY
from holdfast.worker.supervisor.judge import fault_of
from holdfast.worker.supervisor.messages import Beaten, BeatFailed, FromWorker, Here, StopStep
from holdfast.worker.supervisor.stops import END_NOW, Stops

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.store import Source
    from holdfast.worker.process.spawn import Spawned

logger: Final = logging.getLogger("holdfast.supervisor")

#: What a process may take to end by itself at the third step, in seconds.
END_NOW_TAKES: Final = 1.0


class Death(msgspec.Struct, frozen=True):
    """The end of a worker process.

    instance: empty if it never came so far. unfit: why it could not begin, if so. farewell: it said that it was done; an
    exit code alone proves nothing, because a handler may call os._exit(0).
    """

    code: int
    detail: str
    lived: float
    instance: str = ""
    unfit: str = ""
    farewell: bool = False

    @property
    def drained(self) -> bool:
        """Whether it ended as it was told to."""
        return self.farewell and self.code == ExitCode.DRAINED

    @property
    def orderly(self) -> bool:
        """Whether it left nothing running: drained, or replaced because of handlers that would not stop."""
        return self.drained or (self.farewell and self.code == ExitCode.ZOMBIES)


class Pulse(msgspec.Struct, frozen=True):
    """How to beat, and how long to bear silence. Durations are seconds."""

    source: Source[Any]
    clock: Clock
    lease: float
    every: float
    silent_limit: float


class Life:
    """Attends `process` until it has ended."""

    def __init__(self, process: Spawned[FromWorker], pulse: Pulse, stops: Stops) -> None:
        self._process, self._pulse, self._stops = process, pulse, stops
        self._monotonic = pulse.clock.monotonic
        self._began = self._heard_at = self._monotonic()
        self._sign: Here | None = None
        self._fault = ""
        self._unfit = ""
        self._poke = asyncio.Event()

    async def live(self) -> Death:
        """Return when the process has ended and was reaped. Cancelling this kills it, and returns when it is gone."""
        try:
            async with asyncio.TaskGroup() as group:
                attending = [group.create_task(work) for work in (self._beat(), self._watch(), self._pass_stops_on())]
                await self._listen()
                for task in attending:
                    task.cancel()
            code = await self._process.ended()
        finally:
            # Also for who was cancelled: after the loop is closed nobody would reap it. One that has ended is not waited for.
            await self._process.kill(after=0.0)
            self._process.close()
        return self._death(code)

    def _death(self, code: int) -> Death:
        detail = f"{self._fault}; {in_words(code)}" if self._fault else in_words(code)
        lived = self._monotonic() - self._began
        if self._sign is None:
            return Death(code, detail, lived, unfit=self._unfit)
        return Death(code, detail, lived, self._sign.instance.id, self._unfit, farewell=self._sign.last)

    async def _listen(self) -> None:
        try:
            while (message := await self._process.receive()) is not None:
                if isinstance(message, Here):
                    self._hear(message)
                else:
                    self._unfit = message.fault
        except BrokenFrame as error:
            self._fault = f"broke the protocol: {error}"
            await self._process.kill()

    def _hear(self, sign: Here) -> None:
        self._heard_at = self._monotonic()
        if self._sign is None or not self._sign.last:
            self._sign = sign
        if sign.beat:
            self._poke.set()

    # --- beating ---------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        failures = 0
        while True:
            every = self._pulse.every if self._sign is None else min(self._pulse.every, self._sign.beat_within)
            wait = min(every, pause(failures)) if failures else every
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._poke.wait()
            self._poke.clear()
            if self._sign is not None and not self._fault:
                failures = 0 if await self._beat_once(self._sign) else failures + 1

    async def _beat_once(self, sign: Here) -> bool:
        sent = self._monotonic()
        try:
            # A beat that hangs must not keep the next one from being tried.
            async with asyncio.timeout(self._pulse.every):
                signals = await self._pulse.source.heartbeat(Beat(instance=sign.instance, lease=self._pulse.lease))
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it and the next beat must come
            self._process.post(BeatFailed(f"{type(error).__name__}: {safe_str(error)}", sign.last))
            return False
        self._process.post(Beaten(signals, sent, self._monotonic(), sign.last))
        return True

    # --- judging ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while not self._fault:
            await asyncio.sleep(SIGN_EVERY)
            self._fault = fault_of(self._sign, self._heard_at, self._monotonic(), silent_limit=self._pulse.silent_limit)
        logger.error("worker process %d is killed: it %s", self._process.pid, self._fault)
        await self._process.kill()

    # --- stopping --------------------------------------------------------------------------------------------------

    async def _pass_stops_on(self) -> None:
        step = 0
        while step < END_NOW:
            step = await self._stops.beyond(step)
            self._process.post(StopStep(step))
        await self._process.exited(END_NOW_TAKES)
        self._process.signal(signal.SIGKILL)
