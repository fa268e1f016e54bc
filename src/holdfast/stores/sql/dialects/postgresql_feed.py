"""The feed of PostgreSQL: a job that ends costs no row of an outbox, as its row tells which transaction has made it.

"done" has a column for the id of the transaction that inserted the row, filled by its default. Other changes are rows of
"feed", with the same column. A transaction with a lower id may become visible after one with a higher id. So ids are read
only below the oldest transaction that still runs (xmin of the statement's own snapshot): nothing can come there any more.
The cursor is (id of the transaction, seq of the job). A transaction that stays open for long holds the export back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.stores.sql.feed import COUNTED, PORTION, Feeding, Waiting
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Script, Step

_XMIN: Final = "(SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
_CURSOR: Final = (
    "coalesce((SELECT value::bigint FROM {meta} WHERE name = 'export_xid'), 9223372036854775807),"
    " coalesce((SELECT value::bigint FROM {meta} WHERE name = 'export_seq'), 0)"
)
#: Until all transactions have ended that ran when it was switched on, and so may not know of it, nothing is told.
_READY: Final = f"coalesce((SELECT value::bigint FROM {{meta}} WHERE name = 'export_from') < {_XMIN}, false)"
_BEHIND: Final = f"(xid, seq) > ({_CURSOR}) AND xid < {_XMIN} AND {_READY}"
_WAITING: Final = (
    "SELECT xid, seq, max(gone) FROM ("
    f"(SELECT xid, seq, 0::smallint AS gone FROM {{done}} WHERE {_BEHIND} ORDER BY xid, seq LIMIT $1::bigint)"
    " UNION ALL "
    f"(SELECT xid, seq, gone FROM {{feed}} WHERE {_BEHIND} ORDER BY xid, seq, gone DESC LIMIT $1::bigint)"
    ") AS found GROUP BY xid, seq ORDER BY xid, seq LIMIT $1::bigint"
)
_COUNT: Final = (
    f"SELECT (SELECT count(*) FROM (SELECT FROM {{done}} WHERE (xid, seq) > ({_CURSOR}) LIMIT {COUNTED}) AS d)"
    f" + (SELECT count(*) FROM (SELECT FROM {{feed}} WHERE (xid, seq) > ({_CURSOR}) LIMIT {COUNTED}) AS f),"
    f" (SELECT finished_at FROM {{done}} WHERE (xid, seq) > ({_CURSOR}) ORDER BY xid, seq LIMIT 1)"
)


class PostgresFeed(Feeding):
    """By the ids of transactions."""

    asked = ""

    def ended(self, step: Step, seqs: Sequence[int]) -> Script[None]:
        """Their rows tell it."""
        yield from ()

    def is_noted(self, old: Job | None) -> bool:
        """A row that came to "done" in this transaction tells it; one that was there does not."""
        return old is not None and old.final

    def waiting(self, step: Step, limit: int) -> Script[Waiting]:
        """The oldest changes below every transaction that still runs."""
        rows = yield Statement(_WAITING.format(**step.db.tables), (limit + 1,))
        found: dict[int, tuple[int, bool]] = {}
        for xid, seq, gone in rows[:limit]:
            found[seq] = (xid, bool(gone) or (seq in found and found[seq][1]))
        receipt = f"{rows[:limit][-1][0]}:{rows[:limit][-1][1]}".encode() if rows else b""
        return Waiting(found, receipt, len(rows) > limit)

    def acknowledge(self, step: Step, receipt: bytes) -> Script[None]:
        """Move the cursor on, never back."""
        xid, seq = map(int, receipt.split(b":"))
        known: dict[str, str] = dict(
            (yield step.db.q("SELECT name, value FROM {meta} WHERE name IN ('export_xid', 'export_seq') {lock}"))
        )
        if known and (xid, seq) > (int(known["export_xid"]), int(known["export_seq"])):
            yield from step.db.upsert("meta", [("export_xid", str(xid)), ("export_seq", str(seq))])
        yield step.db.q("DELETE FROM {feed} WHERE (xid, seq) <= (?::bigint, ?::bigint)", xid, seq)

    def unexported(self, step: Step, seqs: Sequence[int]) -> Script[set[int]]:
        """Which of these ended jobs were not exported."""
        found: set[int] = set()
        for start in range(0, len(seqs), PORTION):
            part = list(seqs[start : start + PORTION])
            text = (
                f"SELECT seq FROM {{done}} WHERE seq {{ints}} AND (xid, seq) > ({_CURSOR})"
                " UNION SELECT seq FROM {feed} WHERE seq {ints}"
            )
            found |= {seq for (seq,) in (yield step.db.q(text, part, part))}
        return found

    def backlog(self, step: Step) -> Script[tuple[int, int | None]]:
        """How many changes wait, and when the oldest job of them ended."""
        [[count, oldest]] = yield Statement(_COUNT.format(**step.db.tables))
        return int(count), oldest

    def start(self, step: Step) -> Script[None]:
        """Switch it on: everything lies behind the cursor."""
        if (yield step.db.q("SELECT value FROM {meta} WHERE name = 'export' {lock}"))[0][0] != "1":
            [[own]] = yield Statement("SELECT pg_current_xact_id()::text::bigint")
            rows = [("export", "1"), ("export_xid", "0"), ("export_seq", "0"), ("export_from", str(own))]
            yield from step.db.upsert("meta", rows)
            yield step.db.q(
                "INSERT INTO {feed} (seq, gone) SELECT DISTINCT attempt.seq, 0 FROM {attempt} AS attempt"
                " JOIN {job} AS job ON job.seq = attempt.seq"
            )

    def stop(self, step: Step) -> Script[None]:
        """Switch it off."""
        yield from step.db.upsert("meta", [("export", "0")])
        yield from step.db.delete("meta", "name", ["export_xid", "export_seq", "export_from"])
        yield step.db.q("DELETE FROM {feed}")

    def restored(self, step: Step) -> Script[None]:
        """A restored database may be in another cluster, whose ids are lower: all is told once more, under ids of here."""
        [[own]] = yield Statement("SELECT pg_current_xact_id()::text::bigint")
        for table in ("done", "feed"):
            yield step.db.q(f"UPDATE {{{table}}} SET xid = ? WHERE xid > ?", own, own)
        if (yield step.db.q("SELECT value FROM {meta} WHERE name = 'export' {lock}"))[0][0] == "1":
            rows = [("export_xid", "0"), ("export_seq", "0"), ("export_from", str(own))]
            yield from step.db.upsert("meta", rows)

    def more_of_past(self, step: Step, limit: int) -> Script[bool]:
        """The past lies behind the cursor like all else."""
        yield from ()
        return False
