"""The demo is a promise too: what `make demo` shows holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.features import feature

ROOT = Path(__file__).resolve().parents[2]


@feature("B58", "A22", "A3")
def test_the_demo_survives_two_kills_and_accounts_for_every_job() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "examples.demo"], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = " ".join(ended.stdout.split())
    assert told.count("kill -9") == 2
    assert told.count("recovered:") == 2
    assert "98 succeeded, 2 are dead letters" in told
