"""The jobs of an `enqueue_many`: each is made when the store asks for it, so that both work at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.job.model import NewJob


class Coming:
    """Jobs that are made as they are drawn, and kept. To be drawn once; `kept` has what was drawn.

    count: how many there are in all. tasks: the aliases of their tasks.
    """

    def __init__(self, jobs: Iterable[NewJob], count: int, tasks: frozenset[str]) -> None:
        self._rest = iter(jobs)
        self.count, self.tasks = count, tasks
        self.kept: list[NewJob] = []

    @classmethod
    def of(cls, jobs: Sequence[NewJob]) -> Coming:
        """Jobs that are made already."""
        return cls(jobs, len(jobs), frozenset({job.task for job in jobs}))

    def __length_hint__(self) -> int:
        return self.count - len(self.kept)

    def __iter__(self) -> Iterator[NewJob]:
        keep = self.kept.append
        for job in self._rest:
            keep(job)
            yield job

    def all(self) -> list[NewJob]:
        """Make all that are not made yet; return all."""
        self.kept += self._rest
        return self.kept
