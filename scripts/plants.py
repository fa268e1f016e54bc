"""Planted faults: puts each into a copy of the tree and sees that the tests find it. tests/plants/README.md tells how.

`python -m scripts.plants [NAME …] [--changed-since COMMIT] [--seconds N] [--jobs N]`. Exit code 1 when a fault was
missed, or when its place in the source is gone.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from scripts import process
from scripts.run_suites import counts
from scripts.suites import ROOT, Suite, load

FOLDER: Final = ROOT / "tests" / "plants"
# What a copy needs to run tests and checks.
COPIED: Final = (
    "src",
    "tests",
    "scripts",
    "examples",
    "bench",
    "docs",
    "pyproject.toml",
    "README.md",
    "constraints.txt",
)
LIMIT_SECONDS: Final = 180.0


class Plant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault: in `file`, `find` becomes `replace`; then `tests`, or the commands of `suite`, must fail."""

    name: str
    suite: str
    file: str
    find: str
    replace: str
    why: str
    tests: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What became of one plant: caught, MISSED, STALE or not run, and in words why."""

    plant: Plant
    word: str
    detail: str = ""
    seconds: float = 0.0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    plant: tuple[Plant, ...] = ()


def load_plants(folder: Path = FOLDER) -> tuple[Plant, ...]:
    """Return all plants of all files, by file name; a wrong file raises ValueError that names it."""
    plants: list[Plant] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            plants += msgspec.convert(tomllib.loads(path.read_text()), _File).plant
        except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path.name}: {error}") from error
    return tuple(plants)


def stale(plant: Plant, root: Path = ROOT) -> str:
    """Return why `plant` can not be planted, or "" if it can."""
    path = root / plant.file
    if not path.is_file():
        return f"{plant.file} does not exist"
    found = path.read_text().count(plant.find)
    if found != 1:
        return f"expected the text to find once in {plant.file}, found it {found} times"
    gone = [test for test in plant.tests if not (root / test.split("::")[0]).exists()]
    return f"no such test: {', '.join(gone)}" if gone else ""


def plant_in(plant: Plant, root: Path) -> None:
    """Write the fault into the tree at `root`."""
    path = root / plant.file
    path.write_text(path.read_text().replace(plant.find, plant.replace))


class Trial:
    """Tries plants against one tree; remembers which tests were seen to pass without a fault."""

    def __init__(self, suites: dict[str, Suite], source: Path = ROOT) -> None:
        """Take the suites by name and the tree to copy."""
        self._suites = suites
        self._source = source
        self._sound: set[tuple[str, ...]] = set()

    def __call__(self, plant: Plant) -> Verdict:
        """Plant the fault in a fresh copy, run what must fail, and say whether it did."""
        start = time.monotonic()
        reason = stale(plant, self._source)
        if reason:
            return Verdict(plant, "STALE", reason)
        with tempfile.TemporaryDirectory(prefix="plant-") as folder:
            root = Path(folder)
            _copy_tree(self._source, root)
            word, detail = self._before(plant, root)
            if not word:
                plant_in(plant, root)
                word, detail = self._after(plant, root)
        return Verdict(plant, word, detail, time.monotonic() - start)

    def _before(self, plant: Plant, root: Path) -> tuple[str, str]:
        # What fails without the fault as well would "catch" anything.
        key = plant.tests or (plant.suite,)
        if key in self._sound:
            return "", ""
        bad = next((done for done in self._runs(plant, root) if done.code != 0 or done.timed_out), None)
        if bad is not None:
            return "MISSED", f"fails without the fault too, so it proves nothing:\n{_tail(bad.output)}"
        self._sound.add(key)
        return "", ""

    def _after(self, plant: Plant, root: Path) -> tuple[str, str]:
        done = next((done for done in self._runs(plant, root) if done.code != 0 or done.timed_out), None)
        if done is None:
            return "MISSED", "nothing failed"
        if done.timed_out:
            return "MISSED", f"hung for {LIMIT_SECONDS:.0f} s; a fault must be found by a failing test"
        if plant.tests and not (done.code == 1 and counts(done.output).get("failed")):
            return "MISSED", f"no test failed, pytest ended with code {done.code}:\n{_tail(done.output)}"
        return "caught", ""

    def _runs(self, plant: Plant, root: Path) -> Iterator[process.Finished]:
        suite = self._suites[plant.suite]
        pytest = ("python", "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *suite.args)
        # The package is installed in editable form from the real tree; the copy must come before it.
        extra = {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        for command in [(*pytest, *plant.tests)] if plant.tests else suite.commands:
            yield process.run(command, cwd=root, limit=LIMIT_SECONDS, extra=extra)


def _copy_tree(tree: Path, root: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__", ".hypothesis", "*.pyc")
    for name in COPIED:
        source = tree / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=skip)
        elif source.exists():
            shutil.copy2(source, root / name)


def _tail(output: str) -> str:
    return "\n".join("    " + line for line in output.splitlines()[-8:])


def changed_files(base: str) -> frozenset[str] | None:
    """Return the paths that differ between commit `base` and the working tree, or None if git can not tell."""
    answer = subprocess.run(["git", "diff", "--name-only", base], cwd=ROOT, capture_output=True, text=True, check=False)
    return frozenset(answer.stdout.split()) if answer.returncode == 0 else None


def touched(plants: Iterable[Plant], changed: frozenset[str], suites: dict[str, Suite]) -> list[Plant]:
    """Return the plants of every suite that `changed` touches: the faulty file, the tests, the plant's own text."""

    def is_touched(plant: Plant) -> bool:
        suite = suites.get(plant.suite)
        places = (plant.file, *(test.split("::")[0] for test in plant.tests), *(suite.paths if suite else ()))
        return any(path == place or path.startswith(place + "/") for path in changed for place in places)

    names = {plant.suite for plant in plants if is_touched(plant)}
    names |= {Path(path).stem for path in changed if path.startswith("tests/plants/")}
    return [plant for plant in plants if plant.suite in names]


