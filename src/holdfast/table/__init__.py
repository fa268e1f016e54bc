"""Task tables: a user's own table is the queue. Needs SQLAlchemy (extra `sqlalchemy`) and a driver."""

from holdfast.table.mixin import TaskMixin
from holdfast.table.table import TaskTable

__all__ = ["TaskMixin", "TaskTable"]
