"""The name of a request, so that what a caller saw and what the log says can be brought together."""

from __future__ import annotations

import re
import secrets
from typing import Final

#: Under this name a request tells the API what it is called.
REQUEST_ID: Final = "holdfast.request_id"
_GIVEN: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def request_id(given: str) -> str:
    """Return the name that the caller chose (X-Request-ID), if it is a short plain one; else a new one."""
    return given if _GIVEN.fullmatch(given) else secrets.token_hex(8)
