"""One attempt in one child: how long it may take, how it is cancelled, and what its end is called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from holdfast.job.commands import Canceled, Crashed, ErrorInfo, Failed, Released, TimedOut
from holdfast.worker.context import CancelReason
from holdfast.worker.process.death import in_words
from holdfast.worker.process.frames import BrokenFrame, Cancel, FromChild, Loaded, Log, Progress, Result, Start

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.job.commands import Ending
    from holdfast.worker.context import Line
    from holdfast.worker.process.spawn import Spawned
    from holdfast.worker.program import ProcessCall

LOAD_LIMIT: Final = 60.0  # seconds that the import of an app may take


class CancelSignal(Protocol):
    """What tells an attempt to stop; an `asyncio.Event` is one. Read in the loop alone."""

    def is_set(self) -> bool:
        """Whether it was told."""
        ...

    async def wait(self) -> object:
        """Return when it is told; a CancelReason says why (anything else counts as asked by a person)."""
        ...


class Listener(msgspec.Struct, frozen=True):
    """Who is told what the handler reports. Both are called in the loop."""

    progress: Callable[[bytes, bytes | None], None]
    log: Callable[[Line], None]


class Ended(msgspec.Struct, frozen=True):
    """How an attempt ended. result: what the child said, None when it can not be used again."""

    ending: Ending
    result: Result | None = None
    stopped: bool = False


class Attempt:
    """Runs `call` in `child`, whose app is loaded."""

    def __init__(self, child: Spawned[FromChild], call: ProcessCall, listener: Listener) -> None:
        self._child = child
        self._call = call
        self._listener = listener

    async def run(self, *, time_limit: float | None, cancel: CancelSignal, cancel_grace: float) -> Ended:
        """Return how it ended: by itself, by its death, or killed for a cancel or for going past `time_limit` seconds.

        The child is dead, or not usable, unless the answer holds its result.
        """
        deadline = None if time_limit is None else asyncio.get_running_loop().time() + time_limit
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(self._answer(time_limit))
            asked = group.create_task(cancel.wait())
            try:
                await asyncio.wait((answer, asked), timeout=_left(deadline), return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    return answer.result()
                if asked.done():
                    return await self._cancel(answer, _reason(asked.result()), _shorter(cancel_grace, _left(deadline)))
                return await self._time_out(time_limit or 0.0)
            finally:
                answer.cancel()
                asked.cancel()

    async def _answer(self, time_limit: float | None) -> Ended:
        try:
            await self._child.send(Start(self._call, time_limit))
        except BrokenFrame as error:
            return Ended(Failed(ErrorInfo("TooLarge", f"the job can not be sent to a child process: {error}"), False))
        try:
            while (message := await self._child.receive()) is not None:
                if isinstance(message, Result):
                    return Ended(message.ending, message, message.stopped)
                self._tell(message)
        except BrokenFrame as error:
            await self._child.kill()
            return Ended(_crashed(f"its child process broke the protocol and was killed: {error}"))
        return Ended(_crashed(f"its child process ended: {in_words(await self._child.ended())}"))

    def _tell(self, message: Progress | Log | Loaded) -> None:
        if isinstance(message, Progress):
            self._listener.progress(message.value, message.update)
        elif isinstance(message, Log):
            self._listener.log(message.line)

    async def _cancel(self, answer: asyncio.Task[Ended], reason: CancelReason, grace: float) -> Ended:
        self._child.post(Cancel(reason))
        await asyncio.wait((answer,), timeout=grace)
        if answer.done():
            return answer.result()
        await self._child.kill()
        text = f"did not stop within {grace:g} s of being cancelled ({reason}); its process was killed"
        return Ended(stopped_ending(reason, text), stopped=True)

    async def _time_out(self, limit: float) -> Ended:
        await self._child.kill()
        return Ended(TimedOut(ErrorInfo("TimedOut", f"past its time limit of {limit:g} s; its process was killed")))


async def load(child: Spawned[FromChild], cancel: CancelSignal) -> Ended | None:
    """Wait until `child` has imported its app; return None, or why there will be no attempt. Then the child is not usable.

    An import is not the job's time, so its limit does not count here.
    """
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(_loaded(child))
        asked = group.create_task(cancel.wait())
        try:
            await asyncio.wait((answer, asked), timeout=LOAD_LIMIT, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            await child.kill()
            if asked.done():
                return Ended(Released("stopped before its child process was ready", counted=False), stopped=True)
            return Ended(_not_loaded(f"its import took longer than {LOAD_LIMIT:g} s"))
        finally:
            answer.cancel()
            asked.cancel()


async def _loaded(child: Spawned[FromChild]) -> Ended | None:
    try:
        message = await child.receive()
    except BrokenFrame as error:
        await child.kill()
        return Ended(_not_loaded(f"it broke the protocol: {error}"))
    if isinstance(message, Loaded):
        return Ended(_not_loaded(message.fault, message.traceback)) if message.fault else None
    return Ended(_not_loaded(f"it ended while it imported the app: {in_words(await child.ended())}"))


def stopped_ending(reason: CancelReason, text: str) -> Ending:
    """Return what becomes of an attempt that stopped because of `reason`; `text` says how."""
    if reason is CancelReason.DRAIN:
        return Released(text)
    if reason is CancelReason.TIMED_OUT:
        return TimedOut(ErrorInfo("TimedOut", text))
    return Canceled(text)


def _not_loaded(why: str, traceback: str = "") -> Failed:
    return Failed(ErrorInfo("BadAppModule", f"the child process is not ready: {why}", traceback))


def _crashed(text: str) -> Crashed:
    return Crashed(ErrorInfo("Crashed", text))


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


def _shorter(grace: float, left: float | None) -> float:
    return grace if left is None else min(grace, left)


def _reason(told: object) -> CancelReason:
    return told if isinstance(told, CancelReason) else CancelReason.ASKED
