"""The table that `serve` prints once its models are loaded, and that `check` and `models` print too.

Thread: any. Memory: plain strings in, one string out; who prints it decides where.
"""

import os
from collections.abc import Sequence
from io import StringIO

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastserve.types import DType, TensorSpec

MIN_COLUMNS = 120
"""Where nothing says how wide the terminal is (a log file), lines may be this long."""

MAX_SPECS = 8
"""More inputs or outputs than these are counted, not listed."""

STATE_STYLES = {"READY": "green", "FAILED": "red", "LOADING": "yellow", "DRAINING": "yellow"}


class ModelRow(Struct, frozen=True, kw_only=True):
    """One version of one model, in words. `objective`: what it is to answer within.

    `reason`: why it is FAILED; `batch`: yes, or no and why not.
    """

    model: str
    version: str = ""
    state: str = ""
    inputs: str = ""
    outputs: str = ""
    batch: str = ""
    objective: str = ""
    threads: str = ""
    provider: str = ""
    reason: str = ""


COLUMNS = ("model", "version", "state", "inputs", "outputs", "batch", "objective", "threads", "provider")


def objective_text(slo_ms: float) -> str:
    """`20 ms`; empty without an objective."""
    return f"{slo_ms:g} ms" if slo_ms else ""


def batch_text(batchable: bool, reason: str, sizes: Sequence[int]) -> str:
    """Whether requests share runs, of which sizes, or why not."""
    if not batchable:
        return f"no: {reason}"
    return f"yes: {', '.join(map(str, sizes))}" if sizes else "yes"


def spec_text(spec: TensorSpec) -> str:
    """`image float[rows, 8, 8]`: a free dimension by its name, or ?; unknown rank as [...]."""
    if spec.shape is None:
        dims = "..."
    else:
        names = spec.dim_names or ("",) * len(spec.shape)
        dims = ", ".join(name or "?" if dim < 0 else str(dim) for dim, name in zip(spec.shape, names, strict=False))
    return f"{spec.name} {DType(spec.dtype).name.lower()}[{dims}]"


def specs_text(specs: Sequence[TensorSpec]) -> str:
    """One line for each, as a cell of the table."""
    lines = [spec_text(spec) for spec in specs[:MAX_SPECS]]
    return "\n".join([*lines, f"and {len(specs) - MAX_SPECS} more"] if len(specs) > MAX_SPECS else lines)


def render_table(rows: Sequence[ModelRow], urls: Sequence[str] = ()) -> str:
    """The table and the URLs, as text for standard output; without colours where NO_COLOR is set or it is no terminal.

    Columns that are empty in every row are left out; a failed row's reason takes a line of its own below it.
    """
    console = _console()
    shown = [name for name in COLUMNS if name in COLUMNS[:3] or any(getattr(row, name) for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name == "state")
    for row in rows:
        table.add_row(*(Text(getattr(row, name), style=_style(name, row)) for name in shown))
    with console.capture() as captured:
        if rows:
            console.print(table)
        for row in rows:
            if row.reason:
                subject = " ".join(filter(None, (row.model, row.version)))
                console.print(Text(f"{subject}: {row.reason}", style="red"), soft_wrap=True)  # to be searched for
        for url in urls:
            console.print(Text(url, style="bold"), soft_wrap=True)  # to be pasted: never broken
    lines = captured.get().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _style(column: str, row: ModelRow) -> str:
    return STATE_STYLES.get(row.state, "") if column == "state" else ""


def _console() -> Console:
    """As wide and as colourful as standard output is; NO_COLOR is rich's own business (no-color.org)."""
    real = Console()
    columns = real.width if real.is_terminal or "COLUMNS" in os.environ else max(real.width, MIN_COLUMNS)
    return Console(file=StringIO(), width=columns, force_terminal=real.is_terminal, highlight=False, soft_wrap=False)
