"""Power cuts and kills at every call that changes something, in many lives of a journal. `python -m tests.wal.crashes`.

Prints one line of JSON: states tried, distinct ones, violations. A violation is repeated with the seed printed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time

import msgspec

from holdfast.wal.errors import WalError
from tests.wal.disk import SimDisk
from tests.wal.world import Broken, Life, recover


class Tally(msgspec.Struct):
    """What a run saw."""

    states: int = 0
    distinct: int = 0
    nested: int = 0
    lives: int = 0
    violations: list[str] = []


class Crashes:
    """Tries crashes in the lives of seeds from `seed` on until `states` states were tried."""

    def __init__(self, *, seed: int, states: int, cuts: int = 3, depth: int = 0, steps: int = 24) -> None:
        self.tally = Tally()
        self._seen: set[bytes] = set()
        self._seed, self._states, self._cuts, self._depth, self._steps = seed, states, cuts, depth, steps

    def run(self) -> Tally:
        seed = self._seed
        while self.tally.states < self._states and len(self.tally.violations) < 5:
            self.tally.lives += 1
            self._live(seed)
            seed += 1
        self.tally.distinct = len(self._seen)
        return self.tally

    def _live(self, seed: int) -> None:
        draw = random.Random(seed)
        life = Life(random.Random(seed + 1))
        life.disk.after = lambda call, name: self._crash(life, draw, f"seed {seed}, after {call} of {name}")
        try:
            life.run(self._steps)
        except (Broken, WalError) as error:
            self.tally.violations.append(f"seed {seed}: {type(error).__name__}: {error}")

    def _crash(self, life: Life, draw: random.Random, where: str) -> None:
        # Some lives are tried at each of their calls, others at a third of them: more lives, rarer sequences.
        if self.tally.states >= self._states or (self.tally.lives % 4 and draw.random() > 0.3):
            return
        cuts = 0 if life.disk.calm else self._cuts
        disks = [life.disk.killed()] + [life.disk.cut(draw) for _ in range(cuts)]
        for disk in disks:
            self.tally.states += 1
            self._seen.add(_fingerprint(disk))
            try:
                self._try(life, disk, draw)
            except (Broken, WalError) as error:
                self.tally.violations.append(f"{where}, state {self.tally.states}: {type(error).__name__}: {error}")

    def _try(self, life: Life, disk: SimDisk, draw: random.Random) -> None:
        start = disk.contents()
        if self._depth:
            self._recover_in_pieces(life, start, draw, self._depth)
        found = recover(disk)
        life.model.check(found)
        if len([name for name in start if name.endswith(".snap")]) > 1:
            self._without_newest_snapshot(life, start)
        if self.tally.states % 8 == 0:
            again = recover(disk.killed())
            if again.payloads != found.payloads or again.epoch <= found.epoch:
                raise Broken("a second recovery found something else than the first")

    def _without_newest_snapshot(self, life: Life, content: dict[str, bytes]) -> None:
        """Two snapshots are kept so that one may be damaged: the older one and the segments must do."""
        newest = max(name for name in content if name.endswith(".snap"))
        damaged = bytearray(content[newest] or b"?")
        damaged[len(damaged) // 2] ^= 1
        life.model.check(recover(SimDisk({**content, newest: bytes(damaged)})))

    def _recover_in_pieces(self, life: Life, start: dict[str, bytes], draw: random.Random, depth: int) -> None:
        """Crash inside the recovery, at each call with some luck, and recover from that: the same must come out."""
        whole = recover(SimDisk(start)).payloads
        disk = SimDisk(start)

        def crash(call: str, name: str) -> None:
            if draw.random() > 0.3:
                return
            self.tally.nested += 1
            left = disk.killed() if draw.random() < 0.2 else disk.cut(draw)
            if depth > 1 and draw.random() < 0.2:
                self._recover_in_pieces(life, left.contents(), draw, depth - 1)
            again = recover(left)
            life.model.check(again)
            if again.payloads != whole:
                raise Broken(f"a crash after {call} of {name} inside recovery changed the outcome")

        disk.after = crash
        recover(disk)


def _fingerprint(disk: SimDisk) -> bytes:
    state = hashlib.blake2b(digest_size=12)
    for name, content in sorted(disk.contents().items()):
        state.update(name.encode())
        state.update(content)
    return state.digest()


def main() -> int:
    """Run and print the tally; 1 when a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--states", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--depth", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    tally = Crashes(seed=options.seed, states=options.states, cuts=options.cuts, depth=options.depth).run()
    print(msgspec.json.encode(tally).decode())
    print(f"{time.perf_counter() - began:.1f} s", file=sys.stderr)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
