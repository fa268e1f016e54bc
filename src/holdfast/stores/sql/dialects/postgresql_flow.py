"""A large batch is stored while it is still being made: the database stores one part while the next one is drawn.

To check and encode a thousand jobs takes about as long as to store them. So the parts of a batch go one after the other, in
one transaction, and what can be done without the database (drawing the next jobs, making the answers for the last ones) is
done while it works. The parts grow, so that the first one is soon on its way. Nothing is stored unless all is: what the
jobs raise while they are drawn ends the transaction.
"""

from __future__ import annotations

from itertools import chain, islice
from operator import length_hint
from typing import TYPE_CHECKING, Final, NamedTuple

from holdfast.job.commands import Enqueue, OnDuplicate
from holdfast.job.ledger.enqueueing import check_batch, check_size
from holdfast.stores.sql.dialects.postgresql_hot import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.job.commands import Enqueued
    from holdfast.job.model import NewJob
    from holdfast.stores.sql.dialects.postgresql_hot import PostgresHot
    from holdfast.stores.sql.script import Row, Script, Statement, Step

#: Below so many jobs, two round trips more cost as much as they bring.
FLOW_MIN: Final = 300
_FIRST: Final = 128
_MOST: Final = 1_024
#: How many jobs are drawn, and answered, before it is looked whether the database has answered.
_PIECE: Final = 64


class NotPlain(Exception):
    """Only the rules can tell what is to be done with this batch. Nothing of it was stored."""


class Flowed(NamedTuple):
    """The answers for a batch; the last ones are added while `rest` is walked along."""

    answers: list[Enqueued]
    rest: Iterator[None]


class Drawn:
    """The jobs of a batch as far as they were drawn, checked; kept, so that a script may begin anew."""

    def __init__(self, jobs: Iterable[NewJob], on_duplicate: OnDuplicate) -> None:
        self.jobs: list[NewJob] = []
        self._rest, self._on_duplicate = iter(jobs), on_duplicate
        self._bytes = 0
        #: Whether there are so many that parts of them are to be stored while others are drawn.
        self.flows = length_hint(jobs) >= FLOW_MIN

    def up_to(self, count: int) -> Iterator[None]:
        """Draw until there are so many, in small pieces. Raises TooLarge and ContentError, and whatever the jobs raise."""
        while len(self.jobs) < count:
            piece = tuple(islice(self._rest, min(_PIECE, count - len(self.jobs))))
            if not piece:
                return
            check_batch(Enqueue(jobs=piece, on_duplicate=self._on_duplicate))
            self._bytes += sum([len(new.payload) for new in piece])
            self.jobs += piece
            check_size(len(self.jobs), self._bytes)
            yield

    def all(self) -> Enqueue:
        """Draw all; return the command to store them."""
        self.jobs += self._rest
        command = Enqueue(jobs=tuple(self.jobs), on_duplicate=self._on_duplicate)
        check_batch(command)
        return command


def enqueue_flowing(hot: PostgresHot, step: Step, drawn: Drawn) -> Script[Flowed]:
    """Store a batch of plain jobs part by part. Raises NotPlain when it is not as plain as that."""
    answers: list[Enqueued] = []
    rest: Iterator[None] = iter(())
    parts = _Parts(hot, drawn)
    _walk(parts.make_next())
    while parts.next is not None:
        part, statement = parts.next
        work = chain(parts.make_next(), rest)
        rows = yield statement._replace(meanwhile=work)
        _walk(work)  # what there was no time for
        if not rows:
            raise NotPlain
        step.ready |= {new.queue for new in part}
        rest = _answer(hot, rows, part, answers)
    step.jobs = parts.made
    return Flowed(answers, rest)


class _Parts:
    """The parts of a batch, each made while the one before is being stored."""

    def __init__(self, hot: PostgresHot, drawn: Drawn) -> None:
        self._hot, self._drawn = hot, drawn
        self._ids: set[str] = set()
        self._size = _FIRST
        self.made = 0
        self.next: tuple[list[NewJob], Statement] | None = None

    def make_next(self) -> Iterator[None]:
        """Draw the next part and make its statement, in small pieces. Raises NotPlain, and whatever the jobs raise."""
        self.next = None
        yield from self._drawn.up_to(self.made + self._size)
        part = self._drawn.jobs[self.made : self.made + self._size]
        if not part:
            return
        self.made, self._size = self.made + len(part), min(_MOST, self._size * 2)
        self._ids.update([new.id for new in part])
        plain = len(self._ids) == self.made and all(map(is_plain, part))
        statement = self._hot.enqueue_statement(part) if plain else None
        if statement is None:
            raise NotPlain
        self.next = part, statement


def _answer(hot: PostgresHot, rows: list[Row], part: list[NewJob], answers: list[Enqueued]) -> Iterator[None]:
    for start in range(0, len(part), _PIECE):
        answers += hot.stored(rows[start : start + _PIECE], part[start : start + _PIECE])
        yield


def _walk(work: Iterator[None]) -> None:
    for _ in work:
        pass
