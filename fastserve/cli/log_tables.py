"""What the log answered, as tables for the terminal. Pure but for the width and the colours of standard output."""

import os
from collections.abc import Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastserve.monitor.drift import Drift, Drifted
from fastserve.monitor.performance import Joined, Performance
from fastserve.types import printable

MIN_COLUMNS = 120
VERDICTS = {"stable": "green", "moderate": "yellow", "significant": "bold red", "unknown": ""}
BARS = "▁▂▃▄▅▆▇█"
FULL_BAR_PSI = 0.5
MAX_CELL = 200
SHOWN_WINDOWS = 40
SHOWN_BARS = 20

Row = Sequence[str | Text]


def performance_text(found: Performance) -> str:
    """Counts and metrics, then windows, then slices."""
    counts = found.counts
    head = [
        f"{_named(found.model)}: {found.task}, {_span(found.start, found.end)}",
        f"{counts.predictions} predictions, {counts.joined} joined to what happened, {counts.unjoined} not (yet)"
        + (
            f"; {found.actuals_without_prediction} actuals without a prediction"
            if found.actuals_without_prediction
            else ""
        ),
    ]
    delay = counts.label_delay_s
    if delay is not None:
        head.append(
            f"label delay: {_seconds(delay.p50)} median, {_seconds(delay.p95)} p95, {_seconds(delay.max)} at most"
        )
    if found.positive_class is not None:
        head.append(f"positive class: {_named(found.positive_class)}")
    parts = ["\n".join(head)]
    if found.metrics:
        parts.append(render(("metric", "value"), [(name, number(value)) for name, value in found.metrics.items()]))
    shown = [name for name in dict.fromkeys((found.metric, *_few(found))) if name in found.metrics]
    if len(found.windows) > 1:
        rows = [
            (one.start, *_counts(one.counts), *_values(one.metrics, shown)) for one in found.windows[-SHOWN_WINDOWS:]
        ]
        parts.append(render(("window", "predictions", "joined", *shown), rows))
    if found.slices:
        rows = [(one.value, *_counts(one.counts), *_values(one.metrics, shown)) for one in found.slices]
        parts.append(render((f"{found.slice} (worst first)", "predictions", "joined", *shown), rows))
    return "\n\n".join([*parts, *(f"note: {printable(note)}" for note in found.notes)])


def _few(found: Performance) -> list[str]:
    """What stands beside the metric of windows and slices."""
    beside = {
        "classification": ("accuracy", "precision", "recall", "f1", "f1_macro", "auc", "log_loss"),
        "regression": ("mae", "rmse", "mape", "r2"),
        "ranking": ("ndcg", "mrr", "map"),
    }
    return [*beside[found.task]]


def drift_text(found: Drift) -> str:
    """A row a dimension, most drifted first; slices below."""
    baseline = found.baseline
    head = [
        f"{_named(found.model)}: {found.rows} records, {_span(found.start, found.end)}",
        f"baseline: {baseline.kind}, {baseline.rows} records"
        + (f", {_span(baseline.start, baseline.end)}" if baseline.start else ""),
    ]
    columns = ("dimension", "verdict", "PSI", "JS", "KS", "W", "missing", "new values", "over time")
    parts = ["\n".join(head)]
    if found.dimensions:
        parts.append(render(columns, [_drifted(one) for one in found.dimensions], keeps_lines=True))
    sliced = [
        (one.name, part.value or "", str(part.rows), number(part.psi), number(part.cosine))
        for one in found.dimensions
        for part in one.slices[:3]
    ]
    if sliced:
        parts.append(render(("dimension", f"{found.slice} (worst first)", "rows", "PSI", "cosine"), sliced))
    return "\n\n".join([*parts, *(f"note: {printable(note)}" for note in found.notes)])


def _drifted(one: Drifted) -> Row:
    missing = f"{_share(one.baseline.missing_share)} > {_share(one.current.missing_share)}"
    fresh = one.new_values
    told = f"{fresh.values}, {_share(fresh.share)}" if fresh is not None and fresh.values else ""
    psi = number(one.psi) if one.kind != "embedding" else f"cos {number(one.cosine)}"
    return (
        one.name,
        Text(one.verdict, style=VERDICTS.get(one.verdict, "")),
        psi,
        number(one.js),
        number(one.ks.statistic if one.ks else None),
        number(one.wasserstein),
        missing,
        told,
        _bars([part.psi if part.psi is not None else part.cosine for part in one.windows]),
    )


def _bars(values: Sequence[float | None]) -> str:
    """A character a window, or a few of them: as high as it drifted there."""
    if len(values) < 2:
        return ""
    each = -(-len(values) // SHOWN_BARS)
    parts = [[one for one in values[at : at + each] if one is not None] for at in range(0, len(values), each)]
    top = len(BARS) - 1
    return "".join(BARS[min(top, int(max(part) / FULL_BAR_PSI * top))] if part else "." for part in parts)


def render(columns: Sequence[str], rows: Sequence[Row], *, keeps_lines: bool = False) -> str:
    """A table; `keeps_lines`: only its first column may be broken.

    What came from outside is shown as it is, with what would garble a terminal escaped.
    """
    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(columns):
        table.add_column(Text(printable(name)), overflow="fold", no_wrap=keeps_lines and at > 0)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cut(printable(cell))) for cell in row))
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").splitlines())


def _console() -> Console:
    """As wide and as colourful as standard output is; NO_COLOR is rich's own business (no-color.org)."""
    real = Console()
    columns = real.width if real.is_terminal or "COLUMNS" in os.environ else max(real.width, MIN_COLUMNS)
    return Console(file=StringIO(), width=columns, force_terminal=real.is_terminal, highlight=False)


def cell(value: Any) -> str:
    """A value of a query's row."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    """To four digits; `-` where there is none."""
    return "-" if value is None else f"{value:.4g}"


def _values(metrics: dict[str, float | None], names: Sequence[str]) -> list[str]:
    return [number(metrics.get(name)) for name in names]


def _counts(counts: Joined) -> tuple[str, str]:
    return str(counts.predictions), str(counts.joined)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.3g} s"


def _span(start: str | None, end: str | None) -> str:
    return f"{_second(start)} to {_second(end)}" if start and end else "no records"


def _second(moment: str) -> str:
    """Without what is shorter."""
    return f"{moment.partition('.')[0].rstrip('Z')}Z"


def _named(name: str) -> str:
    return _cut(printable(name))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "..."
