"""A load test as one HTML file that needs no network: the table, and curves drawn by plotly, whose script is inlined.

Pure but for importing plotly, which the extra `plots` brings.
"""

import importlib.util
from html import escape
from typing import Any

import numpy as np

from fastserve.loadtest.report import Report, Run
from fastserve.loadtest.table import HEAD, batches_of, figure, load_of, measured_text, notes, sweep_line
from fastserve.loadtest.target import LoadTestError

NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
TICKS = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5)]
"""Of milliseconds."""
CURVES = ("p50", "p90", "p99", "p99_9")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .25rem .8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr + tr { border-top: 1px solid #ddd; }
.met { color: #16713a; font-weight: 600; } .missed { color: #b3261e; font-weight: 600; } code { background: #f3f3f3; }
"""


def need_plotly() -> None:
    """Raises LoadTestError where plotly is not installed: before anything is measured."""
    if importlib.util.find_spec("plotly") is None:
        raise LoadTestError("--html needs plotly: pip install 'fastserve[plots]'")


def page(report: Report) -> str:
    """The whole file."""
    request = report.request
    lines = [
        f"<h1>{escape(request.model or request.path or report.url)}</h1>",
        f"<p><code>{escape(report.url)}{escape(request.path)}</code>, {escape(request.protocol)}, {request.rows} "
        f"row{'s' if request.rows > 1 else ''} of {request.mean_bytes:,.0f} bytes a request; {escape(report.started)}, "
        f"{report.machine.cpus} CPUs, {escape(report.machine.platform)}, fastserve {escape(report.fastserve)}, "
        f"seed {report.seed}</p>",
        _table(report.runs),
        *(f"<p>{escape(note)}</p>" for run in report.runs for note in notes(run)),
        *_verdicts(report),
        *_figures(report),
    ]
    title = escape(f"fastserve bench: {request.model or report.url}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(lines) + "\n</body></html>\n"
    )


def _table(runs: list[Run]) -> str:
    rows = [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in HEAD)}</tr>"]
    for run in runs:
        at = run.latency_ms
        times = (figure(time) for time in (at.p50, at.p90, at.p99, at.p99_9, at.most))
        cells = (load_of(run), f"{run.per_s:,.0f}", *times, f"{run.failed:,}", batches_of(run))
        rows.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _verdicts(report: Report) -> list[str]:
    lines = [f"<p>{escape(sweep_line(report))}</p>"] if report.sweep is not None else []
    for run in report.runs:
        for verdict in run.verdicts:
            word = "met" if verdict.met else "missed"
            told = f"{load_of(run)}: {verdict.objective}: {measured_text(verdict)}"
            lines.append(f'<p>{escape(told)} <span class="{word}">{word}</span></p>')
    return lines


def _figures(report: Report) -> list[str]:
    """The script goes with the first figure."""
    figures = [_percentiles(report.runs), _rates(report.runs), _over_time(report.runs)]
    return [
        one.to_html(full_html=False, include_plotlyjs=at == 0, config={"displaylogo": False})
        for at, one in enumerate(figures)
    ]


def _percentiles(runs: list[Run]) -> Any:
    """Latency by percentile, each nine as wide as the one before: where the tail is."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for run in runs:
        if not run.histogram_us:
            continue
        highest, counts = np.array(run.histogram_us).T
        below = (np.cumsum(counts) - counts / 2) / counts.sum()
        drawn.add_scatter(
            x=nines(below),
            y=highest / 1000,
            name=load_of(run),
            mode="lines",
            line_shape="hv",
            customdata=below * 100,
            hovertemplate="p%{customdata:.4f}: %{y:.3f} ms",
        )
    ticks = [f"{share * 100:.10g} %" for share in NINES]
    drawn.update_layout(title="Latency by percentile", xaxis_title="requests answered", yaxis_title="ms")
    drawn.update_xaxes(tickvals=nines(np.array(NINES)).tolist(), ticktext=ticks)
    drawn.update_yaxes(type="log", tickvals=TICKS, ticktext=[f"{one:g}" for one in TICKS])
    return drawn


def nines(shares: Any) -> Any:
    """How many nines a share has: 0.9 is 1, 0.99 is 2."""
    return -np.log10(np.clip(1 - shares, 1e-9, 1))


def _rates(runs: list[Run]) -> Any:
    """Latency against the rate that was answered; where a curve turns up is what there is."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    ordered = sorted((run for run in runs if run.answered), key=lambda run: run.per_s)
    for name in CURVES:
        drawn.add_scatter(
            x=[run.per_s for run in ordered],
            y=[getattr(run.latency_ms, name) for run in ordered],
            text=[load_of(run) for run in ordered],
            name=name.replace("_", "."),
            mode="lines+markers",
            hovertemplate="%{text}: %{y:.3f} ms at %{x:,.0f}/s",
        )
    drawn.update_layout(title="Latency and rate", xaxis_title="answered requests/s", yaxis_title="ms")
    drawn.update_yaxes(type="log", tickvals=TICKS, ticktext=[f"{one:g}" for one in TICKS])
    return drawn


def _over_time(runs: list[Run]) -> Any:
    """Answers over each run; a stall is a gap."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for run in runs:
        width = run.timeline[1].at_s - run.timeline[0].at_s if len(run.timeline) > 1 else run.seconds or 1.0
        whole = [one for one in run.timeline if one.at_s + width <= run.seconds + width / 10]
        slices = whole or run.timeline  # the last one ends with the run, somewhere
        drawn.add_scatter(
            x=[one.at_s for one in slices],
            y=[one.good / width for one in slices],
            customdata=[[one.most_ms, one.failed] for one in slices],
            name=load_of(run),
            mode="lines",
            hovertemplate="%{x:.1f} s: %{y:,.0f}/s, longest %{customdata[0]:.2f} ms, %{customdata[1]} failed",
        )
    drawn.update_layout(title="Over time", xaxis_title="s", yaxis_title="answered requests/s")
    return drawn
