"""Jobs with a key: the head of each line is ready, and nothing else of it.

A sticky head is ready for one process alone, `owner`: the one that the link of its key names, whether that lives or not.
Whoever changes a link, or the line of a key, has locked the key, so that both always agree. Who lives is asked when jobs
are claimed, and so a lost process costs nothing for its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.stores.sql.moment import refuse_old_view
from holdfast.stores.sql.rows import STICKY

if TYPE_CHECKING:
    from collections.abc import Collection

    from holdfast.stores.sql.script import Script, Step

_HEADS: Final = (
    "SELECT min(seq) FROM {job} AS head WHERE lane_key {texts} AND lane = 1"
    " AND NOT EXISTS (SELECT 1 FROM {job} AS busy WHERE busy.lane_key = head.lane_key AND busy.lane = 2)"
    " GROUP BY lane_key"
)
#: Others may be claiming a head just now. Who looks for the new head waits for them first.
_TAKEN: Final = "SELECT seq FROM {job}{by_lane} WHERE lane_key {texts} AND ready > 0 {lock}"
_DROP: Final = "UPDATE {job} SET ready = 0 WHERE lane_key {texts} AND ready > 0 AND NOT seq {ints}"
_RAISE: Final = (
    "UPDATE {job} SET ready = CASE WHEN sticky IS NOT NULL THEN 3 + suspect WHEN suspect = 1 THEN 2 ELSE 1 END"
    " WHERE seq {ints} AND ready = 0 AND lane = 1"
)
_RAISED: Final = "SELECT queue, max(ready) FROM {job} WHERE seq {ints} AND ready > 0 GROUP BY queue"
#: The processes that have these keys, whether they live or not. (`replace` puts texts together in every dialect.)
_OWN: Final = (
    "UPDATE {job} SET owner = coalesce((SELECT its.instance FROM {link} AS its WHERE its.service = {job}.sticky"
    " AND its.lane_key = {job}.lane_key AND its.pod IS NOT NULL), replace('@_', '_', sticky))"
    " WHERE lane_key {texts} AND ready >= 3"
)


def nobody(service: str) -> str:
    """The `owner` of a head whose key has no link: by service, so that nobody walks over those of other services."""
    return f"@{service}"


def lock_lanes(step: Step, keys: Collection[str]) -> Script[None]:
    """Keep the lines of these keys as they are. To be done before their jobs are locked."""
    if keys:
        yield from refuse_old_view(step)
        yield from step.db.lock("key", keys)


def set_heads(step: Step, keys: Collection[str]) -> Script[None]:
    """Make the heads of these lines ready, and take back what no longer is one. Their lanes must be locked."""
    if not keys:
        return
    db, wanted = step.db, sorted(keys)
    if db.locks:
        yield db.q(_TAKEN, wanted)
    heads = [seq for (seq,) in (yield db.q(_HEADS, wanted))]
    yield db.q(_DROP, wanted, heads)
    if not heads:
        return
    yield db.q(_RAISE, heads)
    raised = yield db.q(_RAISED, heads)
    step.ready |= {queue for queue, _ in raised}
    if any(ready >= STICKY for _, ready in raised):
        yield from set_owners(step, wanted)


def set_owners(step: Step, keys: Collection[str]) -> Script[None]:
    """Give the heads of these lines to the processes that have the keys. Their lanes must be locked."""
    yield step.db.q(_OWN, sorted(keys))
