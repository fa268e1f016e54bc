"""Makes a snapshot from files: the last snapshot, and what happened since, folded job by job.

    snapshot at K      job 1, job 2, job 5 …                     sorted by seq
    frames K+1 … L     facts about job 2, about job 9 (new) …    kept by job, in order
    snapshot at L      job 1, fold(job 2), job 5 … job 9         one pass over both

A job that was not touched is copied as bytes. No index is built, and only what changed is held in memory. `fold` is the
very function that recovery uses, so a snapshot and a replay can not come to different jobs. Nothing here needs the
process that writes the journal: `fold_main.py` runs this in a process of its own.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final, cast

import msgspec

from holdfast.errors import StoreCorrupt, StoreError
from holdfast.job import facts as f
from holdfast.job.ledger import Ledger, fold, snapshot
from holdfast.job.ledger.rollup import RollUp
from holdfast.job.ledger.tally import Reports
from holdfast.stores.journal.frames import facts_of, impossible
from holdfast.wal import Retirement, plan_retirement, publish_snapshot, read_snapshot, scan
from holdfast.wal.chain import survey
from holdfast.wal.files import calls, opened
from holdfast.wal.layout import read_identity, snapshot_name
from holdfast.wal.snapshot import newest_valid_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.job.model import Job
    from holdfast.wal import Files

_JOB_FACTS: Final = frozenset(f.JobFact.__args__)


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that was written, read again and found right; and which files it makes unnecessary.

    changed: jobs that differ from the snapshot before. size in bytes, seconds of work.
    """

    number: int
    jobs: int
    changed: int
    size: int
    seconds: float
    retirement: Retirement


