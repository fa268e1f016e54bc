"""A large batch is stored while it is still being made: the database stores some jobs while the next ones are drawn.

To check and encode a thousand jobs takes a good part of the time that it takes to store them. So their rows are copied into
the table as they come, all in one transaction. Nothing is stored unless all is: what the jobs raise while they are drawn ends
the transaction. The table numbers them one after the other; between two of ours others may take some.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain, islice
from operator import length_hint
from typing import TYPE_CHECKING, Final, SupportsIndex, overload

from holdfast.job.commands import Enqueue, Enqueued, OnDuplicate
from holdfast.job.ledger.enqueueing import check_batch, check_size
from holdfast.job.stack import Batch, stacked
from holdfast.stores.sql.dialects.postgresql_copy import COLUMNS, HEAD, TAIL, encode
from holdfast.stores.sql.dialects.postgresql_hot import accepted, is_plain
from holdfast.stores.sql.dialects.postgresql_texts import AFTER_COPY, BEFORE_COPY, MAY_TAKE, WAS_PLAIN
from holdfast.stores.sql.script import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.job.model import NewJob
    from holdfast.job.stack import Stack
    from holdfast.stores.sql.dialects.postgresql import PostgresDialect
    from holdfast.stores.sql.script import Script, Step

#: Below so many jobs, the round trips cost as much as they bring.
FLOW_MIN: Final = 300
#: How many jobs of a list are looked at together.
_PIECE: Final = 128
#: The server keeps up to a thousand rows of a COPY at a time, and pays for the square of how many it did: where that is not
#: spread over many rows, a COPY takes half as many.
_COPY: Final = 480
_LONG: Final = 3_000
_ALL: Final = 1_000_000


class NotPlain(Exception):
    """Only the rules can tell what is to be done with this batch. Nothing of it was stored."""


class Answers(Sequence[Enqueued]):
    """The answers for a batch of new jobs, made when somebody first looks at one."""

    def __init__(self, stacks: Sequence[Stack], seqs: Sequence[int], now: int) -> None:
        """seqs: their numbers; now: when they were stored, in microseconds since the epoch."""
        self._stacks, self._seqs, self._now = stacks, seqs, now

    @cached_property
    def _answers(self) -> list[Enqueued]:
        jobs = [new for stack in self._stacks for new in stack.jobs()]
        return accepted(self._seqs, jobs, self._now)

    def __len__(self) -> int:
        return len(self._seqs)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Enqueued: ...

    @overload
    def __getitem__(self, place: slice) -> list[Enqueued]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Enqueued | list[Enqueued]:
        return self._answers[place]

    def __iter__(self) -> Iterator[Enqueued]:
        return iter(self._answers)


class Drawn:
    """The jobs of a batch as far as they were drawn, checked; kept, so that a script may begin anew."""

    def __init__(self, jobs: Iterable[NewJob], on_duplicate: OnDuplicate) -> None:
        self.count = length_hint(jobs)
        #: Whether there are so many that some of them are to be stored while others are drawn.
        self.flows = self.count >= FLOW_MIN
        self.stacks: list[Stack] = []
        self._on_duplicate, self._jobs, self._bytes, self._made = on_duplicate, jobs, 0, 0
        self._rest = iter(()) if not self.flows else jobs.stacks() if isinstance(jobs, Batch) else _stacks(iter(jobs))

    def draw(self) -> Iterator[Stack]:
        """Draw the rest. Raises TooLarge and ContentError, and whatever the jobs raise."""
        for stack in self._rest:
            self.stacks.append(stack)
            self._check(stack)
            yield stack

    def _check(self, stack: Stack) -> None:
        check_batch(Enqueue(jobs=(stack.like,), on_duplicate=self._on_duplicate))
        self._made += len(stack.ids)
        self._bytes += stack.size
        check_size(self._made, self._bytes)

    def all(self) -> Enqueue:
        """Draw all; return the command to store them."""
        stacks = chain(self.stacks, self._rest)
        jobs = (new for stack in stacks for new in stack.jobs()) if self.flows else self._jobs
        command = Enqueue(jobs=tuple(jobs), on_duplicate=self._on_duplicate)
        check_batch(command)
        return command


def _stacks(jobs: Iterator[NewJob]) -> Iterator[Stack]:
    while piece := tuple(islice(jobs, _PIECE)):
        check_batch(Enqueue(jobs=piece))
        yield from stacked(piece)


def enqueue_flowing(db: PostgresDialect, step: Step, drawn: Drawn) -> Script[Answers]:
    """Store a batch of plain jobs while it is drawn. Raises NotPlain when it is not as plain as that."""
    if not db.hot.may_take:
        [[may]] = yield Statement(MAY_TAKE.format(**db.tables))
        if not may:
            raise NotPlain
        db.hot.may_take = True
    coming = drawn.draw()
    first = next(coming)
    like = first.like
    known = yield Statement(BEFORE_COPY.format(**db.tables), (db.steered(), like.task, like.queue, min(first.ids)))
    if not known:
        raise NotPlain
    [[now, before, may_have_ended]] = known
    copied = _Copied(chain((first,), coming), now)
    while not copied.all:
        limit = _COPY if drawn.count < _LONG else _ALL
        yield Statement("COPY", (f"{db.prefix}job", db.schema, COLUMNS), copy=copied.pieces(limit))
    [[last, seqs]] = yield Statement(AFTER_COPY.format(**db.tables), (before, copied.count))
    if may_have_ended or copied.others(min(first.ids)):
        queues, tasks, ids = copied.queues, copied.tasks, [name for stack in drawn.stacks for name in stack.ids]
        [[plain]] = yield Statement(WAS_PLAIN.format(**db.tables), (list(queues), list(tasks), ids))
        if not plain:
            raise NotPlain
    step.ready |= copied.queues
    step.jobs = copied.count
    return Answers(drawn.stacks, seqs or range(before + 1, last + 1), now)


class _Copied:
    """A batch on its way into the table."""

    def __init__(self, stacks: Iterator[Stack], now: int) -> None:
        self._stacks, self._now = stacks, now
        self.all = False
        self.count = 0
        self.queues: set[str] = set()
        self.tasks: set[str] = set()
        self._ids: set[str] = set()
        self._lowest: list[str] = []

    def others(self, lowest: str) -> bool:
        """Whether some were not seen by the look before: of another queue or task, or with an id below `lowest`."""
        return len(self.queues) + len(self.tasks) > 2 or min(self._lowest) < lowest

    def pieces(self, limit: int) -> Iterator[bytes]:
        """Yield rows as the database takes them, some more than `limit`. Raises NotPlain, and whatever the jobs raise."""
        yield HEAD
        end = self.count + limit
        for stack in self._stacks:
            self._note(stack)
            yield encode(stack, self._now)
            if self.count >= end:
                break
        else:
            self.all = True
        yield TAIL

    def _note(self, stack: Stack) -> None:
        ids = stack.ids
        self.count += len(ids)
        self._ids.update(ids)
        self._lowest.append(min(ids))
        self.queues.add(stack.like.queue)
        self.tasks.add(stack.like.task)
        if not is_plain(stack.like) or len(self._ids) < self.count:
            raise NotPlain
