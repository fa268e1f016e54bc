"""The embedded store: the ledger in memory, every change of it in a durable log.

How a step goes. Under the lock: ask whether the log has room, decide on the newest state, apply, give the facts to the
log's writer as one frame. Then, outside the lock: wait until that frame is durable, and only then answer. So many steps
are on their way at once and share a sync, and nothing that anybody was told can be lost:

- an answer, an error that depends on the state (a duplicate), a read, an event, a claim handed out: each waits for the number
  that was the log's last one when it was made;
- heartbeats change only what a restart forgets, so they make no facts and no sync.

When the disk fails, what memory holds may never have reached it. Then the store serves nothing more, not even reads, until
it is opened again from its files.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.errors import HoldfastError, StoreClosed, StoreUnavailable
from holdfast.job import commands as c
from holdfast.job.ledger import execute
from holdfast.job.model import OperationState
from holdfast.store import Capabilities
from holdfast.stores.journal.admission import bytes_of, is_essential
from holdfast.stores.journal.frames import payloads_of
from holdfast.stores.journal.gate import Gates
from holdfast.stores.journal.keeper import Keeper, Snapshots
from holdfast.stores.journal.options import JournalOptions, options_of
from holdfast.stores.journal.recovery import Recovered, recover
from holdfast.stores.ledger_store import LedgerStore
from holdfast.wal import Health, LogBusy, LogFailed, OsFiles
from holdfast.wal.frame import frame_size

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from holdfast.clock import Clock
    from holdfast.job.draw import Draw
    from holdfast.job.facts import Fact
    from holdfast.stores.journal.folding import Folded
    from holdfast.wal import Files, Log, Recovery

R = TypeVar("R")


class JournalHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the store is, for metrics and health checks; see `wal.Health` and `Snapshots`."""

    log: Health
    snapshots: Snapshots

    @property
    def ok(self) -> bool:
        """Whether everything is served, new jobs included."""
        return self.log.state == "open"


