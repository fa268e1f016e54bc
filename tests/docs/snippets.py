"""Finds the code blocks of a page. Says what marks mean: see test_snippets.py."""

import re
from pathlib import Path
from typing import Final

import msgspec

_FENCE: Final = re.compile(r"^(`{3,})\s*([\w+-]*)\s*$")
_MARK: Final = re.compile(r"^<!--\s*snippet:\s*(\w+)\s*(.*?)\s*-->$")
_RUN_CONSOLE: Final = "<!-- snippets: run console -->"
_MARKS: Final = ("new", "skip", "file")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A fenced block: its language, its text, the line where the text begins (from 1), and the mark before it."""

    page: str
    language: str
    text: str
    line: int
    mark: str = ""
    argument: str = ""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The blocks of one page; `console` tells whether its console blocks are to be run."""

    name: str
    blocks: tuple[Block, ...]
    console: bool = False

    @property
    def has_work(self) -> bool:
        """Whether there is something to run."""
        return any(
            b.mark != "skip" and (b.language == "python" or (self.console and b.language == "console"))
            for b in self.blocks
        )


def read_page(path: Path, name: str) -> Page:
    """Return the page at `path`; a fence never closed or an unknown mark raises ValueError with the line."""
    lines = path.read_text().splitlines()
    blocks: list[Block] = []
    mark = ("", "")
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        if fence := _FENCE.match(line):
            end = _end(lines, number, fence[1], name)
            text = "\n".join(lines[number:end]) + "\n"
            blocks.append(
                Block(page=name, language=fence[2], text=text, line=number + 1, mark=mark[0], argument=mark[1])
            )
            number = end + 1
        if line:
            mark = _mark(line, name, number)
    return Page(name=name, blocks=tuple(blocks), console=_RUN_CONSOLE in lines)


def _end(lines: list[str], start: int, fence: str, name: str) -> int:
    for number in range(start, len(lines)):
        if lines[number].strip() == fence:
            return number
    raise ValueError(f"{name}:{start}: this block is never closed; end it with {fence}")


def _mark(line: str, name: str, number: int) -> tuple[str, str]:
    found = _MARK.match(line)
    if not found:
        return "", ""
    word, argument = found[1], found[2]
    if word not in _MARKS:
        raise ValueError(f"{name}:{number}: expected one of {', '.join(_MARKS)} after 'snippet:', found {word!r}")
    if word != "new" and not argument:
        raise ValueError(f"{name}:{number}: '{word}' needs {'a reason' if word == 'skip' else 'a file name'} after it")
    return word, argument


def commands(text: str) -> list[str]:
    r"""Return the commands of a console block: the lines that begin with `$ `, joined where a backslash ends them.

    >>> commands("$ echo one \\\n  two\none two\n$ true\n")
    ['echo one \\\n  two', 'true']
    """
    found: list[str] = []
    goes_on = False
    for line in text.splitlines():
        if goes_on:
            found[-1] += "\n" + line
        elif line.startswith("$ "):
            found.append(line[2:])
        else:
            continue
        goes_on = line.endswith("\\")
    return found
