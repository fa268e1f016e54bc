"""Runs the suites of suites.toml: `python -m scripts.run_suites [--lanes N] [NAME …]`.

Two suites run beside each other, the long ones first: most of them wait for leases, graces and servers more than they
compute. What a suite prints is shown when it has ended, in one piece; a suite that runs alone is shown while it runs.

All suites run, whatever fails before them. The end is a table of results and times and, alone on the last line, how
many tests passed and failed; a check that is no test (lint, types, coverage) counts as one failure when it fails. Exit
code 1 when anything failed.

With CI set, a suite in which at most SECOND_LOOKS tests failed gets a second look: those tests run once more, alone. What
passes then is no failure but *unsteady*, and is named in the table, so that somebody mends it: these tests kill real
processes and servers on a machine that others use too, and one of thousands must not hide what the others found. On a
desk there is no second look.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from scripts import process
from scripts.suites import ROOT, Suite, choose, load

# pytest's own word for "nothing was collected".
NO_TESTS = 5
# More failures than this in one suite are no accident.
SECOND_LOOKS = 3
# Compiled modules are kept, also where images of containers switch that off: hundreds of processes are started by the tests,
# and to compile us anew is nearly half of what a start costs.
_KEPT: Final = {"PYTHONDONTWRITEBYTECODE": ""}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one suite."""

    suite: Suite
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def counts(output: str) -> dict[str, int]:
    """Return pytest's counts from its last summary line.

    >>> counts("...\\n== 1 failed, 12 passed, 3 skipped in 0.31s ==")
    {'failed': 1, 'passed': 12, 'skipped': 3}
    >>> counts("mypy: all well")
    {}
    """
    for line in reversed(output.splitlines()):
        if re.search(r" in \d+(\.\d+)?s", line):
            return {
                word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", line.split(" in ")[0])
            }
    return {}


def pytest_command(suite: Suite) -> list[str]:
    """Return the command line that runs the tests of `suite`."""
    python = ["python", "-m"]
    if suite.cover:
        python += ["coverage", "run", f"--data-file=.coverage.{suite.name}", f"--source={','.join(suite.cover)}", "-m"]
    spread = ["-n", str(suite.workers)] if suite.workers else ["-p", "no:xdist"]
    return [*python, "pytest", "-q", "-ra", *_cache(suite), *spread, *suite.args, *suite.paths]


def again_command(suite: Suite) -> list[str]:
    """Return the command line that runs once more, one after another, the tests of `suite` that failed."""
    alone = ["--last-failed", "--last-failed-no-failures=none", "-p", "no:xdist"]
    return ["python", "-m", "pytest", "-q", "-ra", *_cache(suite), *alone, *suite.args, *suite.paths]


def _cache(suite: Suite) -> list[str]:
    """Each suite remembers its failures for itself."""
    return ["-o", f"cache_dir=.pytest_cache/{suite.name}"]


def failed_names(output: str) -> tuple[str, ...]:
    """Return the tests that failed, as pytest's summary names them.

    >>> failed_names("FAILED tests/a.py::test_x[1] - ValueError: no\\nERROR tests/b.py::test_y\\n2 failed in 1.0s")
    ('tests/a.py::test_x[1]', 'tests/b.py::test_y')
    """
    return tuple(re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE))


def coverage_command(suite: Suite) -> list[str]:
    """Return the command line that fails when too little of the suite's folders was run."""
    return ["coverage", "report", f"--data-file=.coverage.{suite.name}", f"--fail-under={suite.cover_min:g}"]


# Takes a text that ends where its line ends.
Show = Callable[[str], None]


def say(text: str) -> None:
    """Print `text` at once."""
    print(text, end="", flush=True)


def run_suite(suite: Suite, show: Show = say) -> Result:
    """Run the commands, the tests and the coverage check of `suite`; `show` gets what they print, as it comes."""
    start = time.monotonic()
    steps = [_run_check(command, suite.limit, show) for command in suite.commands]
    if suite.paths:
        steps += _run_tests(suite, show)
    return Result(
        suite=suite,
        passed=sum(step.passed for step in steps),
        failed=sum(step.failed for step in steps),
        skipped=sum(step.skipped for step in steps),
        seconds=time.monotonic() - start,
        notes=tuple(step.note for step in steps if step.note),
    )


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


