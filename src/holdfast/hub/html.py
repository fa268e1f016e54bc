"""HTML from templates in which every value is escaped, unless it is HTML of ours already."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Html(str):
    """Text that may stand in a page as it is: made by `fill` and `joined` alone."""

    __slots__ = ()


def fill(template: str, **values: object) -> Html:
    """Return a template of ours with its `{names}` replaced by values, escaped.

    >>> fill("<b>{name}</b>", name="<script>")
    '<b>&lt;script&gt;</b>'
    """
    return Html(template.format(**{name: _safe(value) for name, value in values.items()}))


def joined(parts: Iterable[Html]) -> Html:
    """Return pieces of a page as one."""
    return Html("".join(map(_safe, parts)))


def _safe(value: object) -> str:
    if isinstance(value, Html):
        return value
    # What a browser or a reader would take for something else than a sign of the text is shown as what it is.
    text = "".join(sign if sign.isprintable() or sign in "\n\t" else f"\\u{ord(sign):04x}" for sign in str(value))
    return escape(text, quote=True)
