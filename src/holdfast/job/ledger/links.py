"""Which process owns which key, and the lines of the jobs that only their owner may claim.

A sticky job is never in the ready line of its queue: it is claimable by the process that owns its key, or it waits for
an owner. Ownership is a link (a fact) whose process lives, so a lost process needs no fact per key: its jobs wait for an
owner as soon as its record says that it is gone.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from holdfast.job.commands.links import Bind, BoundKey, KeyLink, LinkFilter
from holdfast.job.facts import KeyLinked
from holdfast.job.ledger.lines import Heap
from holdfast.job.model import Instance, InstanceState

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

    from holdfast.job.draw import Draw
    from holdfast.job.ledger.ledger import Ledger

Address = tuple[str, str]  # service and key
#: A process that drains owns nothing any more: its keys may go to others as soon as their running jobs have ended.
_OWNS: Final = (InstanceState.STARTING, InstanceState.READY)


class Links:
    """All links, and which processes may own keys."""

    def __init__(self) -> None:
        self.by_key: dict[Address, KeyLinked] = {}
        self.of_instance: dict[str, dict[Address, None]] = {}
        self.owning: set[str] = set()  # instances

    def owner(self, service: str, key: str) -> str | None:
        """The process that owns a key now."""
        link = self.by_key.get((service, key))
        return link.instance if link is not None and link.pod is not None and link.instance in self.owning else None

    def put(self, link: KeyLinked) -> None:
        """Replace the link of a key."""
        address = (link.service, link.key)
        old = self.by_key.get(address)
        if old is not None:
            del self.of_instance[old.instance][address]
        self.by_key[address] = link
        self.of_instance.setdefault(link.instance, {})[address] = None

    def seen(self, instance: Instance) -> list[Address]:
        """Note what a process is doing; return the keys whose ownership may have changed by it."""
        owns = may_own(instance)
        if owns == (instance.id in self.owning):
            return []
        (self.owning.add if owns else self.owning.discard)(instance.id)
        return list(self.of_instance.get(instance.id, ()))

    def forget(self, instance: str) -> None:
        """Forget the links of a process that ended long ago."""
        self.owning.discard(instance)
        for address in self.of_instance.pop(instance, {}):
            del self.by_key[address]


def may_own(instance: Instance) -> bool:
    """Whether a process may own keys, as far as its record says."""
    return instance.state in _OWNS


class StickyLine:
    """The sticky jobs of a queue that are ready but for their owner: by owner, or waiting for one."""

    __slots__ = ("_heaps", "unowned", "where")

    def __init__(self) -> None:
        self._heaps: dict[tuple[str, bool], Heap] = {}  # by owner, suspects apart
        self.where: dict[int, tuple[str, bool] | None] = {}  # seq -> its heap; None: it waits for an owner
        self.unowned: dict[int, None] = {}

    def add(self, seq: int, entry: int, owner: str | None, *, suspect: bool) -> None:
        """Put a job in the line of its owner."""
        self.drop(seq)
        if owner is None:
            self.where[seq] = self.unowned[seq] = None
            return
        place = self.where[seq] = (owner, suspect)
        heap = self._heaps.get(place)
        if heap is None:
            heap = self._heaps[place] = Heap()
        heap.add(seq, entry)

    def drop(self, seq: int) -> None:
        """Take a job out, if it is here."""
        if seq not in self.where:
            return
        place = self.where.pop(seq)
        if place is None:
            del self.unowned[seq]
            return
        heap = self._heaps[place]
        heap.drop(seq)
        if not heap:
            del self._heaps[place]

    def first(self, owner: str, *, suspect: bool) -> int | None:
        """The first entry that `owner` may claim."""
        heap = self._heaps.get((owner, suspect))
        return None if heap is None else heap.first()


def ownerless(ledger: Ledger, queue: str, services: Collection[str], limit: int) -> Iterator[KeyLink]:
    """Up to `limit` keys whose next job waits in a queue for an owner, as the store last knew them."""
    line = ledger.line(queue)
    if line is None or line.queue.paused:
        return
    waiting = (ledger.table[seq] for seq in line.sticky.unowned)
    for job in islice((job for job in waiting if job.sticky in services and job.task not in ledger.stopped), limit):
        assert job.sticky is not None, "it waits for an owner"
        assert job.key is not None, "a sticky job has a key"
        known = ledger.links.get((job.sticky, job.key))
        yield KeyLink(job.sticky, job.key) if known is None else _link(known)


def _link(fact: KeyLinked) -> KeyLink:
    return KeyLink(fact.service, fact.key, fact.pod, fact.instance, fact.epoch)


def bind(ledger: Ledger, command: Bind, _now: float, _draw: Draw) -> Generator[KeyLinked, None, list[BoundKey]]:
    """Accept each link whose epoch is the newest and whose process lives."""
    answers: list[BoundKey] = []
    for link in command.links:
        known = ledger.links.get((link.service, link.key))
        why = _refusal(ledger, known, link)
        if not why and (known is None or _link(known) != link):
            yield KeyLinked(link.key, link.pod, link.instance, link.epoch, link.service)
        now = ledger.links.get((link.service, link.key))
        answers.append(BoundKey(not why, _link(now) if now else KeyLink(link.service, link.key), why))
    return answers


def _refusal(ledger: Ledger, known: KeyLinked | None, link: KeyLink) -> str:
    if known is not None and link.epoch < known.epoch:
        return f"epoch {link.epoch} is older than {known.epoch}"
    if known is not None and link.epoch == known.epoch and _link(known) != link and not _gives_up(known, link):
        return f"epoch {link.epoch} is taken by {_named(known)}"
    if link.pod is not None and link.instance not in ledger.index.links.owning:
        return f"no live process {link.instance!r} may own keys"
    return ""


def _gives_up(known: KeyLinked, link: KeyLink) -> bool:
    """An owner gives its key up under the epoch that it has; the epoch can not be used again."""
    return link.pod is None and link.instance == known.instance


def _named(link: KeyLinked) -> str:
    return f"pod {link.pod} ({link.instance})" if link.pod is not None else "a link that was given up"


def links_of(ledger: Ledger, which: LinkFilter) -> list[KeyLink]:
    """Links in order of service and key."""
    if which.service is not None and which.key is not None:
        known = ledger.links.get((which.service, which.key))
        found = [] if known is None else [known]
    elif which.instance is not None:
        found = [ledger.links[address] for address in sorted(ledger.index.links.of_instance.get(which.instance, ()))]
    else:
        found = [link for _, link in sorted(ledger.links.items())]
    return [_link(link) for link in found if _matches(link, which)][: which.limit]


def _matches(link: KeyLinked, which: LinkFilter) -> bool:
    return (
        (which.service is None or link.service == which.service)
        and (which.key is None or link.key == which.key)
        and (which.instance is None or link.instance == which.instance)
        and (which.after is None or (link.service, link.key) > which.after)
    )
