"""The tasks that an app knows, by alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.errors import DuplicateTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.task.task import Task


class Registry:
    """Tasks by alias; two of one alias are refused."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[Any, Any]] = {}

    def add(self, task: Task[Any, Any]) -> None:
        """Take a task. Raises DuplicateTask that names both places."""
        first = self._tasks.get(task.alias)
        if first is not None:
            raise DuplicateTask(
                f"two tasks have the alias {task.alias!r}: {first.place} and {task.place}. "
                'Give one of them another: @app.task("another.alias").'
            )
        self._tasks[task.alias] = task

    def get(self, alias: str) -> Task[Any, Any] | None:
        """Return the task of this alias, or None."""
        return self._tasks.get(alias)

    def aliases(self) -> tuple[str, ...]:
        """Return all aliases, in order of definition."""
        return tuple(self._tasks)

    def __iter__(self) -> Iterator[Task[Any, Any]]:
        return iter(tuple(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)
