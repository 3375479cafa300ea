"""Answers as one page that needs no network: tables and charts, plotly's script inside. Needs the extra `log`.

Pure: answers in, HTML out. Everything that came from outside is escaped.
"""

import html
from collections.abc import Sequence
from importlib.util import find_spec

from fastserve.monitor.drift import Drift, Drifted
from fastserve.monitor.performance import PRIMARY, Performance
from fastserve.store.reader import LogUnavailable

INSTALL = "pages take plotly: pip install 'fastserve[log]'"

BESIDE = {
    "classification": ("accuracy", "f1", "precision", "recall", "auc", "log_loss", "f1_macro"),
    "regression": ("mae", "rmse", "mape", "r2"),
    "ranking": ("ndcg", "mrr", "map"),
}
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#fff;margin:0 auto;max-width:1180px;padding:24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 8px;border-bottom:1px solid #dde3ea;padding-bottom:4px}
p.sub{color:#5a6572;margin:0 0 16px}p.note{background:#fdf3dc;border-left:4px solid #e08a2e;padding:6px 12px;margin:8px 0}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:12px 0}.tile{border:1px solid #dde3ea;border-radius:8px;padding:10px 16px}
.tile b{display:block;font-size:21px;font-weight:600}.tile span{color:#5a6572;font-size:13px}
table{border-collapse:collapse;width:100%;font-size:14px}th{text-align:left;color:#5a6572;font-weight:600}
th,td{padding:5px 10px;border-bottom:1px solid #eef1f5;overflow-wrap:anywhere}td.n,th.n{text-align:right;white-space:nowrap}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:8px}
.significant{color:#b3261e;font-weight:600}.moderate{color:#a8640f}.stable{color:#2c7a4b}
.scroll{overflow-x:auto}
"""


def page(performance: Performance | None = None, drift: Drift | None = None) -> str:
    """The page. Raises LogUnavailable without plotly."""
    if find_spec("plotly") is None:
        raise LogUnavailable(INSTALL)
    from plotly.offline import get_plotlyjs

    about = performance or drift
    assert about is not None, "a page is about something"
    body = [f"<h1>{_text(about.model)}</h1>", f'<p class="sub">{_span(about)}</p>']
    if performance is not None:
        body += _performance(performance)
    if drift is not None:
        body += _drift(drift, alone=performance is None)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(about.model)} - fastserve</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(body)}</body></html>"
    )


def _span(about: Performance | Drift) -> str:
    parts = [f"{_second(about.start)} to {_second(about.end)}" if about.start else "no records"]
    parts += [f"space {about.space}"] if about.space else []
    parts += [f"environment {about.environment}"]
    return _text(", ".join(parts))


def _performance(found: Performance) -> list[str]:
    from fastserve.monitor import charts

    counts = found.counts
    tiles = [("predictions", f"{counts.predictions:,}"), ("joined", f"{counts.joined:,}")]
    tiles.append(("not joined (yet)", f"{counts.unjoined:,}"))
    if found.actuals_without_prediction:
        tiles.append(("actuals without a prediction", f"{found.actuals_without_prediction:,}"))
    if counts.label_delay_s is not None and counts.label_delay_s.p50 is not None:
        tiles.append(("median label delay", _duration(counts.label_delay_s.p50)))
    named = [name for name in BESIDE[found.task] if name in found.metrics]
    tiles += [(name, _number(found.metrics[name])) for name in named]
    body = ["<h2>Performance</h2>", _tiles(tiles), *_notes(found.notes)]
    if len(found.windows) > 1:
        body += [charts.volume(found)]
        lines = [name for name in dict.fromkeys((found.metric, PRIMARY[found.task], *named)) if name in found.metrics]
        body += [charts.metrics_over_time(found, lines)] if lines else []
    if any(one.metrics for one in found.slices):
        body += ["<h2>Slices, worst first</h2>", charts.slices(found), _slice_table(found, named)]
    if found.confusion:
        body += ["<h2>Classes</h2>", charts.confusion(found), _class_table(found)]
    if found.calibration:
        body += ["<h2>Calibration</h2>", charts.calibration(found)]
    if found.metrics:
        rows = [[name, _number(value)] for name, value in found.metrics.items()]
        body += ["<h2>All metrics</h2>", _table(("metric", "value"), rows, numbers=(1,))]
    return body


def _slice_table(found: Performance, named: Sequence[str]) -> str:
    rows = [
        [one.value, f"{one.counts.predictions:,}", f"{one.counts.joined:,}"]
        + [_number(one.metrics.get(name)) for name in named]
        for one in found.slices
    ]
    return _table((found.slice or "", "predictions", "joined", *named), rows, numbers=range(1, 3 + len(named)))


def _class_table(found: Performance) -> str:
    rows = [
        [one.name, f"{one.predicted:,}", f"{one.actual:,}", *map(_number, (one.precision, one.recall, one.f1))]
        for one in found.classes
    ]
    return _table(("class", "predicted", "true", "precision", "recall", "F1"), rows, numbers=range(1, 6))


def _drift(found: Drift, *, alone: bool) -> list[str]:
    from fastserve.monitor import charts

    baseline = found.baseline
    told = f"Compared with {baseline.kind}"
    told += f", {_second(baseline.start)} to {_second(baseline.end)}" if baseline.start else ""
    worst = [one for one in found.dimensions if one.verdict == "significant"]
    tiles = [("current records", f"{found.rows:,}"), ("baseline records", f"{baseline.rows:,}")]
    tiles += [("dimensions", f"{len(found.dimensions)}"), ("drifted significantly", f"{len(worst)}")]
    body = ["<h2>Drift</h2>", f'<p class="sub">{_text(told)}</p>', _tiles(tiles), *_notes(found.notes)]
    has_windows = any(len(one.windows) > 1 for one in found.dimensions)
    if has_windows:
        body += [charts.rows_over_time(found)] if alone else []
        body += [charts.heat_map(found)]
    if any(one.psi is not None for one in found.dimensions):
        body += [charts.distances(found)]
    if found.dimensions:
        body += [_drift_table(found)]
        body += ["<h2>Distributions</h2>", f'<div class="pairs">{"".join(charts.pairs(found))}</div>']
        body += ["<h2>Data quality</h2>", charts.missing(found) if has_windows else "", _quality_table(found)]
    return body


def _drift_table(found: Drift) -> str:
    rows = []
    for one in found.dimensions:
        worst = one.slices[0].value if one.slices and one.slices[0].value is not None else ""
        ks = one.ks.statistic if one.ks else None
        numbers = (one.psi, one.js, ks, one.wasserstein, one.euclidean, one.cosine)
        rows.append([one.name, one.kind, one.verdict, *map(_number, numbers), worst])
    columns = ("dimension", "kind", "verdict", "PSI", "JS", "KS", "Wasserstein", "Euclidean", "cosine", "worst slice")
    return _table(columns, rows, numbers=range(3, 9), verdicts=2)


def _quality_table(found: Drift) -> str:
    rows = [_quality(one) for one in found.dimensions]
    columns = (
        "dimension",
        "side",
        "rows",
        "missing",
        "of another type",
        "values",
        "mean",
        "std",
        "min",
        "p50",
        "max",
        "new values",
    )
    flat = [row for pair in rows for row in pair]
    return _table(columns, flat, numbers=range(2, 11))


def _quality(one: Drifted) -> list[list[str]]:
    """A row a side."""
    rows = []
    for name, side in (("baseline", one.baseline), ("current", one.current)):
        share = "-" if side.missing_share is None else f"{side.missing_share:.2%}"
        values = "-" if side.cardinality is None else f"{side.cardinality:,}"
        numbers = (side.mean, side.std, side.min, side.p50, side.max)
        rows.append([one.name, name, f"{side.rows:,}", share, f"{side.clashes:,}", values, *map(_number, numbers), ""])
    fresh = one.new_values
    if fresh is not None and fresh.values:
        rows[1][-1] = f"{fresh.values} in {fresh.share:.1%}: {', '.join(fresh.examples)}"[:200]
    return rows


def _tiles(tiles: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f'<div class="tile"><b>{_text(value)}</b><span>{_text(name)}</span></div>' for name, value in tiles)
    return f'<div class="tiles">{inner}</div>'


def _notes(notes: Sequence[str]) -> list[str]:
    return [f'<p class="note">{_text(note)}</p>' for note in notes]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int], verdicts: int = -1) -> str:
    def cell(tag: str, at: int, value: str) -> str:
        kind = "n" if at in numbers else value if at == verdicts and tag == "td" else ""
        return f'<{tag} class="{html.escape(kind)}">{_text(value)}</{tag}>'

    head = "".join(cell("th", at, name) for at, name in enumerate(columns))
    body = "".join(f"<tr>{''.join(cell('td', at, value) for at, value in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    """In the largest unit that it has one of."""
    size, unit = next(((size, unit) for size, unit in UNITS if abs(seconds) >= size), (1, "s"))
    return f"{seconds / size:.3g} {unit}"


def _second(instant: str | None) -> str:
    """An instant in RFC 3339, without what a second is made of."""
    whole, point, _ = (instant or "").partition(".")
    return f"{whole}Z" if point else whole


def _text(value: str) -> str:
    return html.escape(value)
