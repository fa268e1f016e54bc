"""Upkeep on PostgreSQL when there is little to do: one statement for a beat, one to see whether anything is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from holdfast.feed import SPARED
from holdfast.job import commands as c
from holdfast.job.ledger.upkeep import GONE_AFTER, signals_of
from holdfast.job.model import Instance, Queue, WorkerConfig
from holdfast.stores.sql import upkeep
from holdfast.stores.sql.aside import thing_from
from holdfast.stores.sql.dialects.postgresql_texts import BEAT, LOOK, PRUNE
from holdfast.stores.sql.feed import DROPPED
from holdfast.stores.sql.rows import ELSEWHERE, SUCCEEDED, body_from, body_of, micros, seconds
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.stores.sql.dialects.postgresql import PostgresDialect
    from holdfast.stores.sql.script import Row, Script, Step

#: A queue that was deleted while jobs of it had ended keeps them as a new one would.
_UNKNOWN: Final = Queue(name="")


#: How many jobs one statement purges.
PRUNE_BATCH: Final = 5_000
_EVER: Final = 1 << 62


class Looked(NamedTuple):
    """What a look found.

    work: whether upkeep has something to do beside purging plain successes, of which `old` tells the queues and how many
    there are more than they keep; ready: whether a worker has; processes: how many live; before: how many of them stand
    before this one.
    """

    work: bool
    ready: bool
    old: tuple[tuple[Queue, int], ...]
    processes: int
    before: int


class PostgresUpkeep:
    """Beats and looks of one store."""

    def __init__(self, db: PostgresDialect) -> None:
        self._db = db
        self._beat, self._look, self._prune = (text.format(**db.tables) for text in (BEAT, LOOK, PRUNE))
        self._records: dict[str, bytes] = {}  # of processes that beat through us, as they are stored

    # --- beats

    def beat(self, step: Step, command: c.Beat) -> Script[c.Signals | None]:
        """Beat for a process whose record is as it was; None when it has to be written anew."""
        me = command.instance
        record = self._records.get(me.id)
        if record is None or _changed(body_from(record, Instance), me):
            return None
        rows = yield self.beat_of(command, record)
        known, worker = rows[0][:2]
        if not known or (worker is None and me.worker):
            del self._records[me.id]
            return None
        held = tuple(c.Held(row[2], row[3], row[4], bool(row[5])) for row in rows if row[2] is not None)
        return signals_of(held, None if worker is None else body_from(worker, WorkerConfig))

    def beat_of(self, command: c.Beat, record: bytes) -> Statement:
        """The statement of a beat. `record`: the process's as it is stored."""
        me = command.instance
        newest = replace(me, heartbeat_at=seconds(self._db.guessed_now()), lease=command.lease)
        args = (me.id, micros(command.lease), body_of(newest), record, self._db.steered(), me.worker)
        return Statement(self._beat, args)

    def beat_by_rules(self, step: Step, command: c.Beat) -> Script[c.Signals]:
        """Beat as the ledger does, and remember the record."""
        signals = yield from upkeep.beat(step, command)
        name = command.instance.id
        for (body,) in (yield self._db.q("SELECT body FROM {instance} WHERE id = ?", name)):
            self._records[name] = bytes(body)
        return signals

    # --- looks

    def look(self, queues: Sequence[str], instance: str = "", *, whole: bool = True) -> Statement:
        """The look at what there is to do, by a process.

        queues: those whose ready jobs are asked for. whole: also at what may have to walk past much that is over; else lost
        processes and what is due are seen all the same.
        """
        return Statement(self._look, (self._db.steered(), micros(GONE_AFTER), list(queues), instance, whole))

    def looked(self, rows: Sequence[Row]) -> Looked:
        """What the rows of a look tell."""
        now, lost, due, ready = rows[0][:4]
        going = [row for row in rows if row[4] is not None and _goes(row, now)]
        mixed = {row[6] for row in rows if row[4] == SUCCEEDED + ELSEWHERE}  # records of others count with them
        plain = [row for row in going if row[4] == SUCCEEDED and row[6] not in mixed]
        old = [(_queue(row[6]), row[5]) for row in plain]
        return Looked(lost or due or len(plain) < len(going), ready, tuple(old), *rows[0][8:10])

    def prune(self, step: Step, old: Sequence[tuple[Queue, int]]) -> Script[tuple[int, bool]]:
        """Purge plain successes; return how many went, and whether some of them are left that only the rules let go."""
        yield from self._db.lock("retention", ("all",))
        now = yield from step.now()
        total, stuck = 0, False
        for queue, _ in old:
            rules = []
            if queue.keep_succeeded is not None:
                rules.append((now - micros(queue.keep_succeeded), 0))
            if queue.keep_succeeded_count is not None:
                rules.append((_EVER, queue.keep_succeeded_count))
            gone = 0
            for until, most in rules:
                spared = now - micros(SPARED)
                [[count, dropped]] = yield Statement(
                    self._prune, (queue.name, until, most, PRUNE_BATCH, self._db.shard, spared)
                )
                gone += count
                if dropped:
                    yield from self._db.add("counter", [(DROPPED, 0, dropped)])
            total, stuck = total + gone, stuck or not gone
        return total, stuck


def _queue(body: bytes) -> Queue:
    """Return what the body of a queue says of retention: of a damaged one nothing goes."""
    return thing_from(Queue, ("", 0, None, None, body))


def _goes(row: Row, now: int) -> bool:
    """Whether retention lets an ended job of this queue and kind go."""
    code, count, body, first = row[4:8]
    queue = _UNKNOWN if body is None else _queue(body)
    if code % ELSEWHERE == SUCCEEDED:
        keep, most = queue.keep_succeeded, queue.keep_succeeded_count
    else:
        keep, most = queue.keep_failed, queue.keep_failed_count
    if body is None or first is None:
        return False
    return (most is not None and count > most) or (keep is not None and first <= now - micros(keep))


def _changed(known: Instance, new: Instance) -> bool:
    """Whether a process says something of itself that its record does not."""
    return replace(
        known, busy=new.busy, load=new.load, heartbeat_at=0.0, lease=0.0, started_at=new.started_at
    ) != replace(new, heartbeat_at=0.0, lease=0.0)
