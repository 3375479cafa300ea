"""Power is lost at each moment of a writer's life, and again while what it left is recovered: what was acknowledged is there.

FASTSERVE_TEST_POWER: how many lives (3); each loses power at about a hundred moments, in several ways.
"""

import os
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from fastserve.config import LogConfig
from fastserve.store import folder
from fastserve.store.ahead import Ahead
from fastserve.store.errors import SegmentUnreadable
from fastserve.store.frames import Kind
from fastserve.store.journal import Journal, Numbered
from fastserve.store.recovery import adopt
from tests.support.power import PowerDisk

LIVES = int(os.environ.get("FASTSERVE_TEST_POWER", "3"))
WAYS = 3


class Life:
    """A journal that writes appends of one to three frames, and what was acknowledged of them at every moment."""

    def __init__(self, root: Path, rand: Random) -> None:
        self.rand = rand
        self.tried: list[list[bytes]] = []
        self.kept: list[list[bytes]] = []
        self.crashes: list[tuple[Path, list[list[bytes]], list[list[bytes]]]] = []
        self._after = root / "after"
        self._after.mkdir()
        (root / "live").mkdir()
        self.disk = PowerDisk(root / "live", self.crash)
        config = LogConfig(max_segment_bytes=4096, max_prepared_bytes=rand.choice([0, 2500, 5000]))
        one = Journal(root / "live" / "log", config, self.disk, ahead=Ahead(self.disk, in_background=False))
        one.start()
        for number in range(14):
            appends = [self._append(number, i) for i in range(rand.randint(1, 2))]
            self.tried += appends
            one.write([Numbered([(Kind.RECORD, payload) for payload in each], 1, 1) for each in appends])
            self.kept += appends
        one.close()
        self.crash()

    def _append(self, number: int, index: int) -> list[bytes]:
        pieces = range(self.rand.randint(1, 3))
        return [b"%d.%d.%d " % (number, index, i) + bytes(self.rand.randint(0, 900)) for i in pieces]

    def crash(self) -> None:
        for _ in range(WAYS):
            path = self._after / str(len(self.crashes))
            self.disk.tree.write(path, self.rand)
            self.crashes.append((path, [*self.kept], [*self.tried]))


def found(log: Path) -> list[bytes]:
    payloads = []
    for segment in folder.listed(log):
        with suppress(SegmentUnreadable):  # its first write was torn
            payloads += [frame.payload for frame in folder.scan(segment)]
    return payloads


def check(log: Path, kept: list[list[bytes]], tried: list[list[bytes]]) -> None:
    there = found(log)
    assert len(there) == len(set(there)), "nothing is there twice"
    for append in tried:
        count = sum(payload in there for payload in append)
        assert count == len(append) if append in kept else count in {0, len(append)}
    assert set(there) <= {payload for append in tried for payload in append}


@pytest.mark.parametrize("seed", range(LIVES))
def test_power_is_lost_while_it_is_written(tmp_path, seed):
    life = Life(tmp_path, Random(seed))
    assert len(life.crashes) > 100 * WAYS / 2
    for path, kept, tried in life.crashes:
        log = path / "log"
        check_before = {payload for append in kept for payload in append}
        assert check_before <= set(found(log)), "it can be read before it is recovered"
        adopt(log)
        check(log, kept, tried)
        assert all(segment.sealed for segment in folder.listed(log))


def crashes_of_recovery(path: Path, into: Path, rand: Random) -> list[Path]:
    """The log at `path`, recovered; and what is left of it where power is lost again meanwhile."""
    again: list[Path] = []
    into.mkdir()

    def crash() -> None:
        again.append(into / str(len(again)))
        disk.tree.write(again[-1], rand)

    disk = PowerDisk(path, crash)
    adopt(path / "log", disk)
    return again


@pytest.mark.parametrize("seed", range(LIVES))
def test_power_is_lost_again_while_that_is_recovered(tmp_path, seed):
    rand = Random(seed)
    (tmp_path / "first").mkdir()
    life = Life(tmp_path / "first", rand)
    for index, (path, kept, tried) in enumerate(rand.sample(life.crashes, 25)):
        again = crashes_of_recovery(path, tmp_path / f"again-{index}", rand)
        check(path / "log", kept, tried)
        for second in again:
            adopt(second / "log")
            check(second / "log", kept, tried)
