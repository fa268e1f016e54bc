"""What a node knows of itself and of its store, beyond what the ports tell."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.store import Store


def own_version() -> str:
    """The version of the installed package; "unknown" in a tree that was never installed."""
    try:
        return version("holdfast")
    except PackageNotFoundError:
        return "unknown"


def _inner(store: Store) -> Any:
    """The store behind the front door: it may tell more of itself than the port asks."""
    return getattr(store, "inner", store)


def _log(store: Store) -> Any:
    return getattr(getattr(_inner(store), "health", None), "log", None)


def recovery_seconds(store: Store) -> float | None:
    """How long opening took to bring the state back; None for a store that does not tell."""
    found: float | None = getattr(getattr(_inner(store), "recovery", None), "seconds", None)
    return found


def problem_of(store: Store) -> str:
    """Why the store accepts less than usual, in words; empty when it does not."""
    log = _log(store)
    if log is None or log.state == "open":
        return ""
    why = log.problem or f"the journal is {log.state}"
    return f"{why}. Free some space: it goes on by itself." if log.state in ("full", "read_only") else why


def state_of(store: Store) -> str:
    """What keeps the store from serving everything, in one word: "full", "failed"; empty when nothing does."""
    log = _log(store)
    return "" if log is None or log.state == "open" else str(log.state)


def failure_of(store: Store) -> str:
    """Why the store will not serve again in this process; empty when it does."""
    log = _log(store)
    return log.problem or "the journal has failed" if log is not None and log.state == "failed" else ""
