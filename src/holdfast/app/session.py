"""The store as one event loop of one process uses it: opened once, enqueues gathered, definitions made known."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from holdfast.batch import Gatherer
from holdfast.connect import make_share
from holdfast.errors import ConfigError, TaskInactive, TooLarge, UnknownTask
from holdfast.job.commands import (
    ENQUEUE_BYTES_MAX,
    ENQUEUE_JOBS_MAX,
    DefinitionFilter,
    Enqueued,
    OnDuplicate,
)
from holdfast.job.content import PAYLOAD_MAX
from holdfast.job.model import FreshJob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence

    from holdfast.clock import Clock
    from holdfast.connect import Share
    from holdfast.job.model import Definition, NewJob
    from holdfast.store import Store
    from holdfast.task import Task
    from holdfast.task.coming import Coming

logger: Final = logging.getLogger("holdfast.app")

#: How long a definition that was read counts as known, in seconds.
KNOWN_FOR: Final = 5.0


class Session:
    """An open store in its loop. Made by `Session.open`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self._clock = store, clock
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._defined: dict[str, float] = {}  # tasks that the store was told of -> until when it counts as knowing them
        self._defining = asyncio.Lock()
        self._known: dict[str, tuple[Definition, float]] = {}
        self._keeper = self._keep()
        self._sharing = asyncio.Lock()
        self._share: Share | None = None
        self._asked_to_share = False

    @classmethod
    async def open(cls, store: Store, clock: Clock) -> Session:
        """Open `store` in the running loop. It is closed with the loop at the latest, if that is run by asyncio.run."""
        session = cls(store, clock)
        await store.open()
        await anext(session._keeper)
        return session

    async def _keep(self) -> AsyncGenerator[None, None]:
        # asyncio.run ends the async generators of its loop before it closes it: the last moment to close a store well.
        try:
            yield
        finally:
            self.closed = True
            try:
                if self._share is not None:
                    await self._share.stop()
            finally:
                await self.store.close()

    async def close(self) -> None:
        """Write what has gathered and close the store. Calling it twice is fine."""
        for gatherer in vars(self).get("_gatherers", {}).values():  # none, if nothing was ever enqueued
            await gatherer.close()
        await self._keeper.aclose()

    async def share(self, *, must: bool = False, **told: Any) -> None:
        """Serve the folder that the store owns to other processes until this session is closed; nothing if it owns none.

        `told`: see connect.make_share. Where it can not be served, that is said once in the log, and all else goes on; with
        `must` it is raised: MissingExtra, or another ConfigError.
        """
        async with self._sharing:
            folder = getattr(self.store, "folder", None)
            if folder is None or self._share is not None or (self._asked_to_share and not must):
                return
            self._asked_to_share = True
            try:
                # Importing the server takes a while, in which the loop is to turn.
                share = await asyncio.to_thread(make_share, self.store, folder, **told)
                await share.start()
            except ConfigError as error:
                if must:
                    raise
                logger.warning("other processes can not use %s while this program has it open: %s", folder, error)
            else:
                self._share = share

    # --- enqueue ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _gatherers(self) -> dict[OnDuplicate, Gatherer[NewJob, Enqueued]]:
        # Made when the store is open: one that finds out only then what it is can not say before what it offers.
        return {choice: self._gatherer(choice) for choice in OnDuplicate}

    def _gatherer(self, on_duplicate: OnDuplicate) -> Gatherer[NewJob, Enqueued]:
        async def write(jobs: list[NewJob]) -> Sequence[Enqueued]:
            return await self.store.enqueue(jobs, on_duplicate=on_duplicate)

        one: Callable[..., Awaitable[Enqueued]] | None = getattr(self.store, "enqueue_one", None)
        alone = None if one is None else functools.partial(one, on_duplicate=on_duplicate)
        # Room for the largest job beside what has gathered, so that no batch is over the limit of one enqueue.
        most = ENQUEUE_BYTES_MAX - PAYLOAD_MAX
        return Gatherer(write, size=_size, alone=alone, again=_told, items_max=ENQUEUE_JOBS_MAX, bytes_max=most)

    async def submit(self, job: NewJob, on_duplicate: OnDuplicate) -> Enqueued:
        """Store one job, together with those that others submit at the same time."""
        return await self._gatherers[on_duplicate].put(job)

    async def submit_many(
        self, coming: Coming, on_duplicate: OnDuplicate, *, atomic: bool
    ) -> tuple[Sequence[Enqueued], int]:
        """Store many jobs in as few batches as the limits allow; return the answers and the number of batches."""
        if coming.count <= ENQUEUE_JOBS_MAX:
            try:
                return await self.store.enqueue(coming, on_duplicate=on_duplicate), 1
            except TooLarge:
                if coming.size <= ENQUEUE_BYTES_MAX:
                    raise  # not the batch is too large, but something in it
        jobs = coming.all()
        pieces = list(cut(jobs))
        if atomic and len(pieces) > 1:
            raise _too_large(jobs)
        answers: list[Enqueued] = []
        for number, piece in enumerate(pieces):
            try:
                answers += await self.store.enqueue(piece, on_duplicate=on_duplicate)
            except Exception as error:
                if number:
                    error.add_note(f"Batches 1 to {number} of {len(pieces)} were stored before: {len(answers):,} jobs.")
                raise
        return answers, len(pieces)

    # --- definitions -----------------------------------------------------------------------------------------------

    def is_defined(self, alias: str) -> bool:
        """Whether the store was told of the task, and looked at for it within KNOWN_FOR: somebody may have deleted it."""
        until = self._defined.get(alias)
        return until is not None and self._clock.monotonic() < until

    async def define(self, tasks: Iterable[Task[Any, Any]]) -> None:
        """Tell the store of tasks that it was not told of in this session, or that it has forgotten since."""
        async with self._defining:
            due = [task for task in tasks if not self.is_defined(task.alias)]
            new = [task for task in due if task.alias not in self._defined or not await self._is_stored(task.alias)]
            if new:
                await self.store.define([task.definition() for task in new])
            until = self._clock.monotonic() + KNOWN_FOR
            self._defined.update(dict.fromkeys([task.alias for task in due], until))

    def forget(self, alias: str) -> None:
        """The store has forgotten a task: what is known of it here is so no more."""
        self._defined.pop(alias, None)
        self._known.pop(alias, None)

    async def is_there(self, alias: str) -> bool:
        """Whether the store has a definition of the task, at most KNOWN_FOR seconds ago."""
        _, until = self._known.get(alias, (None, 0.0))
        return self.is_defined(alias) or self._clock.monotonic() < until or await self._is_stored(alias)

    async def _is_stored(self, alias: str) -> bool:
        try:
            found = await self.store.definition(alias)
        except UnknownTask:
            return False
        self._known[alias] = (found, self._clock.monotonic() + KNOWN_FOR)
        return True

    async def definition(self, alias: str, known: Sequence[str]) -> Definition:
        """Return an active definition, at most KNOWN_FOR seconds old. Raises UnknownTask with near names, TaskInactive."""
        found, until = self._known.get(alias, (None, 0.0))
        now = self._clock.monotonic()
        if found is None or now >= until:
            found = await self._read_definition(alias, known)
            self._known[alias] = (found, now + KNOWN_FOR)
        if not found.runs:
            raise TaskInactive(alias, "deleted" if found.deleted_at is not None else found.status)
        return found

    async def _read_definition(self, alias: str, known: Sequence[str]) -> Definition:
        try:
            return await self.store.definition(alias)
        except UnknownTask:
            import difflib

            stored = await self.store.definitions(DefinitionFilter())
            names = sorted({*known, *(definition.alias for definition in stored)})
            raise UnknownTask(alias, difflib.get_close_matches(alias, names) or names) from None


def cut(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    """Cut jobs into batches that one enqueue takes: by count and by bytes. Each job is within the limit by itself."""
    piece: list[NewJob] = []
    size = 0
    for job in jobs:
        if len(piece) == ENQUEUE_JOBS_MAX or (piece and size + len(job.payload) > ENQUEUE_BYTES_MAX):
            yield piece
            piece, size = [], 0
        piece.append(job)
        size += len(job.payload)
    if piece:
        yield piece


def _told(job: NewJob) -> NewJob:
    return job.told() if isinstance(job, FreshJob) else job


def _size(job: NewJob) -> int:
    return len(job.payload)


def _too_large(jobs: Sequence[NewJob]) -> TooLarge:
    advice = "Nothing was stored. Send fewer, or leave atomic= out to have them cut into several batches."
    if len(jobs) > ENQUEUE_JOBS_MAX:
        return TooLarge("an atomic batch", len(jobs), ENQUEUE_JOBS_MAX, "jobs", advice)
    size = sum(map(_size, jobs))
    return TooLarge("an atomic batch", size, ENQUEUE_BYTES_MAX, "bytes of payload", advice)
