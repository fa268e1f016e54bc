"""Schedules as code declares them: kept until a worker starts, when the tasks and their signatures are known.

Nothing heavy is imported here: most programs that import an app only enqueue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMES: Final = ("cron", "every", "zone")


class Declaration(msgspec.Struct, frozen=True):
    """A schedule of an app: its task by alias, the arguments by name, and ScheduleOptions."""

    name: str
    task: str
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]

    @classmethod
    def checked(cls, name: str, task: str, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Declaration:
        """Return the declaration. Raises ConfigError that lists what is wrong with the name and the options."""
        from holdfast.job.ids import check_name
        from holdfast.schedule.drafts import read_options
        from holdfast.schedule.rule import read_rule

        fields = read_options(options, new=True)
        read_rule(fields["rule"], fields.get("zone", "UTC"))
        return cls(check_name(name, "schedule"), check_name(task, "task"), dict(arguments), dict(options))


def split_times(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the options of `@app.task` in those of its schedule and the rest. Raises ConfigError for a zone alone."""
    times = {name: value for name, value in options.items() if name in _TIMES and value is not None}
    return times, {name: value for name, value in options.items() if name not in _TIMES}
