"""Runs the code that README.md and the pages of docs/ show.

Each page runs in a process and a temporary folder of its own, from top to bottom. Its ```python blocks share one
namespace, as if typed one after another; `await` may stand at the top level. A ```console block is run only on pages
that hold the line `<!-- snippets: run console -->`: each `$` command by bash, in the same folder; its output is not
compared. A comment in the line above a block changes that:

    <!-- snippet: new -->               this block begins a new namespace
    <!-- snippet: file tasks.py -->     this block is written to a file that later blocks may import or run
    <!-- snippet: skip REASON -->       this block is not run, because
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.docs.snippets import Block, Page, commands, read_page

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_SECONDS: Final = 120


def pages() -> list[Page]:
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [read_page(path, path.relative_to(ROOT).as_posix()) for path in paths if path.exists()]
    return [page for page in found if page.has_work]


def run(command: list[str], folder: Path) -> None:
    # The programs of this environment come first, so that `holdfast` and `python` in a block are the ones under test.
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"


def run_python(blocks: list[Block], folder: Path) -> None:
    work = [{"page": b.page, "line": b.line, "text": b.text, "new": b.mark == "new"} for b in blocks]
    (folder / ".blocks.json").write_text(json.dumps(work))
    run([sys.executable, str(Path(__file__).with_name("run_page.py")), ".blocks.json"], folder)


def run_page(page: Page, folder: Path) -> None:
    """Run the blocks in order. Python blocks wait for each other and run as one program, before the next command."""
    waiting: list[Block] = []
    for block in page.blocks:
        if block.mark == "skip":
            continue
        if block.mark == "file":
            (folder / block.argument).write_text(block.text)
        elif block.language == "python":
            waiting.append(block)
        elif block.language == "console" and page.console:
            if waiting:
                run_python(waiting, folder)
            waiting = []
            run(["bash", "-euo", "pipefail", "-c", "\n".join(commands(block.text))], folder)
    if waiting:
        run_python(waiting, folder)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_the_page_shows_runs(page: Page, tmp_path: Path) -> None:
    run_page(page, tmp_path)


def page_of(text: str, folder: Path) -> Page:
    path = folder / "page.md"
    path.write_text(text)
    return read_page(path, "page.md")


def test_blocks_of_a_page_share_a_namespace_and_may_await(tmp_path: Path) -> None:
    text = "```python\nimport asyncio\nx = 1\n```\ntext\n\n```python\nawait asyncio.sleep(0)\nassert x == 1\n```\n"
    run_page(page_of(text, tmp_path), tmp_path)


def test_a_block_that_fails_fails_the_page_and_names_its_line(tmp_path: Path) -> None:
    page = page_of("# Title\n\n```python\nok = 1\n```\n\n```python\nassert False\n```\n", tmp_path)
    with pytest.raises(AssertionError, match=r'File "page.md", line 8'):
        run_page(page, tmp_path)


def test_a_new_namespace_knows_nothing_of_the_last(tmp_path: Path) -> None:
    text = "```python\nx = 1\n```\n\n<!-- snippet: new -->\n```python\nassert 'x' not in globals()\n```\n"
    run_page(page_of(text, tmp_path), tmp_path)


def test_a_file_block_may_be_imported_and_run(tmp_path: Path) -> None:
    text = (
        "<!-- snippets: run console -->\n<!-- snippet: file part.py -->\n```python\nx = 1\nprint(x)\n```\n"
        "```python\nimport part\nassert part.x == 1\n```\n```console\n$ python part.py | grep 1\n1\n```\n"
    )
    run_page(page_of(text, tmp_path), tmp_path)


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    page = page_of("<!-- snippets: run console -->\n```console\n$ false\n$ true\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="ended with 1"):
        run_page(page, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n", "never closed"),
        ("<!-- snippet: sikp why -->\n```python\n```\n", "expected one of"),
        ("<!-- snippet: skip -->\n```python\n```\n", "needs a reason"),
    ],
)
def test_a_page_that_could_hide_a_block_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        page_of(text, tmp_path)
