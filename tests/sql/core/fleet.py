"""Whole worker processes on a database, and programs that race each other on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tests.sql.core import shop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[3]
#: How long anything may take before a test gives up, in seconds. Nothing waits so long unless it is broken.
LIMIT: Final = 120.0


def eventually(look: Callable[[], T], what: str = "what was expected") -> T:
    """Return what `look` returns as soon as it is true; fail after LIMIT seconds."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {LIMIT:g} s")


def environment(url: str, effects: Path) -> dict[str, str]:
    """Return the environment of a process on the store of `url`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return {**ours, "PYTHONPATH": path, "HOLDFAST_TEST_STORE": url, shop.EFFECTS: str(effects)}


class Fleet:
    """`holdfast worker` with several processes. A context manager; at its end all of them are gone."""

    def __init__(self, url: str, folder: Path, processes: int, *queues: str, lease: str = "30s") -> None:
        self.effects = folder / "effects"
        self.effects.touch()
        self._log = (folder / "worker.log").open("a+")
        options = [word for queue in queues for word in ("-q", queue)]
        command = [sys.executable, "-m", "holdfast", "worker", shop.NAME, "--processes", str(processes)]
        self.process = subprocess.Popen(
            [*command, "--url", url, "--lease", lease, *options],
            cwd=ROOT,
            env=environment(url, self.effects),
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LIMIT)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._log.close()

    def log(self) -> str:
        """What the processes have said."""
        self._log.seek(0)
        return self._log.read()

    def lines(self, word: str) -> list[list[str]]:
        """The words of all lines of the effects that begin with `word`, without it."""
        return [line.split()[1:] for line in self.effects.read_text().splitlines() if line.split()[0] == word]

    def wait_for(self, word: str, count: int) -> list[list[str]]:
        """Wait until `count` such lines are there."""

        def look() -> list[list[str]]:
            assert self.process.poll() is None, f"the workers have ended: {self.log()}"
            found = self.lines(word)
            return found if len(found) >= count else []

        return eventually(look, f"{count} lines {word!r}; the workers say: {self.log()[-2_000:]}")


#: A racer whose clock can be set. Before anything else is imported: some keep the function that tells the time.
_RACER: Final = """
import runpy, time
real = time.time
def told():
    return real() + told.ahead
told.ahead = 0.0
time.time = told
runpy.run_module("tests.sql.core.racer", run_name="__main__")
"""


def race(url: str, folder: Path, role: str, racers: int, *arguments: object) -> list[Any]:
    """Let `racers` processes do the same at the same time (see racer.py); return what each of them says."""
    go = folder / f"go-{role}"
    command = [sys.executable, "-c", _RACER, url, role, str(go)]
    started = [
        subprocess.Popen(
            [*command, str(number), *map(str, arguments)],
            cwd=ROOT,
            env=environment(url, folder / "effects"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(racers)
    ]
    try:
        for number in range(racers):
            here = Path(f"{go}.{number}")
            eventually(partial(_is_here, here, started), "a racer at its start")
        go.touch()
        said = [process.communicate(timeout=LIMIT)[0] for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    return [json.loads(text) for text in said]


def _is_here(file: Path, started: Sequence[subprocess.Popen[str]]) -> bool:
    assert all(process.poll() is None for process in started), "a racer has ended before it began"
    return file.exists()
