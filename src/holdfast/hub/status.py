"""The status page: what it shows is gathered by `look`, and written as HTML by `page`, which is pure."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import HoldfastError
from holdfast.hub.html import Html, fill, joined
from holdfast.hub.parts import NodeInfo
from holdfast.hub.why import span
from holdfast.job.commands import JobCount, JobFilter, Page, Stats
from holdfast.job.model import InstanceState
from holdfast.job.state import State
from holdfast.statistics import StatisticsFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.hub.parts import Parts
    from holdfast.job.model import Instance, Job, Queue
    from holdfast.statistics import StatisticsPoint

#: How many rows each table has at most, and how long the figures of the last hours may take, in seconds.
ROWS: Final = 50
FAILED_ROWS: Final = 20
_SERIES_LIMIT: Final = 1.0
#: After how many seconds the page is read anew.
REFRESH: Final = 15
_TONES: Final = {
    State.RUNNING: "busy",
    State.SUCCEEDED: "good",
    State.FAILED: "bad",
    State.RETRYING: "warn",
    State.PAUSED: "warn",
}
_INSTANCE_TONES: Final = {
    InstanceState.READY: "good",
    InstanceState.STARTING: "busy",
    InstanceState.DRAINING: "warn",
    InstanceState.LOST: "bad",
}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows. series None: it was not to be had in time, or there is none here."""

    info: NodeInfo
    now: float
    stats: Stats
    queues: tuple[Queue, ...]
    instances: tuple[Instance, ...]
    failed: tuple[Job, ...]
    series: tuple[StatisticsPoint, ...] | None


async def look(parts: Parts) -> Look:
    """Gather what the page shows."""
    store = parts.store
    failed = await store.find(JobFilter(states=(State.FAILED,)), Page(limit=FAILED_ROWS))
    return Look(
        info=parts.node(),
        now=store.now(),
        stats=await store.stats(),
        queues=tuple(await store.queues()),
        instances=tuple(await store.instances()),
        failed=failed.items,
        series=await _series(parts),
    )


async def _series(parts: Parts) -> tuple[StatisticsPoint, ...] | None:
    if parts.history is None:
        return None
    try:
        async with asyncio.timeout(_SERIES_LIMIT):
            return tuple(await parts.history.series(StatisticsFilter(hours=24)))
    except (TimeoutError, HoldfastError):
        return None


