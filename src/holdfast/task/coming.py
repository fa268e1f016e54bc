"""The jobs of an `enqueue_many`: each is made when the store asks for it, so that both work at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.job.stack import Batch, stacked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.job.model import NewJob
    from holdfast.job.stack import Stack


class Coming(Batch):
    """Jobs that are made as they are drawn, and kept. To be drawn once.

    count: how many there are in all. tasks: the aliases of their tasks.
    """

    def __init__(self, stacks: Iterable[Stack], count: int, tasks: frozenset[str]) -> None:
        self._rest = iter(stacks)
        self.count, self.tasks = count, tasks
        self._kept: list[Stack] = []

    @classmethod
    def of(cls, jobs: Sequence[NewJob]) -> Coming:
        """Jobs that are made already."""
        return cls(stacked(jobs), len(jobs), frozenset({job.task for job in jobs}))

    def __length_hint__(self) -> int:
        return self.count

    def stacks(self) -> Iterator[Stack]:
        """See Batch."""
        keep = self._kept.append
        for stack in self._rest:
            keep(stack)
            yield stack

    def __iter__(self) -> Iterator[NewJob]:
        for stack in self.stacks():
            yield from stack.jobs()

    @property
    def size(self) -> int:
        """Bytes of payload of those that were drawn."""
        return sum([stack.size for stack in self._kept])

    def all(self) -> list[NewJob]:
        """Make all that are not made yet; return all."""
        self._kept += self._rest
        return [job for stack in self._kept for job in stack.jobs()]