class Counted:
    """What ended, as a ledger counts it."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self.rollup, self.reports = RollUp(), Reports()

    def note(self, before: Job, fact: f.JobFact, after: Job | None) -> None:
        """Count what a fact about a job ends."""
        if type(fact) is f.Succeeded:
            self.rollup.succeeded((before,), (fact,))
        elif type(fact) is f.Ended:
            self.rollup.ended(before, fact)
        elif type(fact) is f.Recorded and after is not None:
            self.reports.note(before, after)


class Changes:
    """What happened since a snapshot, by job."""

    def __init__(self, next_seq: int) -> None:
        """next_seq: the first number that the snapshot does not know."""
        self.next_seq = next_seq
        self.new: dict[int, Job] = {}  # jobs that the snapshot does not know, as they are now; in order of acceptance
        self.old: dict[int, list[f.JobFact]] = {}  # facts about jobs of the snapshot
        self.gone: set[int] = set()  # purged jobs of the snapshot
        self.rest: list[f.Fact] = []  # facts about anything else
        self.counted = Counted()  # what ended

    def take(self, fact: f.Fact) -> None:
        """Keep what this fact changes. Raises as `fold`."""
        if isinstance(fact, f.Added | f.Recorded) and fact.seq >= self.next_seq:
            self.new[fact.seq] = fact.job
            self.counted.reports.note(None, fact.job)
            self.next_seq = fact.seq + 1
        elif isinstance(fact, f.Refused):
            self.rest.append(fact)  # it is counted, whether its job is still there or not
            self._take_of_job(fact)
        elif type(fact) in _JOB_FACTS:
            self._take_of_job(cast("f.JobFact", fact))
        else:
            self.rest.append(fact)

    def _take_of_job(self, fact: f.JobFact) -> None:
        seq = fact.seq
        if type(fact) is f.Purged and not fact.lapsed:
            self.rest.append(f.Forgotten((seq,)))  # an exporter, if there is one, is still to be told
        job = self.new.get(seq)
        if job is None:
            if type(fact) is f.Purged:
                self.gone.add(seq)  # what ended before is still counted
            else:
                self.old.setdefault(seq, []).append(fact)
            return
        after = fold(job, fact)
        self.counted.note(job, fact, after)
        if after is None:
            del self.new[seq]
        else:
            self.new[seq] = after

    def assert_used(self) -> None:
        """Raise StoreCorrupt if there were facts about jobs that never were. A refusal may speak of a purged job."""
        for seq, facts in self.old.items():
            strange = [fact for fact in facts if type(fact) is not f.Refused]
            if strange:
                raise StoreCorrupt(f"journal: {type(strange[0]).__name__} speaks of job seq {seq}, which is not there.")


class Folder:
    """One folding: `records` may be read once; then `jobs` and `digest` describe what was read."""

    def __init__(self, files: Files, number: int, base: int) -> None:
        """Fold everything up to frame `number` over the snapshot `base` (0: there is none)."""
        self._files, self._base = files, base
        self.changes = Changes(self._next_seq())
        self.jobs = self.changed = 0
        self.digest = hashlib.blake2b()
        for frame in scan(files, base + 1, number):
            try:
                for fact in facts_of(frame):
                    self.changes.take(fact)
            except (StoreError, ValueError) as error:
                raise impossible(frame.number, error) from error

    def _next_seq(self) -> int:
        if not self._base:
            return 1
        return snapshot.head_of_record(next(read_snapshot(self._files, self._base), b"")).next_seq

    def records(self) -> Iterator[bytes]:
        """Yield the records of the new snapshot."""
        for record in self._merged():
            self.digest.update(record)
            yield record

    def _merged(self) -> Iterator[bytes]:
        rest = Ledger()
        rest.rollup, rest.reports = self.changes.counted.rollup, self.changes.counted.reports
        yield snapshot.head_record(self.changes.next_seq)
        if self._base:
            yield from self._jobs_of_base(snapshot.Restorer(rest))
        self.changes.assert_used()
        for job in self.changes.new.values():
            yield self._count(snapshot.job_record(job))
        self.changed += len(self.changes.new)
        rest.replay(self.changes.rest)
        yield from snapshot.rest_records(rest)

    def _jobs_of_base(self, restorer: snapshot.Restorer) -> Iterator[bytes]:
        """Yield the jobs of the last snapshot as they are now; give everything else to `restorer`."""
        old, gone = self.changes.old, self.changes.gone
        for record in snapshot.joined(read_snapshot(self._files, self._base)):
            seq = snapshot.seq_of_record(record)
            if seq is None:
                restorer.feed(record)
            elif seq in gone:
                self.changed += 1
                _folded(record, old.pop(seq, []), self.changes.counted)
            elif seq in old:
                self.changed += 1
                yield self._count(_folded(record, old.pop(seq), self.changes.counted))
            else:
                yield self._count(record)
        restorer.finish()

    def _count(self, record: bytes) -> bytes:
        self.jobs += 1
        return record

    def same(self, records: Iterator[bytes]) -> bool:
        """Decode what was written, as recovery will; tell whether it is what was meant."""
        digest, jobs, last = hashlib.blake2b(), 0, 0
        for record in snapshot.joined(records):
            digest.update(record)
            seq = snapshot.seq_of_record(record)
            if seq is not None:
                if snapshot.job_of_record(record).seq != seq or seq <= last:
                    return False
                jobs, last = jobs + 1, seq
        return (jobs, digest.digest()) == (self.jobs, self.digest.digest())


def _folded(record: bytes, facts: list[f.JobFact], counted: Counted) -> bytes:
    job: Job | None = snapshot.job_of_record(record)
    for fact in facts:
        before, job = job, fold(job, fact)
        if before is not None:
            counted.note(before, fact, job)
    assert job is not None, "what was purged stands in `gone`"
    return snapshot.job_record(job)


def fold_snapshot(files: Files, number: int, base: int | None = None) -> Folded:
    """Write the snapshot of all frames up to `number`, the end of a sealed segment; return what was done.

    base: the snapshot to start from, which is known to be valid (0: none); None: the newest valid one is looked for.
    Raises NotReady, LogFull (there must be room for it), LogDamaged, StoreCorrupt; then nothing is left behind.
    """
    begin = time.perf_counter()
    if base is None:
        base = _newest_below(files, number)
    folder = Folder(files, number, base)
    records = snapshot.cut(folder.records())
    info = publish_snapshot(files, number, records, check=folder.same, expected_size=_size(files, base))
    return Folded(
        number=number,
        jobs=folder.jobs,
        changed=folder.changed,
        size=info.size,
        seconds=time.perf_counter() - begin,
        retirement=plan_retirement(files),
    )


def _newest_below(files: Files, number: int) -> int:
    with calls(f"{files.path}: looking for snapshots"):
        identity = read_identity(files)
        if identity is None:
            return 0
        numbers = [known for known in survey(files, identity).snapshots if known < number]
        info, _ = newest_valid_snapshot(files, numbers, identity.store_id)
        return 0 if info is None else info.number


def _size(files: Files, number: int) -> int:
    """Bytes of a snapshot; the next one will not be much smaller."""
    if not number:
        return 0
    with calls(f"{files.path}: looking at snapshot {number}"), opened(files, snapshot_name(number)) as handle:
        return files.size(handle)
