"""The charts of a report, drawn by plotly. Pure: answers in, pieces of HTML out.

plotly reads a little HTML in every text, so names that came from outside are escaped before it gets them.
"""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from fastserve.monitor.distances import MODERATE, SIGNIFICANT
from fastserve.monitor.drift import Drift, Drifted
from fastserve.monitor.performance import Performance

BLUE, ORANGE, GREEN, GREY, RED = "#2f6fb2", "#e08a2e", "#3c9a5f", "#9aa3ad", "#c4453c"
SCALE = [[0.0, "#f4f7fa"], [0.2, "#cfe3c8"], [0.4, "#f3d27a"], [0.7, "#e08a2e"], [1.0, "#b3261e"]]
TOP_PSI = 0.5
"""Where the heat map's colours end."""

MAX_PAIRS = 24
MAX_ROWS = 60
MAX_BINS = 30
LABEL_CHARS = 28


def volume(found: Performance) -> str:
    """Predictions over time: those that are joined, and those that are not."""
    starts = [one.start for one in found.windows]
    figure = _figure("Records over time", height=280)
    for name, color, values in (
        ("joined to what happened", BLUE, [one.counts.joined for one in found.windows]),
        ("not joined (yet)", GREY, [one.counts.unjoined for one in found.windows]),
    ):
        figure.add_bar(x=starts, y=values, name=name, marker_color=color)
    figure.update_layout(barmode="stack")
    return _html(figure)


def rows_over_time(found: Drift) -> str:
    """Records over time, as a drift answer has them."""
    windows = max((one.windows for one in found.dimensions), key=len, default=[])
    figure = _figure("Records over time", height=260)
    figure.add_bar(x=[one.start for one in windows], y=[one.rows for one in windows], marker_color=BLUE, name="records")
    return _html(figure)


def metrics_over_time(found: Performance, names: Sequence[str]) -> str:
    """A line a metric; gaps where there is no value."""
    figure = _figure("Metrics over time", height=340)
    colors = (BLUE, ORANGE, GREEN, RED, GREY)
    for at, name in enumerate(names):
        values = [one.metrics.get(name) for one in found.windows]
        figure.add_scatter(
            x=[one.start for one in found.windows],
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": colors[at % len(colors)], "width": 3 if name == found.metric else 1.5},
            visible=True if at < 4 else "legendonly",
        )
    return _html(figure)


def slices(found: Performance) -> str:
    """The metric of each slice, worst on top; how many records are behind it."""
    shown = [one for one in found.slices if one.metrics.get(found.metric) is not None][:MAX_ROWS]
    figure = _figure(f"{found.metric} by {_label(found.slice or '')}, worst first", height=120 + 26 * len(shown))
    figure.add_bar(
        orientation="h",
        x=[one.metrics[found.metric] for one in shown],
        y=[_label(one.value) for one in shown],
        text=[f"{one.counts.joined} joined" for one in shown],
        marker_color=BLUE,
    )
    figure.update_yaxes(autorange="reversed", type="category")
    overall = found.metrics.get(found.metric)
    if overall is not None:
        figure.add_vline(x=overall, line_dash="dot", line_color=GREY, annotation_text="all")
    return _html(figure)


def calibration(found: Performance) -> str:
    """What scores promised, and what came."""
    figure = _figure("Calibration: mean score and share of positives", height=340)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, name="as promised")
    figure.add_scatter(
        x=[one.mean_score for one in found.calibration],
        y=[one.positive_rate for one in found.calibration],
        mode="lines+markers",
        text=[f"{one.rows} records" for one in found.calibration],
        line={"color": BLUE},
        name="as it came",
    )
    return _html(figure)


def confusion(found: Performance) -> str:
    """How often each class was taken for each."""
    names = [_label(one.name) for one in found.classes]
    figure = _figure("Predicted (across) and true classes (down)", height=160 + 34 * len(names))
    figure.add_heatmap(
        z=found.confusion, x=names, y=names, colorscale="Blues", showscale=False, texttemplate="%{z}", hoverongaps=False
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return _html(figure)


def heat_map(found: Drift) -> str:
    """PSI of every dimension in every window."""
    shown = [one for one in found.dimensions if one.windows and one.psi is not None][:MAX_ROWS]
    figure = _figure("Drift over time (PSI)", height=160 + 24 * len(shown))
    figure.add_heatmap(
        z=[[part.psi for part in one.windows] for one in shown],
        x=[part.start for part in shown[0].windows] if shown else [],
        y=[_label(one.name) for one in shown],
        colorscale=SCALE,
        zmin=0,
        zmax=TOP_PSI,
        xgap=1,
        ygap=1,
        hovertemplate="%{y}<br>%{x}<br>PSI %{z:.3f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    return _html(figure)


def distances(found: Drift) -> str:
    """PSI of every dimension, with the usual limits."""
    shown = [one for one in found.dimensions if one.psi is not None][:MAX_ROWS]
    colors = {"stable": GREEN, "moderate": ORANGE, "significant": RED}
    figure = _figure("Drift of the whole time (PSI)", height=140 + 24 * len(shown))
    figure.add_bar(
        orientation="h",
        x=[one.psi for one in shown],
        y=[_label(one.name) for one in shown],
        marker_color=[colors.get(one.verdict, GREY) for one in shown],
    )
    for limit in (MODERATE, SIGNIFICANT):
        figure.add_vline(x=limit, line_dash="dot", line_color=GREY)
    figure.update_yaxes(autorange="reversed", type="category")
    return _html(figure)


def pairs(found: Drift) -> list[str]:
    """The distributions of those that drifted most, baseline and current beside each other."""
    return [_pair(one) for one in found.dimensions if one.bins is not None][:MAX_PAIRS]


def _pair(one: Drifted) -> str:
    assert one.bins is not None
    labels, sides = one.bins.labels, (one.bins.baseline, one.bins.current)
    there = [at for at in range(len(labels)) if sides[0][at] or sides[1][at]][:MAX_BINS]
    told = "" if one.psi is None else f" - PSI {one.psi:.3f}, {one.verdict}"
    figure = _figure(f"{_label(one.name)}{told}", height=260)
    for name, color, counts in zip(("baseline", "current"), (GREY, BLUE), sides, strict=True):
        total = sum(counts) or 1
        figure.add_bar(
            x=[_label(labels[at]) for at in there],
            y=[counts[at] / total for at in there],
            customdata=[counts[at] for at in there],
            hovertemplate="%{x}: %{y:.1%}, %{customdata} records",
            name=name,
            marker_color=color,
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(tickformat=".0%")
    figure.update_xaxes(type="category")
    return _html(figure)


def missing(found: Drift) -> str:
    """The share of missing values of every dimension in every window."""
    shown = [one for one in found.dimensions if any(part.missing_share for part in one.windows)][:MAX_ROWS]
    if not shown:
        return ""
    figure = _figure("Missing values over time", height=160 + 24 * len(shown))
    figure.add_heatmap(
        z=[[part.missing_share for part in one.windows] for one in shown],
        x=[part.start for part in shown[0].windows],
        y=[_label(one.name) for one in shown],
        colorscale="Greys",
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        hovertemplate="%{y}<br>%{x}<br>%{z:.1%} missing<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    return _html(figure)


def _figure(title: str, *, height: int) -> Any:
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        height=height,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 40},
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _label(text: str) -> str:
    """A name for plotly: escaped, not too long."""
    cut = text if len(text) <= LABEL_CHARS else f"{text[: LABEL_CHARS - 3]}..."
    return html.escape(cut or "(empty)")


def _html(figure: Any) -> str:
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    )
