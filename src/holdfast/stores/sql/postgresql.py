"""The parts of a store on PostgreSQL, put together."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec.structs import replace

from holdfast.clock import SystemClock
from holdfast.errors import ConfigError, OutcomeUnknown
from holdfast.job import commands as c
from holdfast.job.ledger.enqueueing import accept
from holdfast.store import Capabilities
from holdfast.stores.sql import reads
from holdfast.stores.sql.dialects.postgresql import PostgresDialect
from holdfast.stores.sql.dialects.postgresql_flow import Answers, Drawn, NotPlain, enqueue_flowing
from holdfast.stores.sql.dialects.postgresql_hot import is_plain
from holdfast.stores.sql.dialects.postgresql_upkeep import PRUNE_BATCH, Looked, PostgresUpkeep
from holdfast.stores.sql.drivers.asyncpg import AsyncpgDriver, PostgresOptions, shown
from holdfast.stores.sql.idling import Idling
from holdfast.stores.sql.notify import Announcer, Listener
from holdfast.stores.sql.postgresql_one import OneByOne
from holdfast.stores.sql.schema import PREFIX, check_prefix
from holdfast.stores.sql.script import Statement, Step
from holdfast.stores.sql.store import SqlStore
from holdfast.stores.sql.upkeep import rescue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from holdfast.clock import Clock
    from holdfast.job.draw import Draw
    from holdfast.job.model import Job, NewJob, Queue, Schedule
    from holdfast.stores.sql.script import Row, Script

T = TypeVar("T")

_CAPABILITIES = Capabilities(durable=True, push=True, many_processes=True, transactional=True, sticky=True)
#: Options that may stand in the URL as well, for programs that know nothing but a URL.
_IN_URL = {
    "prefix": str, "schema": str, "listen_url": str, "pool_size": int, "statement_cache_size": int,
    "connect_timeout": float, "statement_timeout": float, "patience": float, "probe_every": float, "probe_limit": float,
}  # fmt: skip


class PostgresStore(SqlStore):
    """Jobs in a PostgreSQL database."""

    def __init__(self, driver: AsyncpgDriver, db: PostgresDialect, **parts: Any) -> None:
        self._postgres = driver
        self._fast = db.hot
        self._listener = Listener(driver, db.channel)
        super().__init__(driver, capabilities=_CAPABILITIES, watch=self._listener, **parts)
        self._listener.schedule_calls = self._schedule_calls
        self._announcer = Announcer(self._notify, self._fresh)
        self._again: Callable[[], PostgresStore] | None = None
        self._upkeep = PostgresUpkeep(db)
        self._ones = OneByOne(driver, db)
        self._schedule_calls.add(self._ones.forget)
        self._idling = Idling(steered=db.steered() is not None)

    @property
    def listening(self) -> bool:
        """Whether news of other processes come at once."""
        return self._listener.listening

    @property
    def hears_schedules(self) -> bool:
        """Changes of other processes are heard while this one listens."""
        return self._listener.listening

    @property
    def channel(self) -> str:
        """What its notifications are sent on."""
        return self._listener.channel

    async def open(self) -> None:
        """Connect, and check the schema; and that listening would hear of the same database."""
        if self._open:
            return
        await super().open()
        if self._postgres.options.listen_url:
            try:
                await self._check_listening()
            except BaseException:
                await self.close()
                raise

    async def _check_listening(self) -> None:
        there = await self._postgres.ask_listening(self._db.q("SELECT value FROM {meta} WHERE name = 'database'"))
        if [tuple(row) for row in there] != [(self.database_id,)]:
            raise ConfigError(
                f"listen_url: expected another way to the database of {self._postgres.where}, found another database at "
                f"{shown(self._postgres.options.listen_url)}. Name the server that the pooler leads to."
            )

    async def close(self) -> None:
        """Send what is pending, and let everything go."""
        await self._announcer.close()
        await super().close()

    def beat_source(self) -> BeatSource:
        """What a heart beats through in a thread and loop of its own: a connection of its own."""
        assert self._again is not None, "set by make_postgresql"
        return BeatSource(self._again())

    # --- the one step: others are told after the commit

    async def _write(self, make: Callable[[Step], Script[T]], *, single: bool = False, repeats: bool = False) -> T:
        self._check_open()
        step = self._fresh()

        def script() -> Script[T]:
            nonlocal step
            step.take_back()
            step = self._fresh()
            return make(step)

        try:
            with self._telling_cancelled():
                answer = await self._postgres.run(script, single=single, repeats=repeats)
        except Exception:
            step.take_back()
            raise
        finally:
            if not single:
                self._ones.forget()  # whatever it was may have stopped a task or deleted a queue
        if not single:
            self._fast.floors.forget(step.ready)
        self._tell_others(step)
        return answer

    @contextmanager
    def _telling_cancelled(self) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            # It may be stored all the same: let those who wait look.
            self._work.notify()
            self._ends.notify()
            raise

    def _tell_others(self, step: Step) -> None:
        if step.news:
            self._tell(step)
            self._announcer.tell(step)

    def _fresh(self) -> Step:
        return Step(self._db, self._draw)

    # --- the hot path: one statement outside a transaction where that does it

    async def enqueue(
        self, jobs: Iterable[NewJob], *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE
    ) -> Sequence[c.Enqueued]:
        """Store all jobs or none. Of many, some are drawn while others are being stored."""
        drawn = Drawn(jobs, on_duplicate)
        if drawn.flows:
            try:
                return await self._enqueue_flowing(drawn)
            except NotPlain:
                pass
            except OutcomeUnknown as unknown:
                return await self._enqueue_again(drawn.all(), unknown)
        command = drawn.all()
        if all(is_plain(new) for new in command.jobs):
            tries = count()

            def script(step: Step) -> Script[list[c.Enqueued] | None]:
                # A repeat may find them stored: only the rules can tell.
                return self._hot.enqueue_plain(step, command.jobs if next(tries) == 0 else ())

            answers = await self._write(script, single=True, repeats=True)
            if answers is not None:
                return answers
        try:
            return await self._write(lambda step: self._hot.enqueue_by_rules(step, command))
        except OutcomeUnknown as unknown:
            return await self._enqueue_again(command, unknown)

    async def enqueue_one(self, job: NewJob, *, on_duplicate: c.OnDuplicate = c.OnDuplicate.RAISE) -> c.Enqueued:
        """Store one job: one that stands alone takes less than a batch of one."""
        self._check_open()
        try:
            stored = await self._ones.store(job)
        except asyncio.CancelledError:
            self._work.notify()  # it may be stored all the same
            raise
        except OutcomeUnknown as unknown:
            command = c.Enqueue(jobs=(job,), on_duplicate=on_duplicate)
            return (await self._enqueue_again(command, unknown))[0]
        if stored is None:
            return (await self.enqueue([job], on_duplicate=on_duplicate))[0]
        self._work.notify()
        self._announcer.came(job.queue)
        seq, now = stored
        return c.Enqueued(c.Verdict.NEW, accept(seq, job, now / 1e6))

    async def _enqueue_flowing(self, drawn: Drawn) -> Answers:
        self._check_open()
        step, tries = self._fresh(), count()

        def script() -> Script[Answers]:
            if next(tries):
                raise NotPlain  # a repeat may find ids of theirs stored: only the rules can tell
            return enqueue_flowing(self._postgres.db, step, drawn)

        with self._telling_cancelled():
            answers = await self._postgres.run_flow(script)
        self._tell_others(step)
        return answers

    async def claim(self, want: c.Want) -> c.Claims[Job]:
        """Hand out ready jobs."""
        cursor = self._work.count  # read before the claim: what comes during it is seen by the next wait
        self._idling.claiming(want)
        if not want.sticky and self._needs_no_claim(cursor):
            return c.Claims((), cursor, self._due)
        marks = self._listener.herd.before_claim(self._idling.queues)
        claims = await self._claimed(lambda step: self._fast.claim_single(step, want), single=True)
        if claims is None:
            claims = await self._claimed(lambda step: self._hot.claim(step, want))
        self._due = claims.next_due
        left_nothing = _left_nothing(want, claims)
        self._idling.claimed(cursor, left_nothing=left_nothing)
        if left_nothing and marks:
            self._tell_done(marks)
        return c.Claims(claims.items, cursor, claims.next_due, claims.ownerless)

    def _tell_done(self, marks: tuple[str, ...]) -> None:
        """Let other processes that were about to go to the same work stay where they are."""
        step = self._fresh()
        step.done = self._listener.herd.saw_the_end(marks)
        if step.done:
            self._announcer.tell(step)

    async def settle(self, settlements: Sequence[c.Settlement[Job]]) -> list[c.Settled]:
        """End attempts, each on its own."""
        answers: dict[int, c.Settled] = {}
        plain = self._fast.plain_places(settlements)
        if plain:
            answers = await self._write(
                lambda step: self._fast.succeed(step, settlements, plain), single=True, repeats=True
            )
        left = [place for place in range(len(settlements)) if place not in answers]
        if left:
            others = [settlements[place] for place in left]
            ruled = await self._write(lambda step: self._fast.settle_by_rules(step, others), repeats=True)
            answers |= zip(left, ruled, strict=True)
        return [answers[place] for place in range(len(settlements))]

    # --- waiting and upkeep: a process that has nothing to do asks little

    async def wait(self, queues: Sequence[str], cursor: int, timeout: float) -> bool:
        """Return True as soon as something came that `cursor` did not see."""
        began = asyncio.get_running_loop().time()
        came = False
        try:
            came = await super().wait(queues, cursor, timeout)
        finally:
            # A worker may end the wait itself, at the very moment at which it would end.
            # A process that is told of nothing knows nothing by having waited: it has to ask.
            vain = not came and self._work.count == cursor and self.listening
            self._idling.waited(began, in_vain=vain)
        return came

    def _needs_no_claim(self, cursor: int) -> bool:
        """Tell whether it is known that a claim would find nothing."""
        nothing = self._idling.was_in_vain() or (self._idling.was_emptied(cursor) and self.listening)
        return nothing and (self._due is None or self._due > self.now())

    async def schedules(self, *, deleted: bool = False) -> list[Schedule]:
        """All schedules, by name: each idle scheduler asks for them again and again, so no transaction is begun for it."""
        self._check_open()
        return await self._postgres.run(
            lambda: reads.schedules(self._fresh(), deleted=deleted), write=False, single=True
        )

    async def queues(self) -> list[Queue]:
        """All queues, by name; each idle worker asks for them."""
        self._check_open()
        return await self._postgres.run(lambda: reads.queues(self._fresh()), write=False, single=True)

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases."""
        self._idling.instance = self._idling.instance or beat.instance.id
        signals = await self._write(lambda step: self._upkeep.beat(step, beat), single=True, repeats=True)
        if signals is None:
            signals = await self._write(lambda step: self._upkeep.beat_by_rules(step, beat), repeats=True)
        return signals

    async def rescue(self, limit: int = 1_000) -> c.Rescued:
        """End claims whose lease has passed, promote what is due, prune; after a look whether there is any of it."""
        self._check_open()
        looked = await self._look()
        await self._tend_figures()
        self._listener.herd.others, self._listener.herd.place = max(0, looked.processes - 1), looked.before
        if looked.ready:
            self._work.notify()  # the look behind the notifications: those who wait may have missed one
        pruned, stuck = 0, False
        if looked.old:
            pruned, stuck = await self._write(lambda step: self._upkeep.prune(step, looked.old))
        if not looked.work and not stuck:
            return c.Rescued(pruned=pruned, more=pruned >= PRUNE_BATCH)
        rescued = await self._go_on(await self._write(lambda step: rescue(step, limit), repeats=True))
        return replace(rescued, pruned=rescued.pruned + pruned, more=rescued.more or pruned >= PRUNE_BATCH)

    async def _look(self) -> Looked:
        time = asyncio.get_running_loop().time
        at = time()
        queues, whole = self._idling.asks(at)
        statement = self._upkeep.look(queues, self._idling.instance, whole=whole)
        rows = await self._listener.ask(statement)
        if rows is None:
            rows = await self._postgres.run(lambda: _alone(statement), write=False, single=True)
        looked = self._upkeep.looked(rows)
        if whole:
            self._idling.looked(at, time() - at, asked=queues, ready=looked.ready)
        return looked

    # --- for an exporter

    async def start_export(self) -> None:
        """Switch it on, and make the index by which it reads. Nobody waits for that: it is made beside those who write."""
        await super().start_export()
        await self._postgres.run(lambda: _index(self._postgres.db, on=True), single=True, repeats=True)

    async def stop_export(self) -> None:
        """Switch it off."""
        await super().stop_export()
        await self._postgres.run(lambda: _index(self._postgres.db, on=False), single=True, repeats=True)

    async def _notify(self, step: Step) -> None:
        await self._postgres.run(
            lambda: self._postgres.db.announce_after(step, self._listener.mark), single=True, repeats=True
        )


