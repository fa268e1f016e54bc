"""Restoring a backup: no worker of another time, or of another copy, can settle a job of the restored journal."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.job.commands import Accepted, Claim, Failed, Settlement, Succeeded
from holdfast.job.model import EPOCH_BITS, Job
from holdfast.job.retry import RetryPolicy
from holdfast.testing.contract.harness import ERROR
from holdfast.wal import OsFiles, backup, restore
from tests.journal.harness import FolderHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = 1_800_000_000.0


@asynccontextmanager
async def restored(source: Path, folder: Path) -> AsyncIterator[FolderHarness]:
    restore(OsFiles(source), OsFiles(folder), now=NOW)
    h = FolderHarness(folder)
    await h.open()
    try:
        yield h
    finally:
        await h.store.close()


async def lives(h: FolderHarness, starts: int) -> list[Claim[Job]]:
    """Claim one job again and again, a few times in each life of the store."""
    claims = []
    for _ in range(starts):
        for _ in range(3):
            claims.append(await h.claim_one())
            await h.settle(claims[-1], Failed(ERROR, retry_in=0.0))
        await h.restart()
    return claims


@pytest.mark.parametrize("starts", [1, 4])
async def test_two_restores_of_one_backup_never_give_out_the_same_token(
    h: FolderHarness, tmp_path: Path, starts: int
) -> None:
    await h.add(id="one", retry=RetryPolicy(max_attempts=100))
    backup(OsFiles(h.folder), OsFiles(tmp_path / "backup"))
    for _ in range(3):
        await h.restart()
    lost = await h.claim_one()
    async with restored(tmp_path / "backup", tmp_path / "first") as first:
        there = await lives(first, starts)
        late = await first.claim_one()
    async with restored(tmp_path / "backup", tmp_path / "second") as second:
        here = await lives(second, starts)
        last = await second.claim_one()
        answers = await second.store.settle([Settlement(one, Succeeded(b"1")) for one in (lost, late, *there)])
        assert {answer.accepted for answer in answers} == {Accepted.STALE}
        [answer] = await second.store.settle([Settlement(last, Succeeded(b"2"))])
        assert answer.accepted is Accepted.APPLIED
    tokens = {claim.token for claim in (*there, late)}
    assert not tokens & {claim.token for claim in (*here, last)}
    assert lost.token < min(tokens)


async def test_what_is_made_of_a_backup_goes_on_under_tokens_that_grow(h: FolderHarness, tmp_path: Path) -> None:
    await h.add(id="one", retry=RetryPolicy(max_attempts=100))
    backup(OsFiles(h.folder), OsFiles(tmp_path / "backup"))
    async with restored(tmp_path / "backup", tmp_path / "new") as new:
        tokens = [claim.token for claim in await lives(new, 3)]
    assert tokens == sorted(set(tokens))
    assert tokens[-1] >> EPOCH_BITS < 1 << 21, "a number that every reader of JSON can hold"