def _run(command: Sequence[str], limit: float, show: Show) -> process.Finished:
    show(f"$ {' '.join(command)}\n")
    return process.run(command, cwd=ROOT, limit=limit, show=show, extra=_KEPT)


def _run_check(command: Sequence[str], limit: float, show: Show) -> _Step:
    finished = _run(command, limit, show)
    if finished.code == 0 and not finished.timed_out:
        return _Step()
    return _Step(failed=1, note=f"{' '.join(command[:2])} {'took too long' if finished.timed_out else 'failed'}")


def _run_tests(suite: Suite, show: Show) -> Iterator[_Step]:
    finished = _run(pytest_command(suite), suite.limit, show)
    found = counts(finished.output)
    broken = found.get("failed", 0) + found.get("error", 0)
    note = ""
    if finished.timed_out:
        broken, note = broken + 1, "took too long, or left a process behind"
    elif finished.code not in (0, NO_TESTS) and not broken:
        # pytest itself gave up: no summary tells of it, so it counts here.
        broken, note = 1, f"pytest ended with code {finished.code}"
    step = _Step(passed=found.get("passed", 0), failed=broken, skipped=found.get("skipped", 0), note=note)
    if os.environ.get("CI") and 0 < broken <= SECOND_LOOKS and not note:
        step = _look_again(suite, step, failed_names(finished.output), show)
    yield step
    if suite.cover:
        yield _run_check(coverage_command(suite), 60.0, show)


def _look_again(suite: Suite, first: _Step, names: Sequence[str], show: Show) -> _Step:
    """Run once more what failed; return the step as it stands after that."""
    finished = _run(again_command(suite), suite.limit, show)
    passed = counts(finished.output).get("passed", 0)
    if finished.code != 0 or finished.timed_out or passed < first.failed:
        return first
    return _Step(passed=first.passed + passed, skipped=first.skipped, note=f"UNSTEADY: {', '.join(names)}")


def table(results: Sequence[Result]) -> str:
    """Return the closing table: one line for each suite."""
    lines = [f"{'suite':<12}{'result':<8}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}{'budget':>8}"]
    for result in results:
        over = ("over budget",) if result.seconds > result.suite.budget_seconds else ()
        lines.append(
            f"{result.suite.name:<12}{'FAILED' if result.failed else 'ok':<8}{result.passed:>8}{result.failed:>8}"
            f"{result.skipped:>9}{result.seconds:>9.1f}{result.suite.budget_seconds:>8.0f}"
            f"  {'; '.join((*result.notes, *over))}".rstrip()
        )
    return "\n".join(lines)


def run_beside(suites: Sequence[Suite], lanes: int) -> list[Result]:
    """Run `suites`, `lanes` at a time and the long ones first; return the results in the order of the table."""

    def run(suite: Suite) -> Result:
        lines = [f"\n== {suite.name} ==\n"]
        result = run_suite(suite, lines.append)
        say("".join(lines))
        return result

    longest_first = sorted(suites, key=lambda suite: -suite.budget_seconds)
    with ThreadPoolExecutor(lanes) as pool:
        running = {suite.name: pool.submit(run, suite) for suite in longest_first}
        try:
            return [running[suite.name].result() for suite in suites]
        except BaseException:
            # Without this, Ctrl-C would wait until all suites have come to their end.
            pool.shutdown(wait=False, cancel_futures=True)
            process.kill_all()
            raise


def run_alone(suites: Sequence[Suite]) -> list[Result]:
    """Run `suites` one after another; their output is shown while it comes."""
    results = []
    for suite in suites:
        say(f"\n== {suite.name} ==\n")
        results.append(run_suite(suite))
    return results


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="run_suites", description="Run the suites of scripts/suites.toml.")
    parser.add_argument("names", nargs="*", help="suites to run (default: all)")
    parser.add_argument("--lanes", type=int, default=2, help="suites at a time (default 2)")
    options = parser.parse_args(arguments)
    suites = choose(load(), options.names)
    start = time.monotonic()
    beside = options.lanes > 1 and len(suites) > 1
    results = run_beside(suites, options.lanes) if beside else run_alone(suites)
    failed = sum(result.failed for result in results)
    print(f"\n{table(results)}\n\nAll of it took {time.monotonic() - start:.0f} s.")
    print(f"{sum(result.passed for result in results)} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
