"""kill -9 of writers at random moments: each acknowledged record is there exactly once, and no torn one.

FASTSERVE_TEST_KILLS: how many loops for each number of workers (8); 1000 take about five minutes on a quiet machine.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOPS = int(os.environ.get("FASTSERVE_TEST_KILLS", "8"))
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.timeout(60 + 10 * LOOPS)
def test_killed_writers_have_stored_what_they_acknowledged(tmp_path, workers):
    seed = int.from_bytes(os.urandom(4))
    command = [sys.executable, "-m", "tests.support.killed_writers", str(tmp_path / "log")]
    ended = subprocess.run(
        [*command, str(LOOPS), str(workers), str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"seed {seed}: {ended.stdout}{ended.stderr}"
