"""What has ended and was not exported: noted in the transaction that makes it so, forgotten when it was acknowledged.

The outbox (SQLite, MySQL): a row of "feed" for each change, deleted when it was exported. A row that becomes visible late,
because its transaction was slow, is found late: nothing compares its number with others to know what is there. The numbers
of one job's rows grow with its changes, as whoever changes a job holds its row. PostgreSQL has a feed of its own, without a
row for each success: see dialects/postgresql_feed.py.

Whether there is an exporter stands in "meta", and is read, and kept from changing, by each transaction that notes. So when it
is switched on, no transaction goes on that does not know; what had ended before is noted afterwards, in portions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from holdfast.feed import SPARED
from holdfast.job.external import EXTERNAL
from holdfast.job.model import EPOCH_BITS as TOKEN_BITS
from holdfast.stores.sql.reads import whole
from holdfast.stores.sql.rows import first_token, micros, seconds
from holdfast.stores.sql.schema import DONE_COLUMNS, JOB_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Row, Script, Step

#: How many rows one statement brings or takes.
PORTION: Final = 1_000
#: A backlog is counted up to here.
COUNTED: Final = 1_000_000
#: The counter of jobs that were purged before they were exported.
DROPPED: Final = "export_dropped"
_ON: Final = "SELECT value FROM {meta} WHERE name = 'export' {share}"
#: The name that stands for an exporter among those of queues: no queue has it.
EXPORTER: Final = "*"


class Waiting(NamedTuple):
    """Changes that wait: seq -> (version, whether the job was purged by a person); the receipt for all of them."""

    changes: dict[int, tuple[int, bool]]
    receipt: bytes
    more: bool


class Feeding:
    """How a dialect notes changes. This one: by rows of an outbox."""

    #: Joined to a SELECT of names that each settle has anyway: one more row, EXPORTER, where there is one. So nobody pays for
    #: what is not there. The row of "meta" is kept from changing as in _ON.
    asked = (
        f" UNION ALL SELECT '{EXPORTER}' FROM (SELECT 1 AS one FROM {{meta}} WHERE name = 'export' AND value = '1' {{share}})"
        " AS told"
    )

    # --- noting, in the transaction of the change

    def ended(self, step: Step, seqs: Sequence[int]) -> Script[None]:
        """Note jobs whose rows were moved to "done" by a statement of the hot path; somebody exports, as `asked` said."""
        yield from step.db.put("feed", [(seq, 0) for seq in seqs])

    def changed(
        self, step: Step, pairs: Iterable[tuple[Job | None, Job | None]], numbers: dict[int, int]
    ) -> Script[None]:
        """Note what a slice has changed; numbers: of jobs that were new."""
        rows = [row for old, new in pairs if (row := self._row(old, new, numbers)) is not None]
        yield from self._note(step, rows)

    def gone(self, step: Step, seqs: Sequence[int]) -> Script[None]:
        """Note jobs that a person purged."""
        yield from self._note(step, [(seq, 1) for seq in seqs])

    def _note(self, step: Step, rows: Sequence[Row]) -> Script[None]:
        if rows and (yield step.db.q(_ON))[0][0] == "1":
            yield from step.db.put("feed", rows)

    def _row(self, old: Job | None, new: Job | None, numbers: dict[int, int]) -> Row | None:
        if new is None:
            return (old.seq, 1) if old is not None else None
        told = new.final and self.is_noted(old)
        reopened = not new.final and old is not None and old.final
        if told or reopened or (not new.final and _ended(new) and (old is None or _ended(old) != _ended(new))):
            return (numbers.get(new.seq, new.seq), 0)
        return None

    def is_noted(self, old: Job | None) -> bool:
        """Whether a job that has ended now needs a row. old: what it was."""
        return True

    # --- reading

    def waiting(self, step: Step, limit: int) -> Script[Waiting]:
        """The oldest changes."""
        rows = yield step.db.q("SELECT pos, seq, gone FROM {feed} ORDER BY pos LIMIT ?", limit + 1)
        found: dict[int, tuple[int, bool]] = {}
        for pos, seq, gone in rows[:limit]:
            found[seq] = (pos, bool(gone) or (seq in found and found[seq][1]))
        receipt = msgspec.msgpack.encode([row[0] for row in rows[:limit]]) if rows else b""
        return Waiting(found, receipt, len(rows) > limit)

    def acknowledge(self, step: Step, receipt: bytes) -> Script[None]:
        """Forget changes."""
        numbers = msgspec.msgpack.decode(receipt, type=list[int])
        for start in range(0, len(numbers), PORTION):
            yield from step.db.delete("feed", "pos", numbers[start : start + PORTION])

    def unexported(self, step: Step, seqs: Sequence[int]) -> Script[set[int]]:
        """Which of these ended jobs were not exported."""
        found: set[int] = set()
        for start in range(0, len(seqs), PORTION):
            rows = yield step.db.q("SELECT seq FROM {feed} WHERE seq {ints}", list(seqs[start : start + PORTION]))
            found |= {seq for (seq,) in rows}
        return found

    def backlog(self, step: Step) -> Script[tuple[int, int | None]]:
        """How many changes wait, and when the oldest of them was made, in microseconds."""
        [[count]] = yield step.db.q(f"SELECT count(*) FROM (SELECT 1 AS one FROM {{feed}} LIMIT {COUNTED}) AS it")
        rows = yield step.db.q(
            "SELECT coalesce(done.finished_at, job.updated_at) FROM {feed} AS feed LEFT JOIN {done} AS done"
            " ON done.seq = feed.seq LEFT JOIN {job} AS job ON job.seq = feed.seq ORDER BY feed.pos LIMIT 1"
        )
        return int(count), rows[0][0] if rows else None

    # --- on and off

    def start(self, step: Step) -> Script[None]:
        """Switch it on; what has ended before is noted by `more_of_past`."""
        if (yield step.db.q("SELECT value FROM {meta} WHERE name = 'export' {lock}"))[0][0] != "1":
            yield from step.db.upsert("meta", [("export", "1"), ("export_past", "0")])
            yield from self.more_of_past(step, PORTION)

    def stop(self, step: Step) -> Script[None]:
        """Switch it off."""
        yield from step.db.upsert("meta", [("export", "0")])
        yield from step.db.delete("meta", "name", ["export_past"])
        yield step.db.q("DELETE FROM {feed}")

    def restored(self, step: Step) -> Script[None]:
        """The database was restored from a backup: what it held when that was made may be newer elsewhere; tell it again."""
        if (yield step.db.q("SELECT value FROM {meta} WHERE name = 'export' {lock}"))[0][0] == "1":
            yield from step.db.upsert("meta", [("export_past", "0")])

    def more_of_past(self, step: Step, limit: int) -> Script[bool]:
        """Note the next jobs of those that had ended before it was switched on; tell whether there are more."""
        rows = yield step.db.q("SELECT value FROM {meta} WHERE name = 'export_past' {lock}")
        if not rows:
            return False
        text = "SELECT seq FROM {done} WHERE seq > ? ORDER BY seq LIMIT ?"
        found = yield step.db.q(text, int(rows[0][0]), limit)
        yield from step.db.put("feed", [(seq, 0) for (seq,) in found])
        if len(found) == limit:
            yield from step.db.upsert("meta", [("export_past", str(found[-1][0]))])
            return True
        # Last of all those that have not ended: what of their attempts has.
        tried = yield step.db.q(
            "SELECT DISTINCT attempt.seq FROM {attempt} AS attempt JOIN {job} AS job ON job.seq = attempt.seq"
        )
        yield from step.db.put("feed", [(seq, 0) for (seq,) in tried])
        yield from step.db.delete("meta", "name", ["export_past"])
        return False


def _ended(job: Job) -> tuple[Any, ...]:
    if job.origin == EXTERNAL or job.past or (job.last is not None and job.last.end is not None):
        return tuple(one for one in job.attempts if one.end is not None)
    return ()


# --- for the store ---------------------------------------------------------------------------------------------------


#: A version is the epoch of the store's tokens above these bits, and the number of the change below. A restored database
#: begins a new epoch, so what it tells is newer than what was told before.
EPOCH_BITS: Final = 40


def epoch(step: Step) -> Script[int]:
    """The epoch of versions."""
    [[value]] = yield step.db.q("SELECT value FROM {meta} WHERE name = 'epoch'")
    return first_token(value) << (EPOCH_BITS - TOKEN_BITS)


def is_on(step: Step) -> Script[bool]:
    """Whether there is an exporter."""
    rows = yield step.db.q("SELECT value FROM {meta} WHERE name = 'export'")
    return bool(rows) and rows[0][0] == "1"


def has_past(step: Step) -> Script[bool]:
    """Whether some of what had ended before it was switched on is not noted yet."""
    return bool((yield step.db.q("SELECT 1 FROM {meta} WHERE name = 'export_past'")))


def by_seq(step: Step, seqs: Sequence[int]) -> Script[dict[int, Job]]:
    """The jobs of these numbers, as they are."""
    found: dict[int, Job] = {}
    text = (
        f"SELECT {', '.join(JOB_COLUMNS)}, {step.db.no_end} FROM {{job}} WHERE seq {{ints}}"
        f" UNION ALL SELECT {', '.join(DONE_COLUMNS)} FROM {{done}} WHERE seq {{ints}}"
    )
    for start in range(0, len(seqs), PORTION):
        part = list(seqs[start : start + PORTION])
        rows = yield step.db.q(text, part, part)
        found |= {job.seq: job for job in (yield from whole(step, rows))}
    return found


def state(step: Step) -> Script[tuple[bool, int, float | None, int]]:
    """Whether it is on; how many changes wait, since when the oldest, how many jobs were dropped."""
    on = yield from is_on(step)
    count, oldest = (yield from step.db.feed.backlog(step)) if on else (0, None)
    [[dropped]] = yield step.db.q("SELECT coalesce(sum(n), 0) FROM {counter} WHERE name = ?", DROPPED)
    return on, count, None if oldest is None else seconds(oldest), int(dropped)


def spare(step: Step, rows: Sequence[Row]) -> Script[list[Row]]:
    """Of ended jobs that retention lets go, (finished_at, seq, …), return those that may: exported ones, or very old."""
    waiting = yield from step.db.feed.unexported(step, [row[1] for row in rows])
    if not waiting:
        return list(rows)
    until = (yield from step.now()) - micros(SPARED)
    dropped = sum(row[1] in waiting and row[0] <= until for row in rows)
    if dropped:
        yield from step.db.add("counter", [(DROPPED, 0, dropped)])
    return [row for row in rows if row[1] not in waiting or row[0] <= until]
