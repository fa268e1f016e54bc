"""A default for `ctx` that type checkers accept: `async def send(user: int, *, ctx: Context = injected)`.

The worker gives the context of the execution in any case; with this default the checkers know that `enqueue` takes none.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from holdfast.errors import UsageError


class _Injected:
    """Stands where a context will be. Using it says that there is none."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(
            f"ctx.{name}: expected a context, found none: the function was called outside of a worker. "
            "Pass one in this call: task(..., ctx=...)."
        )

    def __repr__(self) -> str:
        return "injected"


injected: Final[Any] = _Injected()
