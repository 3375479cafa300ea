"""`python -m bench.load.budget`: what a request costs the server's processes, by whose code it is, in us of CPU.

Samples of all its threads (perf, from Debian's linux-perf) while wrk drives it, times the CPU time that an answer took in
that drive. Written to bench/results/budget.json; bench/render.py makes the table of it.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.load import machine
from bench.load.contenders import FASTSERVE, server
from bench.load.machine import Moment
from bench.load.servers import ROOT, Server
from bench.load.workload import Workload
from bench.load.wrk import Drive

RESULTS = ROOT / "bench" / "results" / "budget.json"
SECONDS = 4.0
WARM_UP_S = 1.0
SAMPLES_PER_S = 1500
WORKLOADS = {
    "tiny": 64,
    "tiny, v2 binary": 64,
    "mlp": 64,
    "mlp, v2 binary": 64,
    "cnn10": 16,
    "cnn10, v2 binary": 16,
    "encoder": 16,
}
"""Connections of each."""

KERNEL, GRANIAN, PYTHON, READ, BATCH, WRITE, RUN, LIBC, OTHER = PARTS = (
    "kernel: network, wake-ups, switches",
    "Granian, hyper, tokio",
    "CPython: our Python, Granian's objects, the GIL",
    "read: tensorize, binarytensor",
    "batch: arrivals, queue, gather, split, meters",
    "write: jsonwrite",
    "onnxruntime",
    "libc: memory, copies, locks",
    "numpy, msgspec, all else",
)
_OURS = {
    READ: ("tensorize", "binarytensor"),
    BATCH: ("arrivals", "batchqueue", "ticket", "coalesce", "costs", "meters"),
    WRITE: ("jsonwrite",),
}
_OTHERS = {
    KERNEL: ("[kernel", "[guest.kernel"),
    GRANIAN: ("_granian",),
    PYTHON: ("libpython", "python3"),
    RUN: ("onnxruntime", "libonnxruntime"),
    LIBC: ("libc.", "libc-", "ld-linux", "libm.", "libstdc++", "libgcc", "[vdso]", "libpthread"),
}


class Spent(Struct, kw_only=True):
    """One workload. `parts`: us of CPU for one answer."""

    connections: int
    answers: int
    cpu_us: float
    parts: dict[str, float]
    begun: Moment


def part_of(module: str) -> str:
    """Whose code it is, from the path of the library it was found in."""
    name = module.rpartition("/")[2]
    if "fastserve/_ext/" in module:
        return next((part for part, names in _OURS.items() if name.startswith(names)), OTHER)
    return next((part for part, names in _OTHERS.items() if name.startswith(names)), OTHER)


def shares(lines: Iterable[str]) -> dict[str, float]:
    """The part of each in perf's samples, one a line that ends with the library in brackets; in the order of `PARTS`."""
    counts = Counter(part_of(line.rstrip()[line.rindex("(") + 1 : -1]) for line in lines if line.rstrip().endswith(")"))
    total = max(1, counts.total())
    return {part: counts[part] / total for part in PARTS}


def read(path: Path = RESULTS) -> dict[str, Spent]:
    """By workload; empty where nothing was measured yet."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Spent]) if path.exists() else {}


def measure(workload: Workload, connections: int, seconds: float, folder: Path) -> Spent:
    """Drive a server of its own with `workload`, and sample it."""
    begun = machine.now()
    with server(FASTSERVE, workload.repository) as served:
        workload.check(served)
        _drive(served, workload, connections, WARM_UP_S).figures()
        cpu_s, samples = served.cpu_s(), folder / "perf.data"
        driven = _drive(served, workload, connections, seconds)
        _sample(served, seconds, samples)
        figures = driven.figures()
        cpu_us = (served.cpu_s() - cpu_s) / max(1, figures.answers) * 1e6
    command = ["perf", "script", "-i", str(samples), "-F", "ip,sym,dso"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    parts = {part: share * cpu_us for part, share in shares(lines).items()}
    return Spent(connections=connections, answers=figures.answers, cpu_us=cpu_us, parts=parts, begun=begun)


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.load.budget", description="What a request costs, by part.")
    parser.add_argument("--only", action="append", choices=list(WORKLOADS), help="Sample this workload. Repeatable.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"Of a drive.  [default: {SECONDS:g}]")
    given = parser.parse_args()
    if shutil.which("perf") is None:
        raise SystemExit("bench.load.budget needs perf: apt-get install linux-perf")
    machine.keep_to_two_cores()
    spent = read()
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        for name in given.only or WORKLOADS:
            workload = Workload(Path(folder), name)
            spent[name] = measure(workload, WORKLOADS[name], given.seconds, Path(folder))
            print(f"{name}: {spent[name].cpu_us:,.1f} us of CPU an answer", flush=True)
    RESULTS.write_bytes(
        msgspec.json.format(msgspec.json.encode({n: spent[n] for n in WORKLOADS if n in spent})) + b"\n"
    )


def _drive(served: Server, workload: Workload, connections: int, seconds: float) -> Drive:
    url = served.url(workload.path)
    return Drive(url, workload.body_file, workload.headers, connections=connections, seconds=seconds)


def _sample(served: Server, seconds: float, into: Path) -> None:
    pids = ",".join(map(str, served.pids()))
    command = ["perf", "record", "-q", "-F", str(SAMPLES_PER_S), "-p", pids, "-o", str(into)]
    subprocess.run(
        [*command, "--", "sleep", f"{seconds * 0.9:.1f}"], capture_output=True, timeout=seconds + 60, check=True
    )


if __name__ == "__main__":
    main()
