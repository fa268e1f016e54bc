"""What a user holds of a sticky service: `chat = app.sticky("chat", ttl="2m")`, its state builder, and who has which key."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from holdfast.errors import ConfigError
from holdfast.router import Link, check_names
from holdfast.sticky.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.sticky.router import Router
    from holdfast.store import Store

F = TypeVar("F", bound=Callable[..., Any])
MAX_KEYS: Final = 10_000


class OnLost(StrEnum):
    """What becomes of the waiting jobs of a key whose pod was lost."""

    REBIND = "rebind"  # another pod takes the key
    WAIT = "wait"  # they wait for a pod of the same number
    FAIL = "fail"  # those that were there fail; later ones go to another pod


class Access(Protocol):
    """The way from a service to what it needs; the app gives it."""

    async def router(self) -> Router:
        """The router, open in the running loop."""
        ...

    async def store(self) -> Store:
        """The store, open in the running loop."""
        ...


class Sticky:
    """A service whose jobs run where their key's state lives. Made by `app.sticky`.

    ttl: seconds without a job after which a key is let go and its state closed; links are kept so long. on_lost: see
    OnLost. max_keys: how many states one process keeps; the one that was used longest ago goes first.
    """

    def __init__(
        self, access: Access, name: str, *, ttl: float, on_lost: str = "rebind", max_keys: int = MAX_KEYS
    ) -> None:
        check_names("-", name)
        if on_lost not in tuple(OnLost):
            known = ", ".join(repr(one.value) for one in OnLost)
            raise ConfigError(f"sticky service {name!r}: on_lost: expected one of {known}, found {on_lost!r:.40}.")
        if ttl < 1.0:
            raise ConfigError(f"sticky service {name!r}: ttl: expected at least 1 s, found {ttl:g} s.")
        if type(max_keys) is not int or max_keys < 1:
            raise ConfigError(f"sticky service {name!r}: max_keys: expected a whole number from 1, found {max_keys!r}.")
        self.name, self.ttl, self.on_lost, self.max_keys = name, ttl, OnLost(on_lost), max_keys
        self._access = access
        self._builder: Callable[[str], AbstractAsyncContextManager[Any]] | None = None

    def __repr__(self) -> str:
        return f"<sticky service {self.name}>"

    # --- state

    def state(self, function: F) -> F:
        """Let `function(key)` build the state of a key, once on the pod that has it; handlers find it as `ctx.local`.

        An `async def` or `def` returns it; then its `aclose()` or `close()` is called at the end, if it has one. An async
        generator yields it once, and what stands behind the yield runs at the end: when the key is lost, let go or moved.
        """
        if self._builder is not None:
            raise ConfigError(f"sticky service {self.name!r}: expected one state function, found a second.")
        self._builder = _as_context(function)
        return function

    def build(self, key: str) -> AbstractAsyncContextManager[Any]:
        """The state of a key, to be entered by the pod that has it; None in it if there is no state function."""
        return _nothing() if self._builder is None else self._builder(key)

    # --- who has which key

    async def owner(self, key: str) -> Link | None:
        """Which pod has a key, under which epoch; None: nobody. Raises RouterUnavailable."""
        return await (await self._access.router()).owner(self.name, key)

    async def keys(self, pod: int, limit: int = 1_000) -> Sequence[str]:
        """Up to `limit` keys that a pod has."""
        return await (await self._access.router()).keys(self.name, pod, limit)

    async def release(self, key: str) -> bool:
        """Let a key go: its next job goes to the best pod then. False: nobody had it. A running job is not disturbed."""
        return await (await self._steering()).release(self.name, key)

    async def move(self, key: str, pod: int) -> Link:
        """Give a key to a pod. Its waiting jobs go there; a running one ends where it is. Raises NoPod, Conflict."""
        return await (await self._steering()).move(self.name, key, pod)

    async def _steering(self) -> Steering:
        return Steering(await self._access.router(), await self._access.store())


# --- builders --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _nothing() -> Any:
    yield None


def _as_context(function: Callable[..., Any]) -> Callable[[str], AbstractAsyncContextManager[Any]]:
    if inspect.isasyncgenfunction(function):
        return asynccontextmanager(function)
    if inspect.isgeneratorfunction(function):
        raise ConfigError(f"state: expected def, async def or an async def with one yield, found {function!r:.80}.")

    @asynccontextmanager
    async def built(key: str) -> Any:
        made = function(key)
        state = await made if inspect.isawaitable(made) else made
        try:
            yield state
        finally:
            await _closed(state)

    return built


async def _closed(state: object) -> None:
    close = getattr(state, "aclose", None) or getattr(state, "close", None)
    if callable(close):
        ended = close()
        if isinstance(ended, Awaitable):
            await ended
