"""Control, queues, definitions, schedules and workers, as the port names them."""

from __future__ import annotations

from holdfast.stores.sql.store_base import SqlBase


class ControlCalls(SqlBase):
    """What people and the fleet steer."""
