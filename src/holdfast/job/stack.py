"""Jobs that are alike: what a bulk enqueue mostly consists of. Checked, sent and answered together, they cost far less."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from holdfast.job.model import NewJob

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stack(msgspec.Struct, frozen=True, gc=False):
    """One job or more that differ in id and payload alone. `like` is any of them; ids and payloads are in their order."""

    like: NewJob
    ids: list[str]
    payloads: list[bytes]

    def jobs(self) -> list[NewJob]:
        """Return them one by one."""
        like = self.like
        return [replace(like, id=one, payload=payload) for one, payload in zip(self.ids, self.payloads, strict=True)]

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return sum(map(len, self.payloads))


class Batch(Iterable[NewJob]):
    """Jobs that a store may also take in stacks. To be drawn once, one way or the other."""

    @abstractmethod
    def stacks(self) -> Iterator[Stack]:
        """Yield them in their order."""
        ...


def alike(first: NewJob, new: NewJob) -> bool:
    """Tell whether two jobs differ in id and payload alone."""
    return (
        new.queue == first.queue
        and new.task == first.task
        and new.priority == first.priority
        and new.run_at == first.run_at
        and new.delay == first.delay
        and new.retry == first.retry
        and new.timeout == first.timeout
        and new.tags == first.tags
        and new.headers == first.headers
        and new.key == first.key
        and new.unique == first.unique
        and new.unique_window == first.unique_window
        and new.sticky == first.sticky
        and new.replay_of == first.replay_of
        and new.own_id is first.own_id
        and new.on_wait is first.on_wait
        and new.on_conflict is first.on_conflict
        and type(new) is type(first)
    )


def stacked(jobs: Iterable[NewJob]) -> Iterator[Stack]:
    """Yield jobs in stacks of neighbours that are alike.

    >>> [stack.ids for stack in stacked(NewJob(id=name, task=name[0]) for name in ("a1", "a2", "b1"))]
    [['a1', 'a2'], ['b1']]
    """
    stack: Stack | None = None
    for new in jobs:
        if stack is None or not alike(stack.like, new):
            if stack is not None:
                yield stack
            stack = Stack(new, [], [])
        stack.ids.append(new.id)
        stack.payloads.append(new.payload)
    if stack is not None:
        yield stack
