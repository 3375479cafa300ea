"""The trials for the terminal and as a page. Pure but for importing plotly."""

from html import escape
from typing import Any

from rich.table import Table

from fastserve.loadtest.page import STYLE
from fastserve.loadtest.table import figure, load_of
from fastserve.loadtest.tune.told import Tuning
from fastserve.loadtest.tune.trial import Outcome

HEAD = ("settings", "seconds", "requests/s", "latency ms", "at")
MAX_ROWS = 12


def results(rounds: list[list[Outcome]]) -> Table:
    """The best of the last round, then those that were left behind earlier."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in HEAD:
        table.add_column(name, justify="left" if name in ("settings", "at") else "right")
    for outcome in latest(rounds)[:MAX_ROWS]:
        table.add_row(*_row(outcome))
    return table


def latest(rounds: list[list[Outcome]]) -> list[Outcome]:
    """Each setting once, as it was measured last: those that came furthest first."""
    found: dict[Any, Outcome] = {}
    for outcomes in reversed(rounds):
        for outcome in outcomes:
            found.setdefault(outcome.setting, outcome)
    return list(found.values())


def _row(outcome: Outcome) -> list[str]:
    if outcome.reason:
        return [outcome.setting.text(), f"{outcome.seconds:g}", "-", "-", outcome.reason.splitlines()[0][:60]]
    rate = f"{outcome.rate:,.0f}" if outcome.rate else "none met it"
    best = [run for run in outcome.runs if run.per_s == outcome.rate]
    at = load_of(best[0]) if best else ""
    return [
        outcome.setting.text(),
        f"{outcome.seconds:g}",
        rate,
        "-" if outcome.latency_ms is None else figure(outcome.latency_ms),
        at,
    ]


def page(tuning: Tuning) -> str:
    """The whole file."""
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _row(one))}</tr>" for one in latest(tuning.rounds)
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in HEAD)
    drawn = _figure(tuning).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    machine = f"{tuning.machine.cpus} CPUs, {tuning.machine.platform}, fastserve {tuning.fastserve}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(f'fastserve tune: {tuning.model}')}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{escape(tuning.model)}</h1><p>{escape(', '.join(tuning.objectives))}; {escape(tuning.started)}, "
        f"{escape(machine)}</p>\n<pre>{escape(tuning.configuration)}</pre>\n"
        f"<table><tr>{head}</tr>{rows}</table>\n{drawn}\n</body></html>\n"
    )


def _figure(tuning: Tuning) -> Any:
    """A curve for each setting over its levels: right and low is good."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for outcome in latest(tuning.rounds):
        runs = sorted(outcome.runs, key=lambda run: run.connections)
        drawn.add_scatter(
            x=[run.per_s for run in runs],
            y=[run.latency_ms.p99 for run in runs],
            text=[load_of(run) for run in runs],
            name=outcome.setting.text(),
            mode="lines+markers",
            hovertemplate="%{text}: p99 %{y:.3f} ms at %{x:,.0f}/s",
        )
    drawn.update_layout(title="p99 and rate of every setting", xaxis_title="answered requests/s", yaxis_title="p99, ms")
    drawn.update_yaxes(type="log")
    return drawn
