"""Runs the python blocks of one page: `python run_page.py BLOCKS.json`, in the folder where the page may write.

Started by test_snippets.py in a process of its own. `await` may stand outside of functions, as in `python -m asyncio`.
"""

import ast
import asyncio
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType


def main(blocks_file: str) -> None:
    """Run each block in turn; the first exception ends the process with a traceback that names page and line."""
    # Files that the page writes may be imported by it.
    sys.path.insert(0, str(Path.cwd()))
    page = ModuleType("page")
    # One loop for the whole page: what a block opened, the next one may use. Between blocks no loop runs.
    with asyncio.Runner() as runner:
        for block in json.loads(Path(blocks_file).read_text()):
            if block["new"]:
                page = ModuleType("page")
            sys.modules["page"] = page
            text = "\n" * (block["line"] - 1) + block["text"]
            code = compile(text, block["page"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            answer = eval(code, vars(page))
            if inspect.iscoroutine(answer):
                runner.run(answer)


if __name__ == "__main__":
    main(sys.argv[1])
