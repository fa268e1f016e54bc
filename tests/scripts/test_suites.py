import sys
from pathlib import Path

import pytest

from scripts import process
from scripts.run_suites import Result, counts, coverage_command, pytest_command, run_beside, run_suite, table
from scripts.suites import ROOT, Suite, choose, load


def test_the_table_of_suites_is_well_formed() -> None:
    assert load()


def test_a_suite_without_work_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[[suite]]\nname = "x"\nbudget_seconds = 1\n')
    with pytest.raises(Exception, match="expected commands or paths"):
        load(tmp_path / "t.toml")


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    row = '[[suite]]\nname = "x"\nbudget_seconds = 1\npaths = ["tests"]\n'
    (tmp_path / "t.toml").write_text(row + row)
    with pytest.raises(ValueError, match="each suite name once"):
        load(tmp_path / "t.toml")


def test_an_unknown_suite_is_named_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"no suite is called nope; there are: lint"):
        choose(load(), ["nope"])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("12 passed in 0.30s", {"passed": 12}),
        ("FAILED x\n=== 2 failed, 1 passed, 3 errors in 61.02s (0:01:01) ===", {"failed": 2, "passed": 1, "error": 3}),
        ("no tests ran in 0.01s", {}),
        ("", {}),
    ],
)
def test_counts_are_read_from_the_last_summary(output: str, expected: dict[str, int]) -> None:
    assert counts(output) == expected


def test_a_covered_suite_measures_branches_and_has_a_threshold() -> None:
    suite = Suite(name="job", budget_seconds=5, paths=("tests/job",), cover=("src/holdfast/job",), cover_min=99.5)
    assert "--source=src/holdfast/job" in pytest_command(suite)
    assert "--fail-under=99.5" in coverage_command(suite)


def test_the_table_shows_a_suite_that_went_over_its_budget() -> None:
    suite = Suite(name="slow", budget_seconds=5, paths=("x",))
    assert "over budget" in table([Result(suite=suite, passed=1, seconds=6.0)])
    assert "over budget" not in table([Result(suite=suite, passed=1, seconds=4.0)])


def _unsteady(folder: Path, *, fails_again: bool) -> Suite:
    """A suite of one test that fails in its first run."""
    seen = folder / "seen"
    (folder / "test_it.py").write_text(
        f"from pathlib import Path\n\ndef test_it():\n    seen = Path({str(seen)!r})\n    first = not seen.exists()\n"
        f"    seen.touch()\n    assert not first and not {fails_again}\n"
    )
    return Suite(name="unsteady", budget_seconds=30, paths=(str(folder),), args=("--rootdir", str(folder)))


def test_in_ci_a_test_that_passes_at_its_second_look_is_named_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run_suite(_unsteady(tmp_path, fails_again=False))
    assert (result.passed, result.failed) == (1, 0)
    assert "UNSTEADY" in table([result])
    assert "test_it" in table([result])


def test_in_ci_a_test_that_fails_twice_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert run_suite(_unsteady(tmp_path, fails_again=True)).failed == 1


def test_on_a_desk_a_failure_gets_no_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert run_suite(_unsteady(tmp_path, fails_again=False)).failed == 1


def test_suites_run_beside_each_other_and_each_is_shown_in_one_piece(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Each waits for the other's mark: one after another, neither would end.
    wait = "\n".join(
        [
            "import pathlib, sys",
            "mine, other = map(pathlib.Path, sys.argv[1:])",
            "print('one', flush=True)",
            "mine.touch()",
        ]
    )
    wait += "\nwhile not other.exists(): pass\nprint('two')"
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    suites = [
        Suite(name=name, budget_seconds=budget, commands=((sys.executable, "-c", wait, *marks),), limit_seconds=60)
        for name, budget, marks in (("short", 1, (a, b)), ("long", 9, (b, a)))
    ]
    results = run_beside(suites, 2)
    assert [(result.suite.name, result.failed) for result in results] == [("short", 0), ("long", 0)]
    shown = [line for line in capfd.readouterr().out.splitlines() if line in ("one", "two") or line.startswith("==")]
    assert shown[1:3] == shown[4:6] == ["one", "two"]


def test_a_program_past_its_limit_is_killed_with_all_that_it_started() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    finished = process.run([sys.executable, "-c", program], cwd=ROOT, limit=0.5)
    assert finished.timed_out
    assert finished.code != 0


def test_output_and_errors_come_back_as_one_text() -> None:
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    finished = process.run([sys.executable, "-c", program], cwd=ROOT, limit=60)
    assert (finished.code, finished.output.split()) == (0, ["out", "err"])
