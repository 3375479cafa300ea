"""Weights of several workers lie in memory once; as many workers as the machine and the models suggest.

FASTSERVE_TEST_WEIGHTS_MB=200: with four workers and a model of that size, and memory as the kernel counts it.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.support import models
from tests.support.served import wire, workers_of
from tests.support.server import ServerProcess
from tests.support.waiting import until

WEIGHTS_MB = int(os.environ.get("FASTSERVE_TEST_WEIGHTS_MB", "0"))
MOST = 1.5
"""The memory of four workers, in that of one."""

WIDTH = 2048
LAYER_BYTES = WIDTH * WIDTH * 4


def layers(count: int, width: int = WIDTH):
    """MatMul after MatMul: what onnxruntime packs, which is hard to share."""
    nodes = [models.node("MatMul", f"x{i} w{i}", f"x{i + 1}") for i in range(count)]
    weights = [models.weight(f"w{i}", models.random(width, width, seed=i) / width) for i in range(count)]
    return models.build(nodes, [models.tensor("x0", ["N", width])], [models.tensor(f"x{count}", ["N", width])], weights)


def weights_mapped(pid: int) -> int:
    """Bytes of prepared weights that a process has mapped."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    spans = [line[0].split("-") for line in lines if "fastserve-weights-" in line[-1]]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


def pss_kb(pid: int) -> int:
    """A process's memory, what several have being divided by them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))


def ask(server: ServerProcess, width: int) -> bytes:
    """One answer of the model's."""
    row = [1.0] + [0.5] * (width - 1)
    with wire(server) as one:
        answer = one.post("/v1/models/m:predict", f'{{"instances": [{row}]}}'.encode())
    assert answer.status == 200
    return answer.body


def test_workers_have_the_weights_mapped_until_the_server_ends(tmp_path: Path) -> None:
    width = 64
    models.save(layers(2, width), tmp_path / "models" / "m" / "1")
    cache = tmp_path / "cache"
    cache.mkdir()
    options = ("--workers", "2", "--share-weights-bytes", "1000", "--weights-dir", str(cache))
    with ServerProcess(str(tmp_path / "models"), *options) as server:
        first, second = workers_of(server)
        assert weights_mapped(first) >= 2 * width * width * 4  # as they are packed
        assert weights_mapped(second) == weights_mapped(first)
        answered = ask(server, width)
        os.kill(first, signal.SIGKILL)
        until(lambda: first not in workers_of(server) and len(workers_of(server)) == 2)
        until(lambda: all(weights_mapped(pid) for pid in workers_of(server)))
        assert ask(server, width) == answered
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    (left,) = cache.iterdir()
    with ServerProcess(str(tmp_path / "models"), *options) as server:
        until(lambda: not left.exists())
        assert len(list(cache.iterdir())) == 1
    assert list(cache.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    models.save(models.tiny(), tmp_path / "m" / "1")
    with ServerProcess(str(tmp_path), "--workers", "2", "--weights-dir", str(tmp_path / "gone")) as server:
        assert server.output.count("each worker has its own copy of all weights") == 1


def test_workers_are_planned_and_the_table_says_why(tmp_path: Path) -> None:
    models.save(models.tiny(), tmp_path / "m" / "1")
    with ServerProcess(str(tmp_path), "--workers", "auto") as server:
        (line,) = [line for line in server.output.splitlines() if line.startswith("workers: ")]
        assert len(workers_of(server)) == int(line.split()[1])
        assert "where there are small models" in line


@pytest.mark.skipif(not WEIGHTS_MB, reason="FASTSERVE_TEST_WEIGHTS_MB=200: a minute")
@pytest.mark.timeout(300)
def test_four_workers_take_at_most_half_more_than_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = WEIGHTS_MB * 1_000_000 // LAYER_BYTES + 1
    models.save(layers(count), tmp_path / "m" / "1")
    found = {}
    for workers in (1, 4):
        with ServerProcess(str(tmp_path), "--workers", str(workers)) as server:
            ask(server, WIDTH)
            found[workers] = sum(pss_kb(pid) for pid in workers_of(server))
    with capsys.disabled():
        print(
            f"\nmodel of {count * LAYER_BYTES >> 20} MiB: 1 worker {found[1] >> 10} MiB, 4 workers {found[4] >> 10} MiB"
        )
    assert found[4] <= MOST * found[1]
