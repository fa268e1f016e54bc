"""Which job does what: 98 that can succeed, some of them only at the second try, and two that never will."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from examples.demo.work import check, choose_files

JOBS = 100
BROKEN = 2
_TASKS = ("pack.async", "pack.thread", "pack.process")
_METHODS = ("xz", "xz", "bz2", "zlib")


class Piece(NamedTuple):
    """One job of the demo."""

    id: str
    task: str
    source: Path
    method: str = ""
    stumbles: bool = False  # its first try fails

    def arguments(self, folder: Path) -> dict[str, object]:
        """What the job's task is called with."""
        if self.task == "pack.broken":
            return {"source": str(self.source)}
        given: dict[str, object] = {"source": str(self.source), "folder": str(folder), "method": self.method}
        return {**given, "stumbles": True} if self.stumbles else given

    def fault(self, folder: Path, state: str, digest: str | None) -> str:
        """Say what is wrong with how the job ended, or nothing."""
        wanted = "failed" if self.task == "pack.broken" else "succeeded"
        if state != wanted:
            return f"{self.id} is {state}, expected {wanted}"
        return check(self.source, folder, self.method, digest or "") if wanted == "succeeded" else ""


def plan() -> list[Piece]:
    """The hundred jobs of the demo, the same every time."""
    files = choose_files(JOBS)
    pieces = []
    for number, source in enumerate(files):
        job_id = f"demo-{number:03d}"
        if number in (33, 66):
            pieces.append(Piece(job_id, "pack.broken", source))
            continue
        task = _TASKS[number % len(_TASKS)]
        stumbles = task != "pack.process" and number % 10 == 0
        pieces.append(Piece(job_id, task, source, _METHODS[number // 3 % len(_METHODS)], stumbles))
    return pieces
