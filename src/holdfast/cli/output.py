"""What a command shows: JSON when asked for, tables and colour on a terminal, plain aligned text otherwise."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from holdfast.job.commands import JobCount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from holdfast.job.commands import Ordered

COLOURS: Final = {
    "succeeded": "green",
    "ready": "green",
    "active": "green",
    "ok": "green",
    "running": "cyan",
    "queued": "blue",
    "scheduled": "blue",
    "retrying": "yellow",
    "paused": "yellow",
    "draining": "yellow",
    "warn": "yellow",
    "failed": "red",
    "lost": "red",
    "fail": "red",
}


#: The least room for a note at the end of a row.
_NOTE: Final = 12


class Output:
    """Writes to standard output. `as_json`: one JSON value, and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.is_terminal = sys.stdout.isatty()

    def value(self, value: object) -> None:
        """Write one JSON value."""
        text = msgspec.json.encode(value, enc_hook=str)
        if self.is_terminal:
            text = msgspec.json.format(text, indent=2)
        click.echo(text.decode())

    def line(self, text: str = "") -> None:
        """Write a line for people; nothing with --json."""
        if not self.as_json:
            click.echo(text)

    def note(self, text: str) -> None:
        """Write a line beside the answer, to standard error."""
        if not self.as_json:
            click.echo(text, err=True)

    @contextmanager
    def progress(self, label: str, length: int) -> Iterator[Callable[[int], None]]:
        """Show how far a long piece of work is, on the terminal of standard error; nothing elsewhere, and with --json.

        Yields a function that is told how many of `length` were done since it was last called.
        """
        if self.as_json or not sys.stderr.isatty():
            yield lambda _done: None
            return
        with click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True) as bar:
            yield bar.update

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
        """Write a table for people; nothing with --json."""
        if self.as_json:
            return
        texts = [[_cell(value) for value in row] for row in rows]
        if self.is_terminal and _rich(columns, texts, title):
            return
        if title:
            click.echo(title)
        _plain(columns, texts)

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Write names and values, aligned; nothing with --json."""
        shown = [(name, _cell(value)) for name, value in pairs if value not in (None, "")]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"{click.style(f'{name:<{width}}', bold=True)}  {value}")


def matched_of(answer: Ordered) -> JobCount:
    """Return how many jobs an order is about."""
    return JobCount(answer.matched, estimated=answer.estimated)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, JobCount) and value.estimated:
        return value.words
    if isinstance(value, dict | list):
        value = msgspec.json.encode(value).decode()
    # What comes from outside must not steer the terminal.
    return "".join(sign if sign.isprintable() or sign == "\n" else "�" for sign in str(value))


def _plain(columns: Sequence[str], rows: list[list[str]]) -> None:
    lines = [list(columns), *([cell.replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich(columns: Sequence[str], rows: list[list[str]], title: str) -> bool:
    """Write the table with rich; False when it is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        return False
    console = Console()
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if columns[-1] == "" and widths[0] + sum(len(name) + 1 for name in columns[1:]) + _NOTE > console.width:
        columns, rows = columns[:-1], [row[:-1] for row in rows]  # a note is the first to give way
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.collapse_padding = sum(widths) + 2 * len(widths) > console.width
    for at, name in enumerate(columns):
        # An id is copied, so it stays in one piece; headings do too.
        table.add_column(name, overflow="fold", no_wrap=at == 0, min_width=len(name))
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console.print(table)
    return True


def when(moment: float | None) -> str:
    """Return a time for a table, in UTC; a dash for none."""
    return "-" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def shortened(text: str, limit: int = 60) -> str:
    """Return the first line of a text, cut to `limit` characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def json_of(data: bytes | None) -> Any:
    """Return stored JSON as a value; what is no JSON as text."""
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return data.decode(errors="replace")
