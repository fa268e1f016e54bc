"""The program of a supervised worker process: `python -m holdfast.app.supervised FD PARENT`, started by the supervisor."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.app.loading import load_app
from holdfast.app.preparing import loop_factory, prepared
from holdfast.app.schedules import scheduling
from holdfast.telemetry.logs import set_up
from holdfast.worker.supervisor.child import serve
from holdfast.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdfast.worker.supervisor.heart import ParentHeart
    from holdfast.worker.supervisor.messages import Begin


@asynccontextmanager
async def open_app(begin: Begin, heart: ParentHeart) -> AsyncIterator[Worker[Any]]:
    """Import the app that `begin` names and open a worker of it, whose heart is the parent's."""
    if begin.log is not None:
        set_up(sys.stderr, json=begin.log.json, level=begin.log.level)
    app = load_app(begin.app)
    if begin.store is not None:
        app.use(begin.store.url, **begin.store.options)
    more = {field: value for field, value in msgspec.structs.asdict(begin.options).items() if field != "queues"}
    try:
        # Several processes under one parent have one environment and one host: each takes a free number.
        parted = prepared(app, begin.options.queues, more, number=lambda: None)
        async with parted as parts, scheduling(app, parts["source"]):
            yield Worker(**parts, heart=heart)
    finally:
        await app.close()


if __name__ == "__main__":
    serve(sys.argv[1:], open_app, loop_factory())
