"""What an exporter costs: nothing where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.job import commands as c
from holdfast.job.model import NewJob
from tests.sql.sqlite.test_plans import WANT, Counted

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.stores.sql.script import Script, Step


def settled(store: Counted, tag: str) -> tuple[list[str], int]:
    """A hundred successes in one batch: the statements that settled them, and the rows that wait for an exporter."""
    jobs = tuple(NewJob(id=f"{tag}-{number}", task="t") for number in range(100))
    store.do(lambda step: store.db.hot.enqueue(step, c.Enqueue(jobs=jobs)))
    found: list[c.Claims[Any]] = []

    def claim(step: Step) -> Script[None]:
        found.append((yield from store.db.hot.claim(step, WANT)))

    store.do(claim)
    store.statements.clear()
    store.do(lambda step: store.db.hot.settle(step, [c.Settlement(one, c.Succeeded(b"1")) for one in found[0].items]))
    [[waiting]] = store.connection.execute("SELECT count(*) FROM holdfast_feed").fetchall()
    return [statement.sql for statement in store.statements], waiting


def test_settling_takes_no_statement_for_an_exporter_that_is_not_there(tmp_path: Path) -> None:
    store = Counted(tmp_path / "store")
    alone, waiting = settled(store, "alone")
    assert waiting == 0
    assert not [text for text in alone if "holdfast_feed" in text]
    store.do(store.db.feed.start)
    noted, waiting = settled(store, "noted")
    assert waiting == 200, "what had ended before is noted as well"
    assert len(noted) == len(alone) + 1
    store.do(store.db.feed.stop)
    again, waiting = settled(store, "again")
    assert (again, waiting) == (alone, 0)