def try_all(
    plants: Sequence[Plant], attempt: Callable[[Plant], Verdict], *, jobs: int, seconds: float
) -> list[Verdict]:
    """Try `plants`, `jobs` at a time; none is begun after `seconds`."""
    end = time.monotonic() + seconds

    def one(plant: Plant) -> Verdict:
        verdict = attempt(plant) if time.monotonic() < end else Verdict(plant, "not run", "out of time")
        print(
            f"{verdict.word:<8} {plant.suite:<10} {plant.name:<44} {verdict.seconds:>5.1f} s  {verdict.detail}",
            flush=True,
        )
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, plants))


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="plants", description="Put known faults into a copy; the tests must find them."
    )
    parser.add_argument("names", nargs="*", help="plants, or suites, to try (default: all)")
    parser.add_argument("--changed-since", metavar="COMMIT", help="only the suites that differ from this commit")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no plant after so many seconds")
    parser.add_argument("--jobs", type=int, default=2, help="plants at a time (default 2)")
    options = parser.parse_args(arguments)
    suites = {suite.name: suite for suite in load()}
    plants = [p for p in load_plants() if not options.names or {p.name, p.suite} & set(options.names)]
    if options.names and not plants:
        parser.error(f"no plant and no suite is called {', '.join(options.names)}")
    changed = changed_files(options.changed_since) if options.changed_since else None
    if changed is not None:
        plants = touched(plants, changed, suites)
    verdicts = try_all(plants, Trial(suites), jobs=options.jobs, seconds=options.seconds)
    # Said again at the end, where a reader of a long log looks.
    for verdict in verdicts:
        if verdict.word in ("MISSED", "STALE"):
            print(f"{verdict.word}: {verdict.plant.suite}: {verdict.plant.name}: {verdict.detail}")
    tally = {word: sum(v.word == word for v in verdicts) for word in ("caught", "MISSED", "STALE", "not run")}
    print("plants: " + ", ".join(f"{number} {word}" for word, number in tally.items()))
    return 1 if tally["MISSED"] or tally["STALE"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
