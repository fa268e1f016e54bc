"""Definitions: from code, and as people switch them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.job import commands as c
from holdfast.job.ledger.admin import find_definition
from holdfast.stores.sql.slice import Need, do, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.job.model import Definition
    from holdfast.stores.sql.script import Script, Step


def define(step: Step, definitions: Sequence[c.Define]) -> Script[list[Definition]]:
    """Make or refresh definitions from code. Two that make the same one do so one after the other."""
    aliases = sorted({one.alias for one in definitions})
    yield from step.db.lock("definition", aliases)
    part = yield from load(step, Need(tasks=aliases))
    _, answer = yield from do(step, part, c.DefineAll(tuple(definitions)))
    made: list[Definition] = answer
    return made


def change_definition(step: Step, change: c.ChangeDefinition) -> Script[tuple[Definition, Definition]]:
    """Edit a definition; return what it was and what it is. Its jobs are held or let go by operations that follow."""
    names = {change.alias}
    if change.new_alias is not msgspec.UNSET:
        names.add(change.new_alias)
    yield from step.db.lock("definition", sorted(names))
    part = yield from load(step, Need(definitions=True))
    before = find_definition(part.ledger, change.alias)
    _, after = yield from do(step, part, change)
    return before, after
