"""Chance, given to the core from outside."""

from __future__ import annotations

from typing import Protocol


class Draw(Protocol):
    """Where the ledger gets jitter and new ids. What was drawn is stored in the facts."""

    def unit(self) -> float:
        """A number from 0.0 up to, not including, 1.0."""
        ...

    def job_id(self, now: float) -> str:
        """A new id that no other job has, ordered by time."""
        ...
