"""Damage to a journal's files, tried exhaustively. `python -m tests.wal.damage bits|cuts|files …` prints JSON.

The journal tried holds a little of everything: two sealed segments, one that was not stopped cleanly, two snapshots, MARK.
All its frames were acknowledged, so an open may do one of two things: show all of them, or refuse.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from holdfast.wal import LogDamaged, NewerFormat, Options, Recovery, publish_snapshot, scan, sealed_segments
from holdfast.wal.errors import WalError
from holdfast.wal.layout import Mark, encode_slot
from tests.wal.disk import SimDisk
from tests.wal.world import recover, still

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 64 * 1024 * 1024  # bytes that a reader may ask for at once, whatever a damaged length says


class Outcome(msgspec.Struct):
    """What a search saw."""

    tried: int = 0
    same: int = 0
    refused: int = 0
    wrong: list[str] = []


class Sample(msgspec.Struct, frozen=True):
    """A journal: its files, the payloads in it."""

    files: dict[str, bytes]
    payloads: tuple[bytes, ...]


class WatchedDisk(SimDisk):
    """Refuses to be asked for absurd amounts."""

    def read(self, handle: int, size: int, offset: int) -> bytes:
        assert size <= LIMIT, f"a reader asked for {size:,} bytes"
        return super().read(handle, size, offset)


def sample(*, frames: int = 16, size: int = 150, snapshots: bool = True, seed: int = 1) -> Sample:
    """Three segments of `frames` frames, of some `size` bytes each; the last was left by a kill, with its allocated tail."""
    draw = random.Random(seed)
    options = Options(segment_bytes=8192, reserve_segments=0, mark_seconds=0.0)
    disk = SimDisk()
    log = Recovery.begin(disk, options).serve(threaded=False, monotonic=still)
    payloads = []
    for part in range(3):
        for _ in range(frames):
            payloads.append(draw.randbytes(draw.randrange(2 * size)))
            log.append(payloads[-1:])
            if draw.random() < 0.7:
                log.pump()
        log.pump()
        if part < 2:
            log.rotate()
            log.pump()
    if snapshots:
        for span in sealed_segments(disk):
            publish_snapshot(disk, span.last, [frame.payload for frame in scan(disk, 1, span.last)])
    log.pump()
    return Sample(_without_temporary(disk), tuple(payloads))


def _without_temporary(disk: SimDisk) -> dict[str, bytes]:
    return {name: content for name, content in disk.contents().items() if not name.endswith(".tmp") and name != "LOCK"}


def long_sample(frames: int = 400, size: int = 120) -> tuple[bytes, list[int], dict[str, bytes], list[bytes]]:
    """One segment of `frames` frames: its bytes, where each frame ends, the other files, the payloads."""
    options = Options(segment_bytes=128 * 1024, reserve_segments=0, mark_seconds=0.0)
    disk = SimDisk()
    log = Recovery.begin(disk, options).serve(threaded=False, monotonic=still)
    draw = random.Random(3)
    payloads, ends = [], []
    at = 96
    for _ in range(frames):
        payloads.append(draw.randbytes(draw.randrange(2 * size)))
        log.append(payloads[-1:])
        at += 40 + (len(payloads[-1]) + 7) // 8 * 8
        ends.append(at)
    log.pump()
    files = disk.killed().contents()
    return files.pop("00000000000000000001.log")[:at], ends, files, payloads


def judge(outcome: Outcome, what: str, files: dict[str, bytes], payloads: tuple[bytes, ...]) -> None:
    """Open `files`: everything, or a refusal that names a file."""
    outcome.tried += 1
    disk = WatchedDisk(files)
    try:
        found = recover(disk, serve=False)
    except (LogDamaged, NewerFormat) as refusal:
        outcome.refused += 1
        if not refusal.file or _without_temporary(disk) != files:
            outcome.wrong.append(f"{what}: refused without a file, or files were changed")
        return
    except WalError as error:
        outcome.wrong.append(f"{what}: {type(error).__name__}: {error}")
        return
    outcome.same += 1
    if found.payloads != payloads:
        outcome.wrong.append(f"{what}: opened with {len(found.payloads)} of {len(payloads)} payloads")


def bits(*, step: int, start: int, seed: int = 1) -> Outcome:
    """Flip every `step`-th bit of every file, beginning with `start`."""
    outcome, known = Outcome(), sample(seed=seed)
    for name in sorted(known.files):
        data = known.files[name]
        for bit in range(start, len(data) * 8, step):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            judge(outcome, f"{name} bit {bit}", {**known.files, name: bytes(flipped)}, known.payloads)
    return outcome


def cuts(*, step: int, start: int) -> Outcome:
    """Cut a segment at every `step`-th byte, with MARK saying all, half, nothing, or being away; beside an oracle."""
    outcome = Outcome()
    data, ends, files, payloads = long_sample()
    marks = {"all": len(ends), "half": len(ends) // 2, "none": 0, "away": None}
    for (word, durable), length in itertools.product(marks.items(), range(start, len(data) + 1, step)):
        rest = {name: content for name, content in files.items() if name != "MARK"}
        if durable is not None:
            rest["MARK"] = encode_slot(Mark(durable, 1)).ljust(4128, b"\0")
        whole = sum(1 for end in ends if end <= length) if length >= 96 else 0
        outcome.tried += 1
        expected = payloads[:whole] if whole + 1 > (durable or 0) else None
        found: list[bytes] | None
        try:
            found = list(recover(SimDisk({**rest, "00000000000000000001.log": data[:length]}), serve=False).payloads)
        except LogDamaged:
            found = None
        outcome.same += found is not None
        outcome.refused += found is None
        if found != expected:
            outcome.wrong.append(f"cut at {length}, MARK {word}")
    return outcome


Edit = tuple[str, Callable[[dict[str, bytes]], dict[str, bytes] | None]]


def edits(names: list[str]) -> Iterator[Edit]:
    """Everything that somebody may do to one or two files of a folder. An edit that does not apply gives None."""
    for name in names:
        yield f"delete {name}", partial(_delete, name)
        yield f"empty {name}", partial(_change, name, lambda data: b"")
        yield f"halve {name}", partial(_change, name, lambda data: data[: len(data) // 2])
        yield f"zero {name}", partial(_change, name, lambda data: bytes(len(data)))
        yield f"lengthen {name}", partial(_change, name, lambda data: data + b"more")
        for other in _other_names(name, names):
            yield f"rename {name} to {other}", partial(_move, name, other)
            yield f"copy {name} to {other}", partial(_copy, name, other)
            yield f"swap {name} and {other}", partial(_swap, name, other)


def _delete(name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {known: data for known, data in files.items() if known != name}


def _change(name: str, change: Callable[[bytes], bytes], files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, name: change(files.get(name, b""))}


def _copy(name: str, other: str, files: dict[str, bytes]) -> dict[str, bytes] | None:
    return {**files, other: files[name]} if name in files else None


def _other_names(name: str, names: list[str]) -> list[str]:
    suffix = name[20:]
    fresh = [f"{number:020}{suffix}" for number in (2, 5, 30, 1000)] if suffix else []
    return [other for other in [*names, *fresh] if other != name]


def _move(name: str, other: str, files: dict[str, bytes]) -> dict[str, bytes] | None:
    if name not in files:
        return None
    moved = {k: v for k, v in files.items() if k != name}
    moved[other] = files[name]
    return moved


def _swap(name: str, other: str, files: dict[str, bytes]) -> dict[str, bytes] | None:
    return {**files, name: files[other], other: files[name]} if name in files and other in files else None


def folder(*, pairs: bool, snapshots: bool) -> Outcome:
    """Every single operation on the files of a folder, or every pair of operations."""
    outcome, known = Outcome(), sample(frames=4, snapshots=snapshots)
    names = sorted(known.files)
    all_edits = list(edits(names))
    for what, edit in all_edits:
        after = edit(known.files)
        if after is None or _hopeless(after, known.files):
            continue
        judge(outcome, what, after, known.payloads)
        for then, second in all_edits if pairs else ():
            if (twice := second(after)) is not None and not _hopeless(twice, known.files):
                judge(outcome, f"{what}, {then}", twice, known.payloads)
    return outcome


def _hopeless(files: dict[str, bytes], whole: dict[str, bytes]) -> bool:
    """Whether the only proof (MARK) is gone together with the last segment: the one case that nothing can see."""
    last = max(name for name in whole if name.endswith(".log"))
    return files.get("MARK") != whole["MARK"] and files.get(last) != whole[last]


def main() -> int:
    """Run one search and print what it saw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("search", choices=("bits", "cuts", "files"))
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    if options.search == "files":
        outcome = folder(pairs=options.pairs, snapshots=bool(options.start))
    else:
        outcome = {"bits": bits, "cuts": cuts}[options.search](step=options.step, start=options.start)
    outcome.wrong = outcome.wrong[:20]
    print(msgspec.json.encode(outcome).decode())
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
