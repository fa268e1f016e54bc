"""How figures are taken and shown: ours and the anchor interleaved, medians of several rounds, one table."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Figure(NamedTuple):
    """One line of the table. `ratio` is what is promised; the rest says what it was made of."""

    name: str
    ratio: float
    floor: float  # the least that a release may have
    goal: float
    detail: str
    less_is_better: bool = False
    only_shown: bool = False  # for comparison: nothing is promised, floor and goal do not count

    @property
    def verdict(self) -> str:
        """How the ratio stands to floor and goal."""
        if self.only_shown:
            return "only shown"
        ratio, floor, goal = self.ratio, self.floor, self.goal
        if self.less_is_better:
            ratio, floor, goal = -ratio, -floor, -goal
        return "goal" if ratio >= goal else "floor" if ratio >= floor else "BELOW THE FLOOR"


def machine() -> str:
    """Say what this machine is."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, {platform.python_implementation()} {platform.python_version()}"


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def interleaved(runs: Mapping[str, Callable[[], float]], rounds: int = 5) -> dict[str, float]:
    """Run each of `runs` once a round (A B A B …) and return the median of what each returned.

    Interleaving gives noise of the machine the same chance to hit each of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(run())
    return {name: statistics.median(values) for name, values in taken.items()}


def show(title: str, figures: list[Figure]) -> int:
    """Print the table; return 1 if a figure is below its floor."""
    print(f"\n{title}\n{machine()}")
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        bounds = "no promise" if figure.only_shown else f"floor {figure.floor:g}, goal {figure.goal:g}"
        print(f"  {figure.name:<{width}}  {figure.ratio:8.2f}  {figure.verdict:<16} ({bounds})  {figure.detail}")
    return int(any(figure.verdict.isupper() for figure in figures))
