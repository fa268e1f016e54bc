"""The hot path on PostgreSQL: one statement for what a plain job needs, the ledger's rules for everything else."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from msgspec import json
from msgspec.structs import replace

from holdfast.job import commands as c
from holdfast.job.ledger.claiming import PROMOTE_BATCH
from holdfast.job.ledger.enqueueing import accept
from holdfast.job.model import FreshJob, Job, OnWait
from holdfast.job.retry import RetryPolicy
from holdfast.job.stack import alike
from holdfast.job.state import State
from holdfast.stores.sql.apart import readable
from holdfast.stores.sql.attempts import attempts_of
from holdfast.stores.sql.claims import full_claim, plain_claim
from holdfast.stores.sql.dialects.postgresql_floors import Floors
from holdfast.stores.sql.dialects.postgresql_texts import (
    CLAIM_FROM,
    CLAIM_MANY,
    CLAIM_ONE,
    ENQUEUE,
    ENQUEUE_ALIKE,
    ENQUEUE_FRESH,
    ENQUEUE_ONE,
    SETTLE,
)
from holdfast.stores.sql.hot import Hot
from holdfast.stores.sql.links import look
from holdfast.stores.sql.rows import micros, policy_of, seconds, seconds_or_none, tail_of
from holdfast.stores.sql.schema import CLAIMED, TABLES
from holdfast.stores.sql.script import Statement
from holdfast.stores.sql.slice import Need, carry_out
from holdfast.stores.sql.stats import MINUTE, Ended, together
from holdfast.stores.sql.upkeep import promote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.job.model import NewJob
    from holdfast.stores.sql.dialects.postgresql import PostgresDialect
    from holdfast.stores.sql.dialects.postgresql_floors import Range
    from holdfast.stores.sql.script import Row, Script, Step

_APPLIED: Final = c.Accepted.APPLIED
_NEW: Final = c.Verdict.NEW
_SUCCEEDED: Final = State.SUCCEEDED
_RUNNING_STATE: Final = State.RUNNING
_NO_RETRY: Final = RetryPolicy()
_HOLD: Final = OnWait.HOLD
_encode: Final = json.Encoder().encode
_NO_FIGURES: Final[list[tuple[()]]] = [()] * len(TABLES["stat"].columns)
_SEQ, _PRIO, _RUN_AT, _QUEUE, _ATTEMPT, _TOKEN, _LEASE = map(
    CLAIMED.index, ("seq", "prio", "run_at", "queue", "attempt", "token", "lease_until")
)
_about: Final = itemgetter(_SEQ, _RUN_AT, _ATTEMPT, _TOKEN)  # what the first row says
_in_line: Final = itemgetter(_PRIO, _RUN_AT, _SEQ)
_queue: Final = itemgetter(_QUEUE)


class PostgresHot(Hot):
    """One statement where it can be."""

    def __init__(self, db: PostgresDialect) -> None:
        self._db = db
        self._single, self._fresh, self._alike, self._mixed, self._one, self._many, self._from, self._settle = (
            text.format(**db.tables)
            for text in (ENQUEUE_ONE, ENQUEUE_FRESH, ENQUEUE_ALIKE, ENQUEUE, CLAIM_ONE, CLAIM_MANY, CLAIM_FROM, SETTLE)
        )
        self.floors = Floors()
        self.may_take = False  # whether it was seen that we may take numbers: see postgresql_flow.py

    # --- enqueue

    def enqueue_plain(self, step: Step, jobs: Sequence[NewJob]) -> Script[list[c.Enqueued] | None]:
        """Store jobs that have neither key nor unique key nor an id of the caller's; None when it is not as plain as that."""
        statement = self.enqueue_statement(jobs)
        rows = (yield statement) if statement is not None else []
        if not rows:
            return None
        step.ready |= {new.queue for new in jobs}
        step.jobs = len(jobs)
        return self.stored(rows, jobs)

    def enqueue_statement(self, jobs: Sequence[NewJob]) -> Statement | None:
        """Return the statement that stores plain jobs, if they are as plain as that; None when they are known not to be."""
        ids = [new.id for new in jobs]
        if not jobs or len(set(ids)) < len(ids):
            return None
        first = jobs[0]
        if first.run_at is None and first.delay is None and all(alike(first, new) for new in jobs):
            return self._enqueue_alike(first, jobs, ids)
        return self._enqueue_mixed(jobs, ids)

    def _enqueue_alike(self, first: NewJob, jobs: Sequence[NewJob], ids: list[str]) -> Statement:
        common = (first.queue, first.task, -first.priority, policy_of_new(first), self._db.steered())
        if len(jobs) == 1:
            return Statement(
                self._fresh if type(first) is FreshJob else self._single, (first.id, first.payload, *common)
            )
        payloads = [new.payload for new in jobs]
        sizes = [len(payload) for payload in payloads]
        return Statement(
            self._alike,
            (
                texts(ids),
                b"".join(payloads),
                min(ids),
                *common,
                numbers(accumulate(sizes[:-1], initial=1)),
                numbers(sizes),
            ),
        )

    def _enqueue_mixed(self, jobs: Sequence[NewJob], ids: list[str]) -> Statement:
        return Statement(
            self._mixed,
            (
                ids,
                [new.payload for new in jobs],
                min(ids),
                [new.queue for new in jobs],
                [new.task for new in jobs],
                [-new.priority for new in jobs],
                [policy_of_new(new) for new in jobs],
                [None if new.run_at is None else micros(new.run_at) for new in jobs],
                [None if new.delay is None else micros(max(0.0, new.delay)) for new in jobs],
                self._db.steered(),
                list({new.queue for new in jobs}),
            ),
        )

    def stored(self, rows: Sequence[Row], jobs: Sequence[NewJob]) -> list[c.Enqueued]:
        """Return the answers for jobs that got these numbers at one time."""
        return accepted([row[0] for row in rows], jobs, rows[0][1])

    # --- claim

    def claim(self, step: Step, want: c.Want) -> Script[c.Claims[Job]]:
        """Hand out ready jobs. What is due is promoted first."""
        for _ in range(2):
            mine, ownerless = yield from look(step, want)
            if mine:
                break
            claims, again = yield from self.claim_plain(step, want)
            if claims is not None:
                return replace(claims, ownerless=ownerless) if ownerless else claims
            if not again:
                break
            yield from promote(step, PROMOTE_BATCH)
        return (yield from super().claim(step, want))

    def claim_single(self, step: Step, want: c.Want) -> Script[c.Claims[Job] | None]:
        """Hand out ready jobs by statements that stand alone; None when it takes more than that."""
        mine, ownerless = yield from look(step, want)
        if mine:
            return None
        claims, _ = yield from self.claim_plain(step, want)
        return replace(claims, ownerless=ownerless) if claims is not None and ownerless else claims

    def claim_plain(self, step: Step, want: c.Want) -> Script[tuple[c.Claims[Job] | None, bool]]:
        """Hand out ready jobs by one statement; None when only the rules can tell who is next.

        True beside None: because jobs have become due, which have to be promoted first.
        """
        names = [one.queue for one in want.queues]
        if want.limit <= 0 or len(set(names)) < len(names):
            return None, False
        parts = self.floors.ranges(names, monotonic())
        first, *rows = yield self._claim_statement(want, names, parts)
        now, due, special, walk = _about(first)
        if special:
            return None, False
        if due is not None and due <= now:
            return None, True
        items: list[c.Claim[Job]] = []
        if rows:
            rows = _in_order(rows, names)
            ends = _ends(rows, want)
            self.floors.claimed(ends, at=now, walk=walk, found=len(rows), now=monotonic(), full=parts is None)
            items = yield from self._claims(step, want, rows, now)
        return c.Claims(tuple(items), next_due=seconds_or_none(due)), False

    def _claim_statement(self, want: c.Want, names: list[str], parts: dict[str, tuple[Range, ...]] | None) -> Statement:
        args: list[Any] = [names, want.limit, micros(want.lease), want.instance, want.worker, want.version]
        args.append(self._db.steered())
        if len(names) == 1 and parts is None:
            args[1] = min(want.limit, want.queues[0].limit)
            return Statement(self._one, args)
        args.append([max(0, one.limit) for one in want.queues])
        if parts is None:
            return Statement(self._many, args)
        given = [(name, *part) for name, its in parts.items() for part in its]
        return Statement(self._from, [*args, *map(list, zip(*given, strict=True))])

    def _claims(self, step: Step, want: c.Want, rows: Sequence[Row], now: int) -> Script[list[c.Claim[Job]]]:
        who = (want.instance, want.worker, want.version)
        tried = [row[_SEQ] for row in rows if row[_ATTEMPT] > 1]
        past = (yield from attempts_of(step, tried)) if tried else {}
        at, lease = now / 1e6, micros(want.lease)

        def claim(row: Row) -> c.Claim[Job]:
            own = _own_lease(row, now, lease)
            return plain_claim(row, who, at, own) or full_claim(row, who, now, own, past.get(row[_SEQ]))

        return readable(step, rows, _number, claim)

    # --- settle

    def succeed(
        self, step: Step, settlements: Sequence[c.Settlement[Job]], places: Sequence[int]
    ) -> Script[dict[int, c.Settled]]:
        """End the jobs that are as their claims say, and without a key; tell which of `places` these were."""
        told: list[Any] = [settlements[place] for place in places]
        seqs = [one.claim.ref for one in told]
        now = self._db.guessed_now()
        ended = self._ended(told, now)
        step.counted.append((now // MINUTE, ended))
        results, durations, tails, common = _brought(told)
        [[count, moved, limited]] = yield Statement(
            self._settle,
            (
                numbers(seqs),
                numbers([one.claim.token for one in told]),
                results,
                durations,
                tails,
                self._db.steered(),
                self._db.shard,
                *_columns(self._db.rollup.rows(now, ended)),
                common,
            ),
        )
        if count < len(told):
            done = set(moved or ())
            # Some were stale or are repeated: the statement has counted them, so their rows are written again.
            untrue = self._ended([one for one in told if one.claim.ref not in done], now)
            yield from self._db.upsert("stat", self._db.rollup.take_back(now // MINUTE, untrue))
            step.counted[-1] = (now // MINUTE, self._ended([one for one in told if one.claim.ref in done], now))
            places = [place for place, seq in zip(places, seqs, strict=True) if seq in done]
        if count:
            step.ended = True
        if limited:  # a job that ended may have made room under a limit
            step.ready |= {settlements[place].claim.queue for place in places}
        answers = {}
        for place in places:
            claim = settlements[place].claim
            answers[place] = c.Settled(claim.id, claim.token, _APPLIED, _SUCCEEDED, claim.item.run_at)
        return answers

    def _ended(self, told: Sequence[Any], now: int) -> list[Ended]:
        return together(told, now) if self._db.rollup.enabled else []

    def plain_places(self, settlements: Sequence[c.Settlement[Job]]) -> list[int]:
        """Return which of them may be plain successes, each job once; in the order in which everybody locks jobs."""
        plain = [place for place, one in enumerate(settlements) if _may_move(one)]
        refs: list[Any] = [one.claim.ref for one in settlements]
        if len({refs[place] for place in plain}) < len(settlements):
            times = Counter(refs)
            plain = [place for place in plain if times[refs[place]] == 1]
        plain.sort(key=refs.__getitem__)
        return plain

    def settle_by_rules(self, step: Step, settlements: Sequence[c.Settlement[Job]]) -> Script[list[c.Settled]]:
        """End attempts as the ledger does."""
        need = Need(seqs=sorted({seq for one in settlements if type(seq := one.claim.ref) is int}), attempts=True)
        _, settled = yield from carry_out(step, c.SettleAll(tuple(settlements)), need)
        answers: list[c.Settled] = settled
        return answers


# --- values --------------------------------------------------------------------------------------------------------


def _number(row: Row) -> int:
    number: int = row[_SEQ]
    return number


def numbers(values: Iterable[float | None]) -> str:
    """Return numbers as the text of an array. None is NULL.

    >>> numbers([1, 22]), numbers([0.5, None, float("inf")])
    ('{1,22}', '{0.5, NULL, inf}')
    """
    values = list(values)
    text = _encode(values)[1:-1].decode()  # exact, and thirty times as fast as repr() where these are fractions
    if "null" in text:  # None, or a number that JSON does not know
        text = str(values)[1:-1].replace("None", "NULL")
    return f"{{{text}}}"


def texts(values: Sequence[str]) -> str:
    """Return texts as the text of an array.

    >>> texts(["a-1", "null"])
    '{"a-1","null"}'
    """
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{joined}"}}'


def accepted(seqs: Iterable[int], jobs: Sequence[NewJob], now: int) -> list[c.Enqueued]:
    """Return the answers for new jobs that got these numbers at a time, in microseconds since the epoch."""
    at = seconds(now)
    return [c.Enqueued(_NEW, accept(seq, new, at)) for seq, new in zip(seqs, jobs, strict=True)]


def is_plain(new: NewJob) -> bool:
    """Tell whether a job has nothing that other jobs bear on: no key, no unique key, no id of the caller's, no pod."""
    return new.unique is None and new.key is None and not new.own_id and new.sticky is None


def _in_order(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return the rows of a claim in the order of the line; the statement returns them as they lie in the table."""
    found = sorted(rows, key=_in_line)
    if len(names) > 1:
        places = {name: place for place, name in enumerate(names)}
        found.sort(key=lambda row: places[row[_QUEUE]])
    return found


def _ends(rows: Sequence[Row], want: c.Want) -> dict[str, tuple[int, int, bool]]:
    """Return of each queue that gave jobs how far the claim came: the last one's place, and whether there were no more.

    rows: in the order of the queues.
    """
    counts = Counter(map(_queue, rows)) if len(want.queues) > 1 else {want.queues[0].queue: len(rows)}
    ends, left, behind = {}, want.limit, 0
    for one in want.queues:
        count = counts.get(one.queue, 0)
        if count:
            behind += count
            last = rows[behind - 1]
            ends[one.queue] = (last[_PRIO], last[_RUN_AT], count < min(one.limit, left))
            left -= count
    return ends


def _may_move(one: c.Settlement[Job]) -> bool:
    ending, job = one.ending, one.claim.item
    if type(ending) is not c.Succeeded or ending.update is not None or type(one.claim.ref) is not int:
        return False
    # A worker elsewhere sends no more of the job back than its reference.
    return type(job) is Job and job.key is None and job.last is not None


def _brought(told: Sequence[Any]) -> tuple[list[Any], str, list[Any], bytes | None]:
    """Return results, durations, tails, and the result that all have; no list where there is nothing in it, or one value."""
    results = [one.ending.result for one in told]
    alike = results.count(results[0]) == len(results)
    tails = []
    if [one for one in told if one.log or one.trace_id or one.span_id]:
        tails = [tail_of(one.log, one.trace_id, one.span_id) for one in told]
    durations = numbers([one.duration for one in told])
    return [] if alike else results, durations, tails, results[0] if alike else None


def _columns(figures: Sequence[Row]) -> Iterable[Sequence[Any]]:
    return zip(*figures, strict=True) if figures else _NO_FIGURES


def policy_of_new(new: NewJob) -> bytes | None:
    """Return the stored form of what a new job asks for besides; None for nothing."""
    return policy_of(new.retry, new.timeout, new.on_wait, new.unique_window, new.tags, new.headers, new.replay_of)


def _own_lease(row: Row, now: int, wanted: int) -> float:
    """Return the seconds of a lease that is the queue's own; 0 for the one that was wanted."""
    lease: int = row[_LEASE] - now
    return 0.0 if lease == wanted else lease / 1e6
