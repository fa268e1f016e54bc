"""The reads: filters as conditions, and the texts that they go into. Pure.

FINAL shows the newest version of each row. A page is found in two steps: first the places of rows that may be on it, by the
columns that the filter names; then the rows themselves, which are wide, by their places. Counts and figures come from the
blocks and roll-ups, and so cost the same however long the history is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from holdfast.histories.attempts import Place
from holdfast.history import AttemptFilter, GroupBy, JobFilter
from holdfast.job.ledger.spellings import spellings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.history import StatisticsFilter
    from holdfast.job.state import State

Params = dict[str, str | int | float]

_PLACES: Final = "SELECT place FROM {job} WHERE @WHERE@ ORDER BY place @ORDER@ LIMIT @LIMIT@"
_AMONG: Final = "SELECT body, payload FROM {job} FINAL WHERE place IN (@PLACES@) AND @WHERE@ ORDER BY place @ORDER@"
_COUNT: Final = "SELECT count() FROM (SELECT place FROM {job} FINAL WHERE @WHERE@ LIMIT @LIMIT@)"
_COUNT_ABOUT: Final = "SELECT uniq(place) FROM {job} WHERE @WHERE@"
_COUNT_EDGE: Final = "SELECT place, created FROM {job} WHERE @WHERE@ ORDER BY place LIMIT 1 OFFSET @LOOKED@"
_COUNT_UPTO: Final = "SELECT count() FROM {job} FINAL WHERE @WHERE@"
#: When the first job was enqueued that there is.
OLDEST: Final = "SELECT min(created) FROM {job}"
_COUNT_BLOCKS: Final = "SELECT sum(n) FROM {block} FINAL WHERE @WHERE@"
BY_ID: Final = "SELECT body, payload FROM {job} FINAL WHERE id = {id:String} AND gone = 0 ORDER BY place LIMIT 1"
#: Ended jobs by queue, state, and whether they ran elsewhere.
STATES: Final = (
    "SELECT queue, state, elsewhere, sum(n) FROM {block} FINAL WHERE n > 0 @WORKER@ GROUP BY queue, state, elsewhere"
)
_ATTEMPT_PLACES: Final = "SELECT began, place, nr FROM {attempt} WHERE @WHERE@ ORDER BY began, place, nr LIMIT @LIMIT@"
_ATTEMPTS_AMONG: Final = (
    "SELECT place, job, task, queue, body FROM {attempt} FINAL WHERE (began, place, nr) IN (@PLACES@) AND @WHERE@"
    " ORDER BY began, place, nr"
)
_EDGE: Final = "SELECT began FROM {attempt} WHERE @WHERE@ ORDER BY began LIMIT 1 OFFSET @SCANNED@"
#: At how many attempts one page of a search looks, at most: a fifth of a second, however long the history is.
SCANNED: Final = 2_000_000
#: Successful attempts by queue: how many were timed, and their seconds in all.
TIMED: Final = (
    "SELECT queue, sum(timed), sum(seconds) FROM {day} FINAL WHERE ended = 'succeeded' @WORKER@ AND n > 0"
    " GROUP BY queue"
)
#: Hours: all, succeeded, failed, timed, seconds of these. SPENT: ends that are failures.
SERIES: Final = (
    "SELECT toUnixTimestamp(at), sum(n), sumIf(n, ended = 'succeeded'), sumIf(n, has(@SPENT@, ended)), sum(timed),"
    " sum(seconds) FROM {hour} FINAL WHERE at >= toDateTime({since:UInt32}) AND n > 0 @WORKER@ GROUP BY at ORDER BY at"
)


def places(
    which: JobFilter, states: tuple[State, ...], after: int | None, limit: int, *, newest_first: bool
) -> tuple[str, Params]:
    """Return the text of the places, behind the seq `after`, of rows that match, and its parameters.

    A row may be an old version of a job that does not match now, and a place may come more than once: what is found so is
    read without merging versions, in the order of the table, and looked at again by `among`.
    """
    where, params = condition(which, states)
    if after is not None:
        where += f" AND place {'>' if newest_first else '<'} {{after:Int64}}"
        params["after"] = -after
    text = _PLACES.replace("@WHERE@", where).replace("@ORDER@", "ASC" if newest_first else "DESC")
    return text.replace("@LIMIT@", str(int(limit))), params


def among(
    which: JobFilter, states: tuple[State, ...], found: Iterable[int], *, newest_first: bool, limit: int = 0
) -> tuple[str, Params]:
    """Return the text of the jobs at these places that match as they are now, and its parameters. limit: 0 for all."""
    where, params = condition(which, states)
    text = _AMONG + (f" LIMIT {int(limit)}" if limit else "")
    text = text.replace("@WHERE@", where).replace("@ORDER@", "ASC" if newest_first else "DESC")
    return text.replace("@PLACES@", ", ".join(str(int(place)) for place in found)), params


def is_kept(which: JobFilter) -> bool:
    """Tell whether a filter names no more than what the blocks are counted by."""
    return which == JobFilter(states=which.states, queue=which.queue, worker=which.worker or None)


def count(which: JobFilter, states: tuple[State, ...], exact: int) -> tuple[str, Params]:
    """Return the text that counts ended jobs of these states, up to one more than `exact`, and its parameters."""
    if is_kept(which):
        terms, params = ["n > 0", _state_in(states)], Params()
        for field in ("queue", "worker"):
            if value := getattr(which, field):
                terms.append(f"{field} = {{{field}:String}}")
                params[field] = value
        return _COUNT_BLOCKS.replace("@WHERE@", " AND ".join(terms)), params
    where, params = condition(which, states)
    return _COUNT.replace("@WHERE@", where).replace("@LIMIT@", str(exact + 1)), params


def count_about(which: JobFilter, states: tuple[State, ...]) -> tuple[str, Params]:
    """Return the text of about how many ended jobs match: no versions are merged, and places are counted by their hashes."""
    where, params = condition(which, states)
    return _COUNT_ABOUT.replace("@WHERE@", where), params


def edge(among: JobFilter, which: JobFilter, looked: int) -> tuple[str, Params]:
    """Return the text of where a count ends that looks at so many of the newest jobs: no row when there are no more."""
    where, params = condition(replace(among, created_after=which.created_after), which.states)
    return _COUNT_EDGE.replace("@WHERE@", where).replace("@LOOKED@", str(int(looked))), params


def count_upto(which: JobFilter, states: tuple[State, ...], upto: int | None) -> tuple[str, Params]:
    """Return the text that counts the jobs that match and stand before a place (None: all), and its parameters."""
    where, params = condition(which, states)
    if upto is not None:
        where, params = f"{where} AND place < {{upto:Int64}}", {**params, "upto": upto}
    return _COUNT_UPTO.replace("@WHERE@", where), params


def _state_in(states: tuple[State, ...]) -> str:
    return f"state IN ({', '.join(repr(state.value) for state in states)})"


_SAME: Final = {
    "id": "id", "queue": "queue", "task": "task", "worker": "worker", "instance": "instance", "key": "key",
    "unique": "uniq", "paused_by": "paused_by",
}  # fmt: skip


def condition(which: JobFilter, states: tuple[State, ...]) -> tuple[str, Params]:
    """Return a filter as a condition on "job"."""
    terms, params = ["gone = 0"], Params()
    if not which.deleted:
        terms.append("deleted = 0")
    terms.append(_state_in(states))
    for field, column in _SAME.items():
        value = getattr(which, field)
        if value is not None:
            terms.append(f"{column} = {{{field}:String}}")
            params[field] = value
    if which.worker is not None or which.instance is not None:
        terms.append("tried = 1")
    if which.tag is not None:
        terms.append("has(tags, {tag:String})")
        params["tag"] = which.tag
    for field, sign in (("created_after", ">="), ("created_before", "<")):
        value = getattr(which, field)
        if value is not None:
            # The second one chooses the partitions. It is wide by a second, as it is rounded.
            bound = f"toDateTime64({{{field}:Float64}}, 6, 'UTC') {'-' if sign == '>=' else '+'} toIntervalSecond(1)"
            terms.append(f"created {sign} {{{field}:Float64}} AND created_at {sign} {bound}")
            params[field] = min(max(float(value), 0.0), 4_102_444_800.0)
    if which.text is not None:
        spelled = [f"text{number}" for number, _ in enumerate(spellings(which.text))]  # the first as it is given
        places = [("error", "text0"), ("id", "text0"), *(("payload", name) for name in spelled)]
        terms.append(f"({' OR '.join(f'position({place}, {{{name}:String}}) > 0' for place, name in places)})")
        params |= dict(zip(spelled, spellings(which.text), strict=True))
    return " AND ".join(terms), params


def attempt_edge(which: AttemptFilter, after: float, below: Place | None) -> tuple[str, Params]:
    """Return the text of where a page of a search ends that begins behind `below`, as `began`: no row when it needs not."""
    where, params = _attempt_condition(AttemptFilter(before=which.before))
    params["after"] = -after
    where += " AND began <= {after:Float64}" + _behind(below, params)
    return _EDGE.replace("@WHERE@", where).replace("@SCANNED@", str(SCANNED)), params


def attempt_places(
    which: AttemptFilter, after: float, below: Place | None, edge: float | None, limit: int
) -> tuple[str, Params]:
    """Return the text of where attempts are that began from `after` on, stand behind the place `below`, not behind the edge.

    As `places`: without merging versions; what is found so is looked at again by `attempts_among`.
    """
    where, params = _attempt_condition(which)
    params["after"] = -after if edge is None else min(-after, edge)
    where += " AND began <= {after:Float64}" + _behind(below, params)
    return _ATTEMPT_PLACES.replace("@WHERE@", where).replace("@LIMIT@", str(int(limit))), params


def attempts_among(which: AttemptFilter, found: Iterable[tuple[float, int, int]]) -> tuple[str, Params]:
    """Return the text of the attempts at these places (began, place, nr) that match as they are now."""
    where, params = _attempt_condition(which)
    listed = ", ".join(f"({float(began)!r}, {int(place)}, {int(nr)})" for began, place, nr in found)
    return _ATTEMPTS_AMONG.replace("@WHERE@", where).replace("@PLACES@", listed), params


def _behind(below: Place | None, params: Params) -> str:
    if below is None:
        return ""
    params |= {"began": -below[0], "place": -below[1], "nr": -below[2]}
    # The first term is what the primary key is looked up by.
    return " AND began >= {began:Float64} AND (began, place, nr) > ({began:Float64}, {place:Int64}, {nr:Int32})"


def _attempt_condition(which: AttemptFilter) -> tuple[str, Params]:
    """Return a filter as a condition on "attempt"."""
    terms, params = ["gone = 0", "hidden = 0"], Params()
    for field in ("worker", "instance", "queue", "task"):
        value = getattr(which, field)
        if value is not None:
            terms.append(f"{field} = {{{field}:String}}")
            params[field] = value
    if which.ends:
        terms.append(f"ended IN ({', '.join(repr(end.value) for end in which.ends)})")
    if which.running:
        terms.append("ended = ''")
    if which.text is not None:
        terms.append("position(error, {text:String}) > 0")
        params["text"] = which.text
    if which.before is not None:
        terms.append("began > {before:Float64}")
        params["before"] = -which.before
    return " AND ".join(terms), params


def of_worker(text: str, worker: str) -> tuple[str, Params]:
    """Return a text about one worker (empty: about all), and its parameters."""
    return text.replace("@WORKER@", "AND worker = {worker:String}" if worker else ""), {
        "worker": worker
    } if worker else {}


#: A column for each way to tell statistics apart.
_NAMES: Final = {
    GroupBy.ALL: "''",
    GroupBy.QUEUE: "queue",
    GroupBy.TASK: "task",
    GroupBy.WORKER: "worker",
    GroupBy.OUTCOME: "ended",
}
_STATISTICS: Final = (
    "SELECT @NAME@ AS name, ended, sum(n), sum(gave_up), sum(waits_n), sum(waited), sum(ran), sumMap(waits.1, waits.2),"
    " sumMap(runs.1, runs.2) FROM @TABLE@ FINAL WHERE n > 0 AND elsewhere = 0 AND @WHERE@ GROUP BY name, ended"
)


def statistics(which: StatisticsFilter, by: GroupBy, since: float) -> tuple[str, Params]:
    """Return the text of figures by group and end, from days, and its parameters. since: when the first day begins."""
    where, params = _ended_in(which, since)
    text = _STATISTICS.replace("@NAME@", _NAMES[by]).replace("@TABLE@", "{day}").replace("@WHERE@", where)
    return text, params


def series(which: StatisticsFilter, table: str, since: float) -> tuple[str, Params]:
    """Return the text of figures by time and end, from the roll-up `table`, and its parameters."""
    where, params = _ended_in(which, since)
    text = _STATISTICS.replace("@NAME@", "toUnixTimestamp(at)").replace("@TABLE@", f"{{{table}}}")
    return text.replace("@WHERE@", where), params


def _ended_in(which: StatisticsFilter, since: float) -> tuple[str, Params]:
    terms, params = ["at >= toDateTime({since:UInt32})"], Params(since=int(since))
    for field in ("queue", "task", "worker"):
        value = getattr(which, field)
        if value is not None:
            terms.append(f"{field} = {{{field}:String}}")
            params[field] = value
    if which.ends:
        terms.append(f"ended IN ({', '.join(repr(end.value) for end in which.ends)})")
    return " AND ".join(terms), params
