"""Reads, as the port names them."""

from __future__ import annotations

from holdfast.stores.sql.store_base import SqlBase


class ReadCalls(SqlBase):
    """What is looked at."""
