"""The state of a ledger as a stream of records, and a ledger from such a stream.

    head | jobs, by seq | everything else, as facts | counters

Each record begins with a letter. A job record carries the job's number in front of its encoding, so that who merges
snapshots can pass a job on without decoding it. Everything else is small; it is written as the facts that make it
(QueueSaved, DefinitionSaved …), so a snapshot and a replay can not differ in what they can express. A record above
PART_BYTES is cut into parts: a job with two hundred long error texts is larger than what the log takes at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import StoreCorrupt
from holdfast.job import facts as f

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.job.ledger.ledger import Ledger
    from holdfast.job.model import Job

VERSION: Final = 1
PART_BYTES: Final = 4 * 1024 * 1024
_SEQ_BYTES: Final = 8
_HEAD, _JOB, _FACTS, _COUNTERS = b"H", b"J", b"F", b"C"
_PART, _LAST = b"+", b"="
_CUT: Final = frozenset({_PART, _LAST})
_JOB_AT: Final = 1 + _SEQ_BYTES  # where the job begins in its record


class Head(msgspec.Struct, frozen=True, array_like=True):
    """The first record: the version of all others, and the number that the next job will get."""

    version: int
    next_seq: int


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """The last record: what only grows."""

    stale_refused: int
    epoch: int


def head_record(next_seq: int) -> bytes:
    """The first record."""
    return _HEAD + msgspec.msgpack.encode(Head(VERSION, next_seq))


def head_of_record(record: bytes) -> Head:
    """What the first record says. Raises StoreCorrupt unless this version of Holdfast can read what follows."""
    if record[:1] != _HEAD:
        raise StoreCorrupt(f"snapshot: expected a head record, found one that begins with {record[:1]!r}.")
    head = msgspec.msgpack.decode(record[1:], type=Head)
    if head.version > VERSION:
        raise StoreCorrupt(
            f"snapshot: expected records of version {VERSION}, found {head.version}. "
            "A newer Holdfast wrote them; start that version, or restore an older backup."
        )
    return head


def job_record(job: Job) -> bytes:
    """The record of a job."""
    return _JOB + job.seq.to_bytes(_SEQ_BYTES, "big") + f.encode_job(job)


def seq_of_record(record: bytes) -> int | None:
    """The job's number if this is the record of a job; None for others."""
    return int.from_bytes(record[1:_JOB_AT], "big") if record[:1] == _JOB else None


def job_of_record(record: bytes) -> Job:
    """The job of a job's record. Raises msgspec.MsgspecError if it is damaged."""
    return f.decode_job(record[_JOB_AT:])


def rest_records(ledger: Ledger) -> Iterator[bytes]:
    """The records of everything but the jobs."""
    for facts in _rest(ledger):
        if facts:
            yield _FACTS + f.encode_facts(facts)
    yield _COUNTERS + msgspec.msgpack.encode(Counters(ledger.stale_refused, ledger.epoch))


def _rest(ledger: Ledger) -> Iterator[list[f.Fact]]:
    yield [f.QueueSaved(line.queue) for _, line in sorted(ledger.index.lines.items())]
    yield [f.DefinitionSaved(definition) for _, definition in sorted(ledger.definitions.items())]
    yield [f.ScheduleSaved(schedule) for _, schedule in sorted(ledger.schedules.items())]
    yield [f.WorkerSaved(config) for _, config in sorted(ledger.workers.items())]
    yield [f.InstanceSaved(instance) for _, instance in sorted(ledger.instances.items())]
    for _, operation in sorted(ledger.operations.items()):
        yield [f.OperationSaved(operation)]
    links = [link for _, link in sorted(ledger.links.items())]
    for start in range(0, len(links), 10_000):
        yield list(links[start : start + 10_000])
    yield list(ledger.audit)
    if ledger.exported is not None:
        yield [f.Exported(True, ledger.exported)]
        gone = sorted(ledger.gone)
        for start in range(0, len(gone), 10_000):
            yield [f.Forgotten(tuple(gone[start : start + 10_000]))]
    yield from ledger.rollup.facts()
    yield from ledger.reports.facts()


def cut(records: Iterable[bytes], part_bytes: int = PART_BYTES) -> Iterator[bytes]:
    """Cut records that are too long for the log into parts; `joined` undoes it."""
    for record in records:
        if len(record) <= part_bytes:
            yield record
            continue
        starts = range(0, len(record), part_bytes)
        for start in starts:
            yield (_LAST if start == starts[-1] else _PART) + record[start : start + part_bytes]


def joined(records: Iterable[bytes]) -> Iterator[bytes]:
    """Put parts together again."""
    parts: list[bytes] = []
    for record in records:
        kind = record[:1]
        if kind in _CUT:
            parts.append(record[1:])
            if kind == _LAST:
                yield b"".join(parts)
                parts.clear()
        else:
            yield record
    if parts:
        raise StoreCorrupt("snapshot: expected the last part of a record, found the end of the file.")


class Restorer:
    """Puts the records of a snapshot into an empty ledger: `feed` each, in order, then `finish`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begun = self._ended = False
        self.jobs = 0

    def feed(self, record: bytes) -> None:
        """Take the next record. Raises StoreCorrupt or msgspec.MsgspecError for one that can not be."""
        kind = record[:1]
        if kind == _JOB:
            self._ledger.restore_job(job_of_record(record))
            self.jobs += 1
        elif kind == _FACTS:
            self._ledger.replay(f.decode_facts(record[1:]))
        elif kind == _COUNTERS:
            counters = msgspec.msgpack.decode(record[1:], type=Counters)
            self._ledger.stale_refused, self._ledger.epoch = counters.stale_refused, counters.epoch
            self._ended = True
        else:
            self._ledger.next_seq = head_of_record(record).next_seq
            self._begun = True

    def finish(self) -> None:
        """Put in order what follows from the order of events, not of acceptance.

        Raises StoreCorrupt if records are missing.
        """
        if not self._begun or not self._ended:
            raise StoreCorrupt("snapshot: expected a head and counters, found the end without them.")
        for line in self._ledger.index.lines.values():
            # Retention looks at the old end of these lines only.
            line.succeeded = deque(sorted(line.succeeded))
            line.ended = deque(sorted(line.ended))


def restore(ledger: Ledger, records: Iterable[bytes]) -> int:
    """Put the records of a snapshot into an empty ledger and return how many jobs there are."""
    restorer = Restorer(ledger)
    feed = restorer.feed
    for record in joined(records):
        feed(record)
    restorer.finish()
    return restorer.jobs


def records_of(ledger: Ledger) -> Iterator[bytes]:
    """The whole state of a ledger as records."""
    yield head_record(ledger.next_seq)
    for seq in sorted(ledger.table):
        yield job_record(ledger.table[seq])
    yield from rest_records(ledger)
