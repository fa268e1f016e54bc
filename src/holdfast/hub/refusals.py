"""Refusals of the HTTP layer itself, beside the errors of the ports."""

from __future__ import annotations


class Refusal(Exception):
    """Why a request is turned away. wait: after how many seconds it may be sent again; 0.0: never, as it is."""

    def __init__(self, status: int, detail: str, wait: float = 0.0, field: str = "") -> None:
        self.status, self.detail, self.wait, self.field = status, detail, wait, field
        super().__init__(detail)
