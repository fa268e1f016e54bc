"""Natural batching: while one batch is being written the next gathers, and goes when the first returns.

There is no timer. An item that comes while nothing is being written goes at the next turn of the event loop, together
with all that comes in the same turn; so an idle caller waits for nothing, and a hundred concurrent callers share one
write. What gathers is bounded: `put` waits for room, and a caller of `add` asks `full` and awaits `room()`.

A shared batch never shares a failure: when the write of a batch raises, its items are written again one by one, and each
gets its own answer or its own error. Errors that say that the store is away (`whole`) would only repeat themselves, so
they go to every item at once. A caller that is cancelled leaves; its item stays and is written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from holdfast.errors import OutcomeUnknown, StoreClosed, StoreCorrupt, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

ITEMS_MAX: Final = 10_000
BYTES_MAX: Final = 8 * 1024 * 1024
#: Errors that speak of the store and not of an item.
WHOLE: Final[tuple[type[Exception], ...]] = (StoreUnavailable, OutcomeUnknown, StoreClosed, StoreCorrupt)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gatherer(Generic[Item, Answer]):
    """Gathers items for `write`, which takes a list and returns the answers in the same order.

    answered: called in the loop for each item given by `add`, with its answer, or with None and its error.
    size: bytes of an item, for the bound `bytes_max` (default: only `items_max` bounds). batch_max: items of one write.
    turns_max: how many turns of the loop a batch may gather on, as long as each brings more; then a store that answers at
    once gets batches too, and an idle caller still waits for no more than one empty turn.
    Bound to the loop of its first item.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        answered: Callable[[Item, Answer | None, Exception | None], None] | None = None,
        size: Callable[[Item], int] | None = None,
        items_max: int = ITEMS_MAX,
        bytes_max: int = BYTES_MAX,
        batch_max: int = ITEMS_MAX,
        turns_max: int = 0,
        whole: tuple[type[Exception], ...] = WHOLE,
    ) -> None:
        self._write, self._answered, self._size = write, answered, size
        self._items_max, self._bytes_max, self._batch_max, self._whole = items_max, bytes_max, batch_max, whole
        self._turns_max = turns_max
        self._items: list[Item] = []
        self._callers: list[asyncio.Future[Answer] | None] = []
        self._bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()  # for room
        self._flusher: asyncio.Task[None] | None = None
        self._given = self._told = 0  # items, ever
        self._drains: list[tuple[int, asyncio.Future[None]]] = []  # waiting until so many are told
        self._closed = False

    # --- giving ----------------------------------------------------------------------------------------------------

    async def put(self, item: Item) -> Answer:
        """Write `item` with others; return its answer or raise its error. Waits for room first."""
        await self.room()
        caller: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._gather(item, caller)
        return await caller

    def add(self, item: Item) -> None:
        """Gather `item` without waiting, also past the bound; `answered` is told what came of it."""
        self._gather(item, None)

    def _gather(self, item: Item, caller: asyncio.Future[Answer] | None) -> None:
        if self._closed:
            raise StoreClosed("expected an open batch, found it closed. Give nothing after close().")
        self._items.append(item)
        self._callers.append(caller)
        self._given += 1
        if self._size is not None:
            self._bytes += self._size(item)
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="holdfast-flush")

    def whole(self, error: Exception) -> bool:
        """Whether `error` speaks of the store, so that each item would meet it alike."""
        return isinstance(error, self._whole)

    @property
    def full(self) -> bool:
        """Whether as much has gathered as may."""
        return len(self._items) >= self._items_max or self._bytes >= self._bytes_max

    @property
    def busy(self) -> bool:
        """Whether something is gathered or being written."""
        return self._flusher is not None

    async def room(self) -> None:
        """Return as soon as one more item may gather; callers are served in their order."""
        if not self.full and not self._waiting:
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have been given in the same moment: it goes to the next in line.
            self._waiting = deque(one for one in self._waiting if one is not turn)
            self._let_in()
            raise

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        try:
            while self._items:
                await self._gather_on()
                items, callers = self._take()
                self._let_in()
                await self._send(items, callers)
                self._told += len(items)
                if self._drains:
                    self._release_drains()
        finally:
            self._flusher = None
            if self._items and not self._closed:  # only when this task was cancelled from outside
                self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="holdfast-flush")

    async def _gather_on(self) -> None:
        for _ in range(self._turns_max):
            before = len(self._items)
            if before >= self._batch_max:
                return
            await asyncio.sleep(0)
            if len(self._items) == before:
                return

    def _take(self) -> tuple[list[Item], list[asyncio.Future[Answer] | None]]:
        items, callers = self._items, self._callers
        self._items, self._callers = items[self._batch_max :], callers[self._batch_max :]
        if len(items) > self._batch_max:
            items, callers = items[: self._batch_max], callers[: self._batch_max]
        if self._size is not None:
            self._bytes = sum(map(self._size, self._items)) if self._items else 0
        return items, callers

    def _let_in(self) -> None:
        # Each one that is let in adds one item at its next step; counting them keeps the bound.
        free = self._items_max - len(self._items) if self._bytes < self._bytes_max else 0
        while self._waiting and free > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    async def _send(self, items: list[Item], callers: list[asyncio.Future[Answer] | None]) -> None:
        try:
            answers = await self._write(items)
        except asyncio.CancelledError:
            self._leave(callers)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the items and is given to them
            await self._send_each(items, callers, error)
        else:
            for item, caller, answer in zip(items, callers, answers, strict=True):
                self._tell(item, caller, answer, None)

    async def _send_each(
        self, items: list[Item], callers: list[asyncio.Future[Answer] | None], error: Exception
    ) -> None:
        if len(items) == 1 or self.whole(error):
            for item, caller in zip(items, callers, strict=True):
                self._tell(item, caller, None, error)
            return
        for item, caller in zip(items, callers, strict=True):
            await self._send([item], [caller])

    def _tell(
        self, item: Item, caller: asyncio.Future[Answer] | None, answer: Answer | None, error: Exception | None
    ) -> None:
        if caller is None:
            if self._answered is not None:
                self._answered(item, answer, error)
        elif caller.done():
            return  # its caller was cancelled and left
        elif error is not None:
            caller.set_exception(error)
        else:
            caller.set_result(answer)  # type: ignore[arg-type]  # None only beside an error, or as the answer itself

    def _leave(self, callers: Sequence[asyncio.Future[Answer] | None]) -> None:
        for caller in callers:
            if caller is not None and not caller.done():
                caller.set_exception(OutcomeUnknown("the write was cancelled: it may or may not be stored. Ask by id."))

    # --- ending ----------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Return when all that was given before has been answered. What comes meanwhile is not waited for."""
        if self._told < self._given:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drains.append((self._given, done))
            await done

    def _release_drains(self) -> None:
        for target, done in self._drains:
            if target <= self._told and not done.done():
                done.set_result(None)
        self._drains = [(target, done) for target, done in self._drains if not done.done()]

    async def close(self) -> None:
        """Write what has gathered, and take nothing more. Calling it twice is fine."""
        while self._told < self._given or self._waiting:
            await self.drain()
            await asyncio.sleep(0)  # those who waited for room put their items in
        self._closed = True

    async def abort(self) -> None:
        """Stop writing at once; callers get OutcomeUnknown. For an exit that waits for nothing."""
        self._closed = True
        flusher = self._flusher
        if flusher is not None:
            flusher.cancel()
            await asyncio.wait([flusher])
        self._leave(self._callers)
        self._items, self._callers = [], []
        self._told = self._given
        self._release_drains()
