"""The face of an app for code without a loop: a thin portal over the async one, never a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, Unpack

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from holdfast.app.holdfast import Holdfast
    from holdfast.task import JobHandle, Options

T = TypeVar("T")


class SyncApp:
    """`app.sync`: call it with any coroutine of the app, as in `app.sync(app.jobs.count())`."""

    __slots__ = ("_app",)

    def __init__(self, app: Holdfast) -> None:
        self._app = app

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` where the store is open and return its answer. Raises UsageError where a loop runs."""
        return self._app.host.run_sync(work)

    def enqueue(
        self, alias: str, arguments: Mapping[str, Any] | None = None, /, **options: Unpack[Options]
    ) -> JobHandle[Any]:
        """See Holdfast.enqueue."""
        return self(self._app.enqueue(alias, arguments, **options))

    def close(self) -> None:
        """See Holdfast.close."""
        self(self._app.close())