class JournalStore(LedgerStore):
    """The Store port over a journal in a folder. One process at a time may open it."""

    capabilities = Capabilities(durable=True, push=True, many_processes=False, transactional=False, sticky=True)

    def __init__(
        self,
        files: Files,
        options: JournalOptions | None = None,
        *,
        clock: Clock | None = None,
        draw: Draw | None = None,
        serve: Callable[[Recovery], Log] | None = None,
        fold: Callable[[Files, int, int], Folded] | None = None,
    ) -> None:
        """`serve` and `fold` are for tests that bring a disk of their own: how a recovery becomes a log, and who folds."""
        super().__init__(clock=clock, draw=draw)
        self._files, self._options = files, options or JournalOptions()
        self._serve = serve or (lambda recovery: recovery.serve())
        self._fold = fold
        self._log: Log | None = None
        self._keeper: Keeper | None = None
        self._gates: Gates | None = None
        self._failure: BaseException | None = None
        self._recovered: Recovered | None = None

    # --- life

    async def open(self) -> None:
        """Lock the folder, recover, begin a new epoch of tokens. Raises as `recover`; it may be tried again."""
        if self._open and self._failure is None:
            return
        await self.close()
        try:
            found = await _finished_in_thread(self._recover)
            lost = await self._run(c.Open(alone=True))
            self._recovered = msgspec.structs.replace(found, lost=lost)
            await self._finish_operations()
        except BaseException:
            await self.close()
            raise

    def _recover(self) -> Recovered:
        """Read the files and stand ready. In a thread, since it may take seconds; nobody else calls before it is done."""
        found = recover(self._files, self._options, self._serve)
        gates = Gates(found.log)
        self.ledger, self._log, self._gates, self._failure = found.ledger, found.log, gates, None
        self._marks = found.marks
        found.log.listen(gates.ring, self._fail)
        self._keeper = Keeper(found.log, self._files, self._options, found.recovered, self._fold)
        self._keeper.start()
        self._open = True
        return found.recovered

    async def _finish_operations(self) -> None:
        """Bulk operations that a crash interrupted go on where they were."""
        for operation in list(self.ledger.operations.values()):
            answer = c.Ordered(matched=0, done=0, refused=0, operation=operation)
            while answer.operation is not None and answer.operation.state is OperationState.RUNNING:
                answer = await self._run(c.ContinueOperation(id=operation.id))

    async def close(self) -> None:
        """Write what waits, end snapshots, let the folder go."""
        with self._lock:
            was_open, self._open = self._open, False
        if was_open:
            await _finished_in_thread(self._let_go)

    def _let_go(self) -> None:
        assert self._log is not None, "it was open"
        assert self._keeper is not None, "it was open"
        assert self._gates is not None, "it was open"
        self._keeper.stop()
        try:
            if self._failure is not None:
                self._log.abandon()  # whoever was waiting has been told; the files are for the next start to judge
            else:
                self._log.close()
        finally:
            self._gates.close()

    # --- one step

    async def _run(self, command: object) -> Any:
        """Do one command; answer when it is durable.

        Raises what the rules say, StoreFull (nothing was stored), OutcomeUnknown when the disk failed in mid-step, and
        StoreUnavailable for all that comes after it.
        """
        while True:
            try:
                facts, answer = self._apply(command)
            except LogBusy:
                await self._caught_up()
                continue
            except (StoreUnavailable, StoreClosed):
                raise
            except HoldfastError:
                # What was refused because of something not yet durable (an id that is taken) must not be told before.
                await self._durable()
                raise
            await self._durable()
            self._announce(command, facts)
            return answer

    def _apply(self, command: object) -> tuple[list[Fact], Any]:
        with self._lock:
            log = self._serving()
            log.admit(bytes_of(command, log.payload_limit), essential=is_essential(command))
            facts: list[Fact] = []
            try:
                _, answer = execute(self.ledger, command, self.now(), self._draw, facts)
                if facts:
                    self._write(log, facts)
                    if self._marks is not None:
                        self._marks.take(self.ledger, facts, self._number())
            except BaseException as error:
                # A decision that raises has changed nothing; that is how refusals work. But what was applied and is not in
                # the log would be in answers and never on the disk: the end of this engine.
                if facts:
                    self._fail(error)
                raise
            return facts, answer

    def _number(self) -> int:
        assert self._log is not None, "it is open"
        return self._log.accepted

    def _write(self, log: Log, facts: list[Fact]) -> None:
        payloads = payloads_of(facts, log.payload_limit)
        log.append(payloads, admitted=True)
        if self._keeper is not None:
            self._keeper.grown(sum([frame_size(len(payload)) for payload in payloads]))

    async def _read(self, look: Callable[[], R]) -> R:
        self._serving()
        try:
            with self._lock:
                return look()
        finally:
            await self._durable()

    # --- the disk

    async def _durable(self) -> None:
        """Return when all that was accepted until now is durable."""
        log, gates = self._log, self._gates
        if log is not None and gates is not None and log.synced < (number := log.accepted):
            await gates.wait(number)

    async def _caught_up(self) -> None:
        """Return when the log has written something: more waited for the disk than it keeps room for."""
        log, gates = self._log, self._gates
        if log is not None and gates is not None and (synced := log.synced) < log.accepted:
            await gates.wait(synced + 1)

    def _serving(self) -> Log:
        if self._failure is not None:
            raise LogFailed(self._failure)
        if not self._open or self._log is None:
            raise StoreClosed("the store is not open: await store.open() first, and do not use it after close().")
        return self._log

    def _fail(self, error: BaseException) -> None:
        """The disk has failed. Called by the log's writer thread, or by a step that the log refused to take."""
        self._failure = self._failure or error
        if self._gates is not None:
            self._gates.fail(error)
        self._work.notify()  # those who wait for work come, and are told

    @property
    def folder(self) -> Path | None:
        """The folder that this process owns while the store is open; None before, and on a disk of the tests."""
        return Path(self._files.path) if self._open and isinstance(self._files, OsFiles) else None

    # --- what metrics and health checks ask

    @property
    def recovery(self) -> Recovered | None:
        """What the last opening found and how long it took; None before the first."""
        return self._recovered

    @property
    def health(self) -> JournalHealth | None:
        """How the store is now; None before the first opening."""
        log, keeper = self._log, self._keeper
        return None if log is None or keeper is None else JournalHealth(log=log.health, snapshots=keeper.state)


async def _finished_in_thread(work: Callable[[], R]) -> R:
    """Run `work` in a thread. A caller that is cancelled still waits for its end: it opens or lets go of files."""
    try:
        running = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:
        # The interpreter is ending and starts no thread any more; so nobody is left whom a blocked loop could harm.
        return work()
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def open_journal(
    path: str | os.PathLike[str],
    *,
    clock: Clock | None = None,
    draw: Draw | None = None,
    **options: Any,
) -> JournalStore:
    """Return the store of the journal in the folder `path`, not opened yet. `options` are those of `JournalOptions`.

    Raises ConfigError for an option that does not exist or can not be.
    """
    return JournalStore(OsFiles(path), options_of(options), clock=clock, draw=draw)
