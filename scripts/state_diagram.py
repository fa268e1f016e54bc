"""Write the state table and its diagram into docs/architecture.md, from the one table in `holdfast.job.state`.

python -m scripts.state_diagram           # write
python -m scripts.state_diagram --check   # fail if the page is out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from holdfast.job.state import FINAL, ROWS, State

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
MARKS = ("<!-- states: made by scripts/state_diagram.py -->", "<!-- /states -->")


def diagram() -> str:
    """Return a Mermaid diagram of the moves that change the state."""
    moves: dict[tuple[State, State], list[str]] = {}
    for row in ROWS:
        if row.source is not row.target:
            moves.setdefault((row.source, row.target), []).append(row.event.value)
    lines = ["stateDiagram-v2", "    [*] --> queued: enqueue", "    [*] --> scheduled: enqueue, later"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in moves.items()]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(["```mermaid", *lines, "```"])


def table() -> str:
    """Return every row as a Markdown table."""
    rows = [f"| {row.source} | {row.event} | {row.target} | {row.guard} |" for row in ROWS]
    return "\n".join(["| From | Event | To | When |", "|---|---|---|---|", *rows])


def page_with_table(page: str) -> str:
    """Return `page` with what stands between the marks made anew."""
    begin, end = MARKS
    body = f"{begin}\n\n{diagram()}\n\n{table()}\n\n{end}"
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: body, page, flags=re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write or check the page."""
    page = PAGE.read_text()
    fresh = page_with_table(page)
    if "--check" in arguments:
        if page != fresh:
            print("docs/architecture.md is out of date: run python -m scripts.state_diagram", file=sys.stderr)
        return int(page != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
