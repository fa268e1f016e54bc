"""Keys and their owners: what a claim has to know of them, and how they change.

A link is a row of its own; the job that is next in the line of its key carries the link's process as `owner` (see lanes).
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from holdfast.job import commands as c
from holdfast.job.commands.hot import OWNERLESS_MAX
from holdfast.job.facts import KeyLinked
from holdfast.job.ledger import execute
from holdfast.stores.sql.lanes import lock_lanes, nobody, set_owners
from holdfast.stores.sql.rows import seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from holdfast.job.ledger import Ledger
    from holdfast.job.model import Job
    from holdfast.stores.sql.script import Row, Script, Step

#: How many keys are let go of by one statement.
_PAGE: Final = 1_000
#: Whether a process owns keys, and which others no longer do that had some of a service. The order makes planners take the
#: index whatever they believe of the table; for EXISTS they would walk through it.
_WHO: Final = (
    "SELECT id, owns FROM {instance} WHERE (id = ? AND owns = 1) OR (owns = 0 AND"
    " (SELECT its.lane_key FROM {link} AS its WHERE its.instance = {instance}.id AND its.service = ? AND its.pod >= 0"
    " ORDER BY its.lane_key LIMIT 1) IS NOT NULL)"
)
_MINE: Final = (
    "SELECT seq FROM {job} WHERE queue = ? AND owner = ? AND sticky IS NOT NULL AND ready > 2"
    " ORDER BY ready, prio, run_at, seq LIMIT 1"
)
_OWNERLESS: Final = (
    "SELECT head.sticky, head.lane_key, its.pod, its.instance, its.epoch FROM {job} AS head"
    " LEFT JOIN {link} AS its ON its.service = head.sticky AND its.lane_key = head.lane_key"
    " WHERE head.queue {texts} AND head.sticky IS NOT NULL AND head.ready IN (3, 4) AND head.owner = ?"
    " AND head.sticky {texts}"
    " AND NOT EXISTS (SELECT 1 FROM {queue} AS line WHERE line.name = head.queue AND line.paused = 1)"
    " AND NOT EXISTS (SELECT 1 FROM {definition} AS task WHERE task.alias = head.task AND task.stopped = 1)"
    " LIMIT ?"
)
_LINKS: Final = "SELECT lane_key, pod, instance, epoch, service FROM {link}"


# --- claims --------------------------------------------------------------------------------------------------------


def look(step: Step, want: c.Want) -> Script[tuple[bool, tuple[c.KeyLink, ...]]]:
    """Tell whether jobs are in line for this process alone, and which keys wait for an owner."""
    if not want.sticky:
        return False, ()
    queues = [one.queue for one in want.queues]
    gone, owns = {want.instance}, False  # one that is lost and asks all the same owns nothing either
    for service in want.sticky:
        for name, may_own in (yield step.db.q(_WHO, want.instance, service)):
            owns = owns or bool(may_own)
            gone.add(name)
    if owns:
        gone.discard(want.instance)
    mine = False
    for queue in queues if owns else ():
        mine = mine or bool((yield step.db.q(_MINE, queue, want.instance)))
    rows: list[Row] = []
    # One after the other, as there are few: asked for all at once, planners like to walk over the jobs of those who live.
    for owner in (*map(nobody, want.sticky), *sorted(gone)):
        if len(rows) < OWNERLESS_MAX:
            rows += yield step.db.q(_OWNERLESS, queues, owner, list(want.sticky), OWNERLESS_MAX - len(rows))
    return mine, tuple(_key(*row) for row in sorted(rows, key=itemgetter(0, 1)))


def _key(service: str, key: str, pod: int | None, instance: str | None, epoch: int | None) -> c.KeyLink:
    return c.KeyLink(service, key, pod, instance or "", epoch or 0)


def load_links(step: Step, ledger: Ledger, jobs: Iterable[Job], *instances: str) -> Script[None]:
    """Load the links of the keys of sticky jobs, and which of `instances` may own keys."""
    addresses = {(job.sticky, job.key) for job in jobs if job.sticky is not None and job.key is not None}
    yield from _load(step, ledger, addresses, instances)


def _load(
    step: Step, ledger: Ledger, addresses: Collection[tuple[str, str]], instances: Collection[str]
) -> Script[None]:
    if not addresses:
        return
    services, keys = ({address[place] for address in addresses} for place in (0, 1))
    text = _LINKS + " WHERE service {texts} AND lane_key {texts}"
    for row in (yield step.db.q(text, sorted(services), sorted(keys))):
        ledger.index.links.put(KeyLinked(*row))
    owning = yield step.db.q("SELECT id FROM {instance} WHERE owns = 1 AND id {texts}", sorted(set(instances)))
    ledger.index.links.owning.update(name for (name,) in owning)


# --- changes -------------------------------------------------------------------------------------------------------


def bind(step: Step, ledger: Ledger, command: c.Bind) -> Script[list[c.BoundKey]]:
    """Give keys to processes, by the ledger's rules. `ledger` is empty."""
    addresses = {(link.service, link.key) for link in command.links}
    yield from lock_lanes(step, {key for _, key in addresses})
    yield from _load(step, ledger, addresses, {link.instance for link in command.links})
    now = seconds((yield from step.now()))
    facts, answer = execute(ledger, command, now, step.draw)
    rows = [(one.service, one.key, one.pod, one.instance, one.epoch) for one in facts if type(one) is KeyLinked]
    if rows:
        yield from step.db.upsert("link", rows)
        yield from _own_anew(step, sorted({row[1] for row in rows}))
    answers: list[c.BoundKey] = answer
    return answers


def _own_anew(step: Step, keys: list[str]) -> Script[None]:
    yield from set_owners(step, keys)
    text = "SELECT DISTINCT queue FROM {job} WHERE ready >= 3 AND lane_key {texts}"
    step.ready |= {queue for (queue,) in (yield step.db.q(text, keys))}


def forget(step: Step, instance: str) -> Script[None]:
    """Forget the links of a process that ended long ago."""
    rows = yield step.db.q("SELECT DISTINCT lane_key FROM {link} WHERE instance = ?", instance)
    keys = sorted(key for (key,) in rows)
    for start in range(0, len(keys), _PAGE):
        page = keys[start : start + _PAGE]
        yield from lock_lanes(step, page)
        yield step.db.q("DELETE FROM {link} WHERE instance = ? AND lane_key {texts}", instance, page)
        yield from set_owners(step, page)


# --- reads ---------------------------------------------------------------------------------------------------------


def links(step: Step, which: c.LinkFilter) -> Script[list[c.KeyLink]]:
    """Links in order of service and key."""
    wheres: list[str] = []
    values: list[Any] = []
    for column, value in (("service", which.service), ("lane_key", which.key), ("instance", which.instance)):
        if value is not None:
            wheres.append(f"{column} = ?")
            values.append(value)
    if which.after is not None:
        service, key = which.after
        wheres.append("service >= ? AND (service > ? OR lane_key > ?)")
        values += [service, service, key]
    where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
    rows = yield step.db.q(f"{_LINKS}{where} ORDER BY service, lane_key LIMIT ?", *values, which.limit)
    return [c.KeyLink(service, key, pod, instance, epoch) for key, pod, instance, epoch, service in rows]
