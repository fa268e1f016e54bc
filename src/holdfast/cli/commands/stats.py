"""`holdfast stats`: how attempts ended, how long they waited and ran, by queue, task, worker or outcome; and hour by hour."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import click
import msgspec

from holdfast.cli.session import Session, shared
from holdfast.errors import NoHistory
from holdfast.history import SERIES_HOURS
from holdfast.job.state import End
from holdfast.statistics import GroupBy, Span, Statistics, StatisticsFilter, StatisticsPoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.statistics import Spread

_COLUMNS: Final = (
    "attempts", "succeeded", "failed", "gave up", "success", "waited p50", "p95", "p99", "ran mean", "p50", "p95", "p99",
)  # fmt: skip


@click.command("stats")
@click.option(
    "--by",
    type=click.Choice([one.value for one in GroupBy]),
    default="queue",
    show_default=True,
    help="What they are told apart by.",
)
@click.option(
    "--series", type=click.Choice([one.value for one in Span]), help="Minute by minute or hour by hour instead, UTC."
)
@click.option("--queue", "-q", help="Of this queue alone.")
@click.option("--task", "-t", help="Of this task alone.")
@click.option("--worker", help="Of this worker alone.")
@click.option(
    "--end",
    "ends",
    multiple=True,
    type=click.Choice([one.value for one in End]),
    help="Those that ended so; may be repeated.",
)
@click.option(
    "--hours", type=click.IntRange(1, SERIES_HOURS.most), default=24, show_default=True, help="So many hours back."
)
@shared()
def command(session: Session, by: str, series: str | None, ends: tuple[str, ...], **where: Any) -> int:
    """Tell how attempts ended, and how long they waited and ran.

    The figures are kept beside the jobs as they end: they outlive them, and cost the same to read however many there were.
    """
    which = StatisticsFilter(ends=tuple(map(End, ends)), **where)
    if series is not None:
        points = session.run(_series(session, which, Span(series)))
        _show(session, points, "from (UTC)", [_time(one.at) for one in points])
        return 0
    groups = session.run(_statistics(session, which, GroupBy(by)))
    _show(session, groups, by, [one.name or "all" for one in groups])
    return 0


async def _statistics(session: Session, which: StatisticsFilter, by: GroupBy) -> Sequence[Statistics]:
    from holdfast.connect import make_history

    async with session.store() as store:
        history, _ = make_history(store)
        if history is not None:
            return await history.statistics(which, by)
        found: list[Statistics] = await _ask(store, "/statistics", which, list[Statistics], by=by)
        return found


async def _series(session: Session, which: StatisticsFilter, span: Span) -> Sequence[StatisticsPoint]:
    from holdfast.connect import make_history

    async with session.store() as store:
        history, _ = make_history(store)
        if history is not None:
            return await history.series(which, span)
        found: list[StatisticsPoint] = await _ask(store, "/series", which, list[StatisticsPoint], span=span)
        return found


async def _ask(store: Any, path: str, which: StatisticsFilter, kind: Any, **more: str) -> Any:
    """Ask the node that has the history."""
    if not hasattr(store, "ask"):
        raise NoHistory
    given = {name: getattr(which, name) for name in ("queue", "task", "worker", "hours")} | more
    pairs = [(name, str(value)) for name, value in given.items() if value is not None]
    return await store.ask("GET", f"{path}?{urlencode([*pairs, *(('end', end.value) for end in which.ends)])}", kind)


def _show(
    session: Session, found: Sequence[Statistics] | Sequence[StatisticsPoint], title: str, names: Sequence[str]
) -> None:
    if session.out.as_json:
        session.out.value(msgspec.to_builtins(found))
        return
    rows = []
    for name, one in zip(names, found, strict=True):
        assert isinstance(one, Statistics | StatisticsPoint)
        rows.append([name, *_row(one)])
    session.out.table([title, *_COLUMNS], rows)


def _row(one: Statistics | StatisticsPoint) -> list[object]:
    rate = "" if one.success_rate is None else f"{100 * one.success_rate:.1f} %"
    counts = [one.total, one.succeeded, one.failed, one.gave_up, rate]
    return [*counts, *_spread(one.waiting)[1:], *_spread(one.running)]


def _spread(spread: Spread) -> list[str]:
    return [_seconds(value) for value in (spread.mean, spread.p50, spread.p95, spread.p99)]


def _seconds(value: float | None) -> str:
    """Say how long something took.

    >>> _seconds(None), _seconds(0.00421), _seconds(3.14159), _seconds(7_300.0)
    ('', '4.2 ms', '3.14 s', '122 min')
    """
    if value is None:
        return ""
    if value < 1.0:
        return f"{value * 1_000:.1f} ms"
    return f"{value:.2f} s" if value < 600.0 else f"{value / 60:.0f} min"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