def _index(db: PostgresDialect, *, on: bool) -> Script[None]:
    """Make or drop the index of ended jobs by their transactions. One that was not finished is made anew."""
    name = f"{db.prefix}done_xid"
    text = f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{db.named(name, db.schema)}')"
    there = yield Statement(text)
    if there and not (on and there[0][0]):
        yield Statement(f"DROP INDEX CONCURRENTLY IF EXISTS {db.named(name, db.schema)}")
    if on and not (there and there[0][0]):
        yield Statement(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {db.tables['done']} (xid, seq)")


def _left_nothing(want: c.Want, claims: c.Claims[Job]) -> bool:
    """Whether a claim could have taken more of each of its queues."""
    if len(claims.items) >= want.limit:
        return False
    taken = Counter(claim.queue for claim in claims.items)
    return all(taken[one.queue] < one.limit for one in want.queues)


def _alone(statement: Statement) -> Script[Sequence[Row]]:
    return (yield statement)


class BeatSource:
    """Beats alone, in a loop of its own; opened by the first."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def heartbeat(self, beat: c.Beat) -> c.Signals:
        """Extend an instance's leases."""
        await self._store.open()
        return await self._store.heartbeat(beat)

    async def close(self) -> None:
        """Let the connection go."""
        await self._store.close()


def make_postgresql(
    url: str,
    *,
    clock: Clock,
    draw: Draw | None = None,
    auto_migrate: bool = False,
    statistics: bool = True,
    **options: Any,
) -> PostgresStore:
    """Return the store of a database, not opened yet.

    Options, as keywords or in the URL's query: prefix and schema of the tables; see PostgresOptions for the others. What is
    left of the query is PostgreSQL's own (sslmode, host, …).
    """
    url, found = _split_options(url)
    options = {**found, **options}
    unknown = options.keys() - _IN_URL.keys()
    if unknown:
        raise ConfigError(
            f"postgresql: store: unknown option {', '.join(sorted(unknown))}. Expected some of {', '.join(_IN_URL)}, "
            "auto_migrate, statistics."
        )
    prefix, schema = check_prefix(options.pop("prefix", PREFIX)), options.pop("schema", "")

    def make(more: dict[str, Any]) -> PostgresStore:
        db = PostgresDialect(prefix, schema, None if type(clock) is SystemClock else clock)
        db.rollup.enabled = statistics
        driver = AsyncpgDriver(url, db, PostgresOptions(**{**options, **more}))
        store = PostgresStore(driver, db, auto_migrate=auto_migrate and not more, clock=clock, draw=draw)
        store._again = lambda: make({"pool_size": 1})
        return store

    return make({})


def _split_options(url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL as PostgreSQL knows it, and the options of ours that stood in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"store URL: expected postgresql://user:password@host:port/database: {error}.") from error
    del port
    found: dict[str, Any] = {}
    others = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _IN_URL:
            others.append((name, value))
            continue
        try:
            found[name] = _IN_URL[name](value)
        except ValueError as error:
            raise ConfigError(f"store URL: {name}: expected a number, found {value!r}.") from error
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(others), "")), found
