"""The sticky service of a task, in its stored definition: a word beside the JSON Schema of its arguments.

So whoever enqueues by name (another program, HTTP, the command line) makes jobs that run where their key lives.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.errors import ContentError

_WORD: Final = "x-holdfast-sticky"


def with_service(parameters: bytes, service: str | None) -> bytes:
    """Return the schema with the service in it."""
    if service is None:
        return parameters
    document: dict[str, Any] = msgspec.json.decode(parameters) if parameters else {}
    return msgspec.json.encode({**document, _WORD: service})


def service_of(parameters: bytes) -> str | None:
    """Return the service that a stored schema names, if any."""
    if _WORD.encode() not in parameters:
        return None
    found = msgspec.json.decode(parameters).get(_WORD)
    return found if isinstance(found, str) else None


def check_sticky_key(task: str, service: str, key: str | None) -> None:
    """Raise ContentError unless `key` can be the key of a sticky job."""
    if key is None:
        raise ContentError(
            f"task {task!r}: expected a key, since its jobs run on the pod of service {service!r} that owns their key, found "
            "none. Enqueue with using(key=…)."
        )
    if "}" in key or not key.strip():
        raise ContentError(
            f"key: expected text that is not blank and has no closing brace, as sticky keys must be, found {key!r:.80}. "
            "Choose another, or hash it."
        )