def page(seen: Look, *, who: Html, base: str, sees_payload: bool) -> Html:
    """Return the page. who: what stands in its corner. base: where it is served."""
    info = seen.info
    tone = "good" if info.state == "ready" and not info.problem else "bad"
    return fill(
        _PAGE,
        base=base,
        refresh=REFRESH,
        store=info.store,
        version=info.version,
        host=info.host,
        state=info.state,
        tone=tone,
        problem=fill('<section><h2>Problem</h2><p class="empty">{problem}</p></section>', problem=info.problem)
        if info.problem
        else Html(),
        export=fill(
            '<section><h2>Export to the history</h2><p class="empty">{words}</p></section>', words=info.export.words
        )
        if info.export is not None
        else Html(),
        who=who,
        cards=joined(_card(state, seen.stats.total(state)) for state in State),
        queues=_queues(seen),
        workers=_workers(seen),
        hours=_hours(seen.series),
        failed=_failed(seen, sees_payload=sees_payload),
        now=_time(seen.now),
    )


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Holdfast</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="{refresh}">
<link rel="stylesheet" href="{base}/hub.css"></head><body><div class="page">
<header><h1>Holdfast</h1><span class="pill {tone}">{state}</span>
<span class="sub">{store} · {host} · version {version}</span><span class="right">{who}</span></header>
{problem}<div class="cards">{cards}</div>
<section><h2>Queues</h2>{queues}</section>
<section><h2>Workers</h2>{workers}</section>
<section><h2>The last 24 hours</h2>{hours}</section>
<section><h2>Failed jobs</h2>{failed}</section>
{export}
<footer><span>as of {now} UTC, read anew every {refresh} s</span><a href="{base}/api/v1/openapi.json">API description</a>
<a href="{base}/metrics">metrics</a></footer></div></body></html>
"""


def _card(state: State, count: JobCount) -> Html:
    tone = _TONES.get(state, "") if count else "none"
    return fill(
        '<div class="card {tone}"><div class="name">{name}</div><div class="number">{count}</div></div>',
        tone=tone,
        name=state.value,
        count=count.words,
    )


# --- tables --------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Html]) -> Html:
    titles = joined(fill('<th class="{kind}">{name}</th>', kind=kind, name=name) for name, kind in heads)
    return fill(
        '<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>',
        titles=titles,
        rows=joined(rows),
    )


def _row(*cells: Html) -> Html:
    return fill("<tr>{cells}</tr>", cells=joined(cells))


def _cell(value: object, kind: str = "") -> Html:
    return fill('<td class="{kind}"><bdi>{value}</bdi></td>', kind=kind, value=value)


def _number(count: int) -> Html:
    return _cell(count.words if isinstance(count, JobCount) else f"{count:,}", "n" if count else "n zero")


def _pill(text: str, tone: str) -> Html:
    return fill('<td><span class="pill {tone}">{text}</span></td>', tone=tone, text=text)


def _empty(text: str) -> Html:
    return fill('<p class="empty">{text}</p>', text=text)


def _more(count: int, what: str) -> Html:
    return _empty(f"and {count - ROWS:,} more {what}") if count > ROWS else Html()


def _queues(seen: Look) -> Html:
    if not seen.queues:
        return _empty("No queue yet: one comes into being with its first job.")
    heads = [("queue", ""), ("", ""), *((state.value, "n") for state in State), ("oldest waits", "")]
    rows = (_queue(queue, seen) for queue in seen.queues[:ROWS])
    return joined([_table(heads, rows), _more(len(seen.queues), "queues")])


def _queue(queue: Queue, seen: Look) -> Html:
    if queue.paused:
        pill = _pill(f"paused by {queue.paused_by or 'somebody'}", "warn")
    elif queue.fleet_limit is not None:
        pill = _pill("serial" if queue.fleet_limit == 1 else f"at most {queue.fleet_limit}", "")
    else:
        pill = _pill("open", "good")
    oldest = seen.stats.oldest_ready_at.get(queue.name)
    return _row(
        _cell(queue.name, "mono"),
        pill,
        *(_number(seen.stats.count(queue.name, state)) for state in State),
        _cell("" if oldest is None else span(oldest - seen.now)),
    )


def _workers(seen: Look) -> Html:
    if not seen.instances:
        return _empty("No worker is known. Start one: holdfast worker module:app")
    heads = [
        ("worker", ""), ("state", ""), ("host", ""), ("pid", "n"), ("busy", "n"), ("slots", "n"), ("queues", ""),
        ("heard of", ""),
    ]  # fmt: skip
    rows = (
        _row(
            _cell(one.worker, "mono"),
            _pill(one.state.value, _INSTANCE_TONES.get(one.state, "")),
            _cell(one.host),
            _cell(one.pid, "n"),
            _number(one.busy),
            _number(one.slots),
            _cell(", ".join(one.queues)),
            _cell(span(one.heartbeat_at - seen.now)),
        )
        for one in seen.instances[:ROWS]
    )
    return joined([_table(heads, rows), _more(len(seen.instances), "workers")])


def _failed(seen: Look, *, sees_payload: bool) -> Html:
    if not seen.failed:
        return _empty("None. Jobs that gave up are listed here.")
    heads = [("job", ""), ("task", ""), ("queue", ""), ("attempts", "n"), ("failed", ""), ("error", "")]
    rows = (
        _row(
            _cell(job.id, "mono"),
            _cell(job.task, "mono"),
            _cell(job.queue, "mono"),
            _number(job.attempt),
            _cell("" if job.finished_at is None else span(job.finished_at - seen.now)),
            _cell(_error(job, sees_payload=sees_payload), "error"),
        )
        for job in seen.failed
    )
    return _table(heads, rows)


def _error(job: Job, *, sees_payload: bool) -> str:
    last = job.last
    if last is None:
        return ""
    kind = last.error_type or (last.end.value if last.end is not None else "")
    text = last.error.strip().partition("\n")[0][:200]
    return f"{kind}: {text}" if sees_payload and text else kind


# --- the last hours ------------------------------------------------------------------------------------------------


def _hours(series: Sequence[StatisticsPoint] | None) -> Html:
    if series is None:
        return _empty("The figures were not to be had just now; the API has them under /api/v1/series.")
    succeeded, failed = sum(one.succeeded for one in series), sum(one.failed for one in series)
    ended = succeeded + failed
    rate = f"{100 * succeeded / ended:.1f} %" if ended else "none yet"
    figures = [
        ("attempts succeeded", f"{succeeded:,}"),
        ("attempts failed", f"{failed:,}"),
        ("success rate", rate),
        ("per minute, this hour", f"{_pace(series):,.1f}"),
    ]
    shown = joined(fill("<span><b>{value}</b>{name}</span>", value=value, name=name) for name, value in figures)
    return fill(
        '<div class="figures">{shown}</div>{bars}<div class="ticks"><span>{first} UTC</span><span>now</span></div>',
        shown=shown,
        bars=_bars(series),
        first=_time(series[0].at)[:16],
    )


def _pace(series: Sequence[StatisticsPoint]) -> float:
    """Attempts a minute over the last hour that is whole, or the running one while there is none before."""
    last = series[-2] if len(series) > 1 and series[-2].total else series[-1]
    return last.total / 60


def _bars(series: Sequence[StatisticsPoint]) -> Html:
    most = max((one.succeeded + one.failed for one in series), default=0) or 1
    width, height = 1_000 / len(series), 90.0
    parts = []
    for place, one in enumerate(series):
        good, bad = height * one.succeeded / most, height * one.failed / most
        title = f"{_time(one.at)[11:16]} UTC: {one.succeeded:,} succeeded, {one.failed:,} failed"
        parts.append(
            fill(
                '<g><title>{title}</title><rect class="bar-good" x="{x}" y="{y}" width="{w}" height="{good}"/>'
                '<rect class="bar-bad" x="{x}" y="{top}" width="{w}" height="{bad}"/></g>',
                title=title,
                x=f"{place * width + 2:.1f}",
                w=f"{width - 4:.1f}",
                y=f"{height - good + 3:.1f}",
                good=f"{good:.1f}",
                top=f"{height - good - bad + 3:.1f}",
                bad=f"{bad:.1f}",
            )
        )
    return fill(
        '<svg viewBox="0 0 1000 96" preserveAspectRatio="none" role="img" aria-label="attempts by hour">'
        '<line class="axis" x1="0" y1="94" x2="1000" y2="94"/>{parts}</svg>',
        parts=joined(parts),
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
