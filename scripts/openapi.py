"""Write docs/openapi.json from the routes, or check that it says what they say: python -m scripts.openapi [--check]."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from holdfast.hub.api import API_ROUTES
from holdfast.hub.openapi import describe

PAGE: Final = Path(__file__).parents[1] / "docs" / "openapi.json"


def text() -> str:
    """Return the description of the API as it is kept: one value a line, without the version of the package."""
    return json.dumps(describe(API_ROUTES, "v1"), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check."""
    made = text()
    if "--check" not in arguments:
        PAGE.write_text(made)
        return 0
    if PAGE.exists() and PAGE.read_text() == made:
        return 0
    print(
        f"{PAGE}: expected what the routes say, found something else. Run: python -m scripts.openapi", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
