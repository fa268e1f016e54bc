"""Runs the long searches in processes of their own: two at a time, and without the cost of measuring coverage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import holdfast


def run_apart(module: str, *calls: tuple[str, ...]) -> list[dict[str, Any]]:
    """Run `python -m module ARGS` once for each of `calls`, two at a time; return what each printed as JSON."""
    source = os.path.dirname(os.path.dirname(holdfast.__file__))
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    environment["PYTHONPATH"] = os.pathsep.join([source, here])
    waiting, found = list(calls), []
    while waiting:
        pair = [
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, cwd=here, env=environment
            )
            for arguments in waiting[:2]
        ]
        del waiting[:2]
        for process in pair:
            output, _ = process.communicate()
            assert output, f"{module} printed nothing and ended with {process.returncode}"
            found.append(json.loads(output))
    return found
