"""Definitions: from code, and as people switch them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.job import commands as c
from holdfast.job.ledger.admin import check_deletable, find_definition
from holdfast.job.model import Schedule
from holdfast.stores.sql.aside import COLUMNS, thing_from
from holdfast.stores.sql.filters import storable
from holdfast.stores.sql.slice import Need, do, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Definition
    from holdfast.stores.sql.script import Script, Step


def define(step: Step, definitions: Sequence[c.Define]) -> Script[list[Definition]]:
    """Make or refresh definitions from code. Two that make the same one do so one after the other."""
    aliases = sorted({one.alias for one in definitions if storable(one.alias)})  # the ledger refuses the others
    yield from step.db.lock("definition", aliases)
    part = yield from load(step, Need(tasks=aliases))
    _, answer = yield from do(step, part, c.DefineAll(tuple(definitions)))
    made: list[Definition] = answer
    return made


def delete_definition(step: Step, command: c.DeleteDefinition) -> Script[None]:
    """Forget a definition that nothing uses."""
    yield from step.db.lock("definition", list(filter(storable, [command.alias])))
    part = yield from load(step, Need(definitions=True))
    known = find_definition(part.ledger, command.alias)
    [[unfinished]] = yield step.db.q("SELECT count(*) FROM {job} WHERE task = ?", known.alias)
    rows = yield step.db.q(f"SELECT {COLUMNS[Schedule]} FROM {{schedule}}")
    check_deletable(known.alias, int(unfinished), [thing_from(Schedule, row) for row in rows])
    yield from do(step, part, command)


def change_definition(step: Step, change: c.ChangeDefinition) -> Script[tuple[Definition, Definition]]:
    """Edit a definition; return what it was and what it is. Its jobs are held or let go by operations that follow."""
    names = {change.alias}
    if change.new_alias is not msgspec.UNSET:
        names.add(change.new_alias)
    yield from step.db.lock("definition", sorted(filter(storable, names)))
    part = yield from load(step, Need(definitions=True))
    before = find_definition(part.ledger, change.alias)
    _, after = yield from do(step, part, change)
    step.schedules = True  # those of the task fire, or fire no more
    return before, after
