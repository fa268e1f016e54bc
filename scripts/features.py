"""Writes docs/features.md from the marks of the tests: `python -m scripts.features`; `--check` only compares.

The tests are collected, not run. `--check` exits with 1 and names the command when the page differs.
"""

import contextlib
import inspect
import io
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

from scripts.suites import ROOT
from tests.features import families, words

PAGE: Final = ROOT / "docs" / "features.md"
SHOWN_MAX: Final = 4
HEAD: Final = """\
# Features and the tests that show them

Made by `make features` from the marks of the tests; do not edit. Ids are stable handles; the words are ours
(`tests/feature_words.toml`). "not yet" means that no test shows it so far.
"""


class Collector:
    """A pytest plugin that keeps, for each feature id, the places of its tests."""

    def __init__(self) -> None:
        """Begin with no marks."""
        self.shown: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take the marks of all collected tests."""
        for item in session.items:
            for mark in item.iter_markers("feature"):
                for name in mark.args:
                    self.shown[name].add(_place(item))


def _place(item: pytest.Item) -> tuple[str, str]:
    # A contract suite stands in one file and is collected once for each adapter: it is listed once, where it stands.
    function = getattr(item, "function", None)
    source = inspect.getsourcefile(inspect.unwrap(function)) if function else None
    path = Path(source) if source else item.path
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else item.path.relative_to(ROOT)
    return shown.as_posix(), getattr(item, "originalname", None) or item.name


def collect() -> Mapping[str, set[tuple[str, str]]]:
    """Return the tests that show each id, as (file, name); a file that can not be collected ends the program."""
    collector = Collector()
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main(
            ["--collect-only", "-q", "-m", "", "-p", "no:cacheprovider", str(ROOT / "tests")], plugins=[collector]
        )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"{output.getvalue()}\nfeatures: the tests can not be collected")
    return collector.shown


def _cell(tests: Iterable[tuple[str, str]]) -> str:
    ordered = sorted(tests)
    links = [f"[{name}](../{path})" for path, name in ordered[:SHOWN_MAX]]
    if len(ordered) > SHOWN_MAX:
        links.append(f"and {len(ordered) - SHOWN_MAX} more")
    return ", ".join(links) or "not yet"


def page(shown: Mapping[str, set[tuple[str, str]]]) -> str:
    """Return the text of the page."""
    done = sum(1 for name in words() if shown.get(name))
    parts = [HEAD, f"{done} of {len(words())} have a test.\n"]
    for letter, title in families().items():
        parts.append(f"## {title}\n\n| Id | Our words | Tests |\n|---|---|---|")
        parts += [
            f"| {name} | {text} | {_cell(shown.get(name, ()))} |" for name, text in words().items() if name[0] == letter
        ]
        parts.append("")
    faults = sorted(set(shown) - set(words()))
    if faults:
        parts.append("## Faults of older systems, and the tests that keep them out\n\n| Id | Tests |\n|---|---|")
        parts += [f"| {name} | {_cell(shown[name])} |" for name in faults]
        parts.append("")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it; return the exit code."""
    if arguments not in ([], ["--check"]):
        raise SystemExit("usage: python -m scripts.features [--check]")
    text = page(collect())
    if arguments and (not PAGE.exists() or PAGE.read_text() != text):
        print("docs/features.md differs from what the tests show; run: make features")
        return 1
    if not arguments:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
