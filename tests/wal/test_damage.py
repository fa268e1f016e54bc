"""T4, T5, T6 of the test plan. The journals tried were acknowledged to the last frame: all of it, or a refusal."""

import pytest

from tests.features import feature
from tests.wal import damage
from tests.wal.apart import run_apart


def _nothing_wrong(module: str, *calls: tuple[str, ...]) -> int:
    found = run_apart(module, *calls)
    assert [wrong for outcome in found for wrong in outcome["wrong"]] == []
    return sum(outcome["tried"] for outcome in found)


@feature("B24", "BW10")
def test_a_segment_cut_at_any_length_gives_its_prefix_or_a_refusal_as_the_evidence_says() -> None:
    assert (
        _nothing_wrong("tests.wal.damage", ("cuts", "--step", "32"), ("cuts", "--step", "32", "--start", "16")) > 16_000
    )


@feature("B24", "BW11")
def test_no_flipped_bit_of_any_file_goes_unnoticed() -> None:
    assert (
        _nothing_wrong("tests.wal.damage", ("bits", "--step", "14"), ("bits", "--step", "14", "--start", "7")) > 30_000
    )


def test_nothing_done_to_single_files_shortens_the_log_silently() -> None:
    assert _nothing_wrong("tests.wal.damage", ("files",), ("files", "--start", "1")) > 250


def test_a_few_of_each_in_this_process() -> None:
    assert damage.bits(step=997, start=3).wrong == []
    assert damage.cuts(step=997, start=0).wrong == []
    assert damage.folder(pairs=False, snapshots=True).wrong == []


@pytest.mark.soak
def test_every_length_and_every_bit_and_every_pair_of_operations() -> None:
    _nothing_wrong("tests.wal.damage", *((("cuts", "--step", "2", "--start", str(start))) for start in range(2)))
    _nothing_wrong("tests.wal.damage", *((("bits", "--step", "2", "--start", str(start))) for start in range(2)))
    _nothing_wrong("tests.wal.damage", ("files", "--pairs"), ("files", "--pairs", "--start", "1"))
