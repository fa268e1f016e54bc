"""Natural batching: while one batch is being written the next gathers, and goes when the first returns.

There is no timer. An item that comes while nothing is being written goes at the next turn of the event loop, together
with all that comes in the same turn; so an idle caller waits for nothing, and a hundred concurrent callers share one
write. What gathers is bounded: `put` waits for room, and a caller of `add` asks `full` and awaits `room()`.

Where the batches before were of one item, nobody seems to share: then a caller may write its item by itself (`alone`), which
saves it the way through a task of its own. Others gather meanwhile, and once there was company, items go together again.

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

    answered: told in the loop of each batch that was written, with its answers. failed: told of each item given by `add`
    that was not, with its error.
    size: bytes of an item, for the bound `bytes_max` (default: only `items_max` bounds). batch_max: items of one write.
    alone: writes one item in its caller's task. again: what is written of such an item when its caller was cancelled
    meanwhile, since nobody knows whether it was written.
    turns_max: how many turns of the loop a batch may gather on, as long as each brings more; then a store that answers at
    once gets batches too, and an idle caller still waits for no more than one empty turn.
    Bound to the loop of its first item.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        answered: Callable[[Sequence[Item], Sequence[Answer]], None] | None = None,
        failed: Callable[[Item, Exception], None] | None = None,
        size: Callable[[Item], int] | None = None,
        alone: Callable[[Item], Awaitable[Answer]] | None = None,
        again: Callable[[Item], Item] | None = None,
        items_max: int = ITEMS_MAX,
        bytes_max: int = BYTES_MAX,
        batch_max: int = ITEMS_MAX,
        turns_max: int = 0,
        whole: tuple[type[Exception], ...] = WHOLE,
    ) -> None:
        self._write, self._answered, self._failed, self._size = write, answered, failed, size
        self._items_max, self._bytes_max, self._batch_max, self._whole = items_max, bytes_max, batch_max, whole
        self._turns_max = turns_max
        self._alone, self._again = alone, again
        self._is_going = False  # whether an item is being written alone
        self._was_shared = False  # whether the batch before was of more than one item
        self._items: list[Item] = []
        self._callers: dict[int, asyncio.Future[Answer]] = {}  # by the place of their item
        self._bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()  # for room
        self._flusher: asyncio.Task[None] | None = None
        self._given = self._told = 0  # items, ever
        self._drains: list[tuple[int, asyncio.Future[None]]] = []  # waiting until so many are told
        self._closed = False

    # --- giving ----------------------------------------------------------------------------------------------------

    async def put(self, item: Item) -> Answer:
        """Write `item` with others; return its answer or raise its error. Waits for room first."""
        if self._alone is not None and not (self._was_shared or self._is_going or self._closed or self._flusher):
            return await self._put_alone(self._alone, item)
        await self.room()
        caller: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._callers[len(self._items)] = caller
        self.add(item)
        return await caller

    def add(self, item: Item) -> None:
        """Gather `item` without waiting, also past the bound; `answered` or `failed` is told what came of it."""
        if self._closed:
            raise StoreClosed("expected an open batch, found it closed. Give nothing after close().")
        self._items.append(item)
        self._given += 1
        if self._size is not None:
            self._bytes += self._size(item)
        if self._flusher is None and not self._is_going:
            self._start()

    async def _put_alone(self, alone: Callable[[Item], Awaitable[Answer]], item: Item) -> Answer:
        self._is_going = True
        self._given += 1
        try:
            return await alone(item)
        except asyncio.CancelledError:
            if not self._closed:
                self.add(item if self._again is None else self._again(item))
            raise
        finally:
            self._is_going = False
            self._told += 1
            if self._items:
                self._start()
            if self._drains:
                self._release_drains()

    def _start(self) -> None:
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
        return self._flusher is not None or self._is_going

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
                self._was_shared = len(items) > 1
                self._let_in()
                await self._send(items, callers)
                self._told += len(items)
                if self._drains:
                    self._release_drains()
        finally:
            self._flusher = None
            if self._items and not self._closed:  # only when this task was cancelled from outside
                self._start()

    async def _gather_on(self) -> None:
        for _ in range(self._turns_max):
            before = len(self._items)
            if before >= self._batch_max:
                return
            await asyncio.sleep(0)
            if len(self._items) == before:
                return

    def _take(self) -> tuple[list[Item], dict[int, asyncio.Future[Answer]]]:
        items, callers, most = self._items, self._callers, self._batch_max
        self._items, self._callers = items[most:], {}
        if len(items) > most:
            items = items[:most]
            self._callers = {place - most: caller for place, caller in callers.items() if place >= most}
            callers = {place: caller for place, caller in callers.items() if place < most}
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

    async def _send(self, items: list[Item], callers: dict[int, asyncio.Future[Answer]]) -> None:
        try:
            answers = await self._write(items)
        except asyncio.CancelledError:
            self._leave(callers)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the items and is given to them
            await self._send_each(items, callers, error)
            return
        if self._answered is not None:
            self._answered(items, answers)
        for place, caller in callers.items():
            if not caller.done():  # else it was cancelled and left
                caller.set_result(answers[place])

    async def _send_each(self, items: list[Item], callers: dict[int, asyncio.Future[Answer]], error: Exception) -> None:
        if len(items) == 1 or self.whole(error):
            for place, item in enumerate(items):
                self._fail(item, callers.get(place), error)
            return
        for place, item in enumerate(items):
            await self._send([item], {0: callers[place]} if place in callers else {})

    def _fail(self, item: Item, caller: asyncio.Future[Answer] | None, error: Exception) -> None:
        if caller is None:
            if self._failed is not None:
                self._failed(item, error)
        elif not caller.done():
            caller.set_exception(error)

    def _leave(self, callers: dict[int, asyncio.Future[Answer]]) -> None:
        for caller in callers.values():
            if not caller.done():
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
        self._items, self._callers = [], {}
        self._told = self._given
        self._release_drains()
