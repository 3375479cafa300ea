"""`python -m bench.load`: measure the cells, write bench/results/load.json (bench/render.py makes the table of it).

A cell takes about contenders x seconds x rounds, and ten seconds to start. Figures of cells not asked for stay.
"""

import argparse
import tempfile
from pathlib import Path

from bench.load import machine, results, wrk
from bench.load.cells import CELLS
from bench.load.contenders import CONTENDERS
from bench.load.results import Measured
from bench.load.run import measure
from bench.load.servers import ROOT
from bench.load.workload import LOG_RECORD, WORKLOADS, LogRecord, Workload

ROUNDS = 5
SECONDS = 2.0
PATIENCE_S = 60.0
"""How long a whole run may wait, in all, for a quieter moment."""

QUICK_SECONDS = 1.0
QUICK_PATIENCE_S = 3.0
RESULTS = ROOT / "bench" / "results" / "load.json"
QUICK_RESULTS = ROOT / "build" / "load-quick.json"
"""Quick figures are for whoever works on the code: never where the shown ones are."""


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description="fastserve under load, beside bare servers."
    )
    parser.add_argument("--only", action="append", choices=list(CELLS), help="Measure this cell. Repeatable.")
    parser.add_argument("--rounds", type=int, default=None, help=f"Interleaved rounds.  [default: {ROUNDS}]")
    parser.add_argument("--seconds", type=float, default=None, help=f"Seconds of one drive.  [default: {SECONDS:g}]")
    parser.add_argument("--patience", type=float, default=None, help="Seconds that it may wait for a quieter moment.")
    parser.add_argument("--quick", action="store_true", help="One short round; written to build/load-quick.json.")
    parser.add_argument(
        "--server",
        action="append",
        type=_server,
        metavar="NAME=HOST:PORT",
        default=[],
        help="Measure this one too, in every cell that it answers; it serves what --models wrote. Repeatable.",
    )
    parser.add_argument("--models", type=Path, help="Write the models there, for others to serve; measures nothing.")
    given = parser.parse_args()
    if given.models is not None:
        for name in WORKLOADS:
            Workload(given.models, name)
        print(f"wrote {given.models / 'models'}: <name>/1/model.onnx")
        return
    rounds = given.rounds or (1 if given.quick else ROUNDS)
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    path = QUICK_RESULTS if given.quick else RESULTS
    wrk.needed()  # before minutes are spent
    machine.keep_to_two_cores()
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as folder:
        workloads = {name: Workload(Path(folder), name) for name in WORKLOADS}
        workloads[LOG_RECORD] = LogRecord(Path(folder))
        patience_s = QUICK_PATIENCE_S if given.quick else PATIENCE_S
        patience = machine.Patience(patience_s if given.patience is None else given.patience)
        for name in given.only or CELLS:
            _keep(path, name, measure(CELLS[name], workloads, rounds, seconds, patience, dict(given.server)))


def _server(text: str) -> tuple[str, str]:
    """`Triton=127.0.0.1:8000`, also as a URL."""
    name, _, address = text.partition("=")
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not name or not host or not port.isdecimal() or name in CONTENDERS:
        raise argparse.ArgumentTypeError(
            f"expected a new name and an address as in Triton=127.0.0.1:8000, got {text!r}"
        )
    return name, f"{host}:{port}"


def _keep(path: Path, name: str, measured: Measured) -> None:
    """Written after each cell: an interrupted run keeps what it has."""
    known = {**results.read(path), name: measured}
    results.write(path, {cell: known[cell] for cell in CELLS if cell in known})


if __name__ == "__main__":
    main()
