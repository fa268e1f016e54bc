"""The state of a ledger as a stream of records, and a ledger from such a stream.

    version | jobs, by seq | everything else, as facts | counters

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
_JOB, _FACTS, _COUNTERS, _VERSION = b"J", b"F", b"C", b"V"
_PART, _LAST = b"+", b"="
_HEAD: Final = 1 + _SEQ_BYTES


class Counters(msgspec.Struct, frozen=True, array_like=True):
    """What only grows."""

    next_seq: int
    stale_refused: int
    epoch: int


def version_record() -> bytes:
    """The first record."""
    return _VERSION + bytes([VERSION])


def job_record(job: Job) -> bytes:
    """The record of a job."""
    return _JOB + job.seq.to_bytes(_SEQ_BYTES, "big") + f.encode_job(job)


def seq_of_record(record: bytes) -> int | None:
    """The job's number if this is the record of a job; None for others."""
    return int.from_bytes(record[1:_HEAD], "big") if record[:1] == _JOB else None


def job_of_record(record: bytes) -> Job:
    """The job of a job's record. Raises msgspec.MsgspecError if it is damaged."""
    return f.decode_job(memoryview(record)[_HEAD:])


def rest_records(ledger: Ledger) -> Iterator[bytes]:
    """The records of everything but the jobs."""
    for facts in _rest(ledger):
        if facts:
            yield _FACTS + f.encode_facts(facts)
    yield _COUNTERS + msgspec.msgpack.encode(Counters(ledger.next_seq, ledger.stale_refused, ledger.epoch))


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
        if kind == _PART or kind == _LAST:  # noqa: PLR1714  # runs for each job of a snapshot
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
        self._version = 0
        self._whole = False
        self.jobs = 0

    def feed(self, record: bytes) -> None:
        """Take the next record. Raises StoreCorrupt or msgspec.MsgspecError for one that can not be."""
        kind = record[:1]
        if kind == _JOB:
            self._ledger.restore_job(job_of_record(record))
            self.jobs += 1
        elif kind == _FACTS:
            self._ledger.replay(f.decode_facts(memoryview(record)[1:]))
        elif kind == _COUNTERS:
            self._count(msgspec.msgpack.decode(memoryview(record)[1:], type=Counters))
        elif kind == _VERSION:
            self._version = record[1]
            check_version(record)
        else:
            raise StoreCorrupt(f"snapshot: expected a record that begins with J, F, C or V, found {kind!r}.")

    def _count(self, counters: Counters) -> None:
        ledger = self._ledger
        ledger.next_seq, ledger.stale_refused = counters.next_seq, counters.stale_refused
        ledger.epoch = counters.epoch
        self._whole = True

    def finish(self) -> None:
        """Put in order what depends on the order of events and not of acceptance. Raises StoreCorrupt if records are missing."""
        if not self._version or not self._whole:
            raise StoreCorrupt("snapshot: expected a version and counters, found the end. Use an older snapshot.")
        for line in self._ledger.index.lines.values():
            # Retention looks at the old end of these lines only.
            line.succeeded = deque(sorted(line.succeeded))
            line.ended = deque(sorted(line.ended))


def check_version(record: bytes) -> None:
    """Raise StoreCorrupt unless this version record can be read by this version of Holdfast."""
    if record[:1] == _VERSION and record[1] > VERSION:
        raise StoreCorrupt(
            f"snapshot: expected records of version {VERSION}, found {record[1]}. "
            "A newer Holdfast wrote them; start that version, or restore an older backup."
        )


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
    yield version_record()
    for seq in sorted(ledger.table):
        yield job_record(ledger.table[seq])
    yield from rest_records(ledger)
