"""URLs for messages, logs and pages: what opens something is left out of them. Pure."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
_IN_QUERY: Final = re.compile(r"([?&;][\w.-]*(?:pass|pwd|secret|token|key)[\w.-]*=)[^&;#]*", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """Return a URL with its password hidden, wherever it stands; also one that can not be read as a URL.

    >>> without_secrets("postgresql://ann:s3:cr@t@db/jobs?password=x&ssl=1")
    'postgresql://ann:***@db/jobs?password=***&ssl=1'
    >>> without_secrets("sqlite:///a@b.db")
    'sqlite:///a@b.db'
    """
    scheme, slashes, rest = url.partition("://")
    place, mark, query = rest.partition("?")
    who, at, where = place.rpartition("@")
    user, colon, _ = who.partition(":")
    if at and colon:
        place = f"{user}:{HIDDEN}@{where}"
    more = _IN_QUERY.sub(rf"\1{HIDDEN}", mark + query)
    return f"{scheme}{slashes}{place}{more}" if slashes else url
