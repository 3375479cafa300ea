"""What onnxruntime alone gives: rows a second, over batch sizes and threads, best of all.

`python -m bench.load.raw_ort MODEL SECONDS`: a process of its own, so that its thread pools are nobody else's.
Prints one line of JSON: rows a second and CPU microseconds a row, by setting, of the most promising ones.

All settings are tried for a short time, the best few are then measured for longer: the highest of many short samples on a
noisy machine would say more of the noise than of the setting.
"""

import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64)
VOCABULARY = 1000
FINALISTS = 3
TRIAL_SHARE = 8
"""A trial takes this part of a measurement's time."""
SETTINGS = {"1 thread": (1, 1), "2 threads": (1, 2), "2 sessions of 1 thread": (2, 1)}
"""Sessions at a time, threads in each."""


def main(model: str, seconds: str) -> None:
    """Measure the best settings for about `seconds` each."""
    sessions = {
        name: [session(Path(model), threads) for _ in range(count)] for name, (count, threads) in SETTINGS.items()
    }
    tried = {
        (name, rows): _measure(sessions[name], rows, float(seconds) / TRIAL_SHARE)["rows_per_s"]
        for name in SETTINGS
        for rows in BATCH_ROWS
    }
    best = sorted(tried, key=tried.__getitem__, reverse=True)[:FINALISTS]
    told = {f"{name}, batches of {rows}": _measure(sessions[name], rows, float(seconds)) for name, rows in best}
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")


def session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    """One with that many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feed(session: onnxruntime.InferenceSession, rows: int) -> dict[str, Any]:
    """So many rows for a model with one input."""
    spec = session.get_inputs()[0]
    rand = np.random.default_rng(7)
    shape = (rows, *spec.shape[1:])
    integers = spec.type == "tensor(int64)"
    return {spec.name: rand.integers(0, VOCABULARY, shape) if integers else rand.random(shape, dtype=np.float32)}


def _measure(sessions: list[onnxruntime.InferenceSession], rows: int, seconds: float) -> dict[str, float]:
    fed = feed(sessions[0], rows)
    for one in sessions:
        one.run(None, fed)
    done = [0] * len(sessions)
    start = time.perf_counter()
    cpu_start = _cpu_s()

    def run(at: int) -> None:
        while time.perf_counter() - start < seconds:
            sessions[at].run(None, fed)
            done[at] += rows

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(done)
    return {
        "rows_per_s": total / (time.perf_counter() - start),
        "cpu_us_per_row": (_cpu_s() - cpu_start) / total * 1e6,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
