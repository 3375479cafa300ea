"""A load test for the terminal. Pure: lines and tables for whoever prints them."""

from rich.table import Table
from rich.text import Text

from fastserve.loadtest.report import Report, Run
from fastserve.loadtest.slo import Verdict

HEAD = ("load", "requests/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "errors", "rows a batch")
MAX_REASON_CHARS = 160


def results(runs: list[Run]) -> Table:
    """A row for each level."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in HEAD:
        table.add_column(name, justify="left" if name == "load" else "right", no_wrap=True)
    for run in runs:
        table.add_row(*_row(run))
    return table


def _row(run: Run) -> list[str | Text]:
    latency = run.latency_ms
    times = (latency.p50, latency.p90, latency.p99, latency.p99_9, latency.most)
    failed = Text(f"{run.failed:,}", style="bold red" if run.failed else "")
    cells = [figure(time) if latency.count else "-" for time in times]
    return [load_of(run), f"{run.per_s:,.0f}", *cells, failed, batches_of(run)]


def load_of(run: Run) -> str:
    """`64 connections`, `1,000/s`."""
    if run.rate is not None:
        return f"{run.rate:,.0f}/s"
    return f"{run.connections} connection{'' if run.connections == 1 else 's'}"


def batches_of(run: Run) -> str:
    """`3.2`; a dash where the server does not tell."""
    return "-" if run.batches is None else f"{run.batches.mean_rows:.1f}"


def notes(run: Run) -> list[str]:
    """What went wrong, by status and kind, with what was said of it; what else must be known to read the figures."""
    found = {**{k: n for k, n in run.statuses.items() if not k.startswith("2")}, **run.failures}
    lines = []
    for kind, count in found.items():
        reason = run.reasons.get(kind, "")[:MAX_REASON_CHARS]
        lines.append(f"{load_of(run)}: {count:,} x {_NAMES.get(kind, kind)}{f': {reason}' if reason else ''}")
    if run.interrupted:
        lines.append(f"{load_of(run)}: stopped after {run.seconds:.1f} s; {run.unfinished} requests were given up")
    return lines


_NAMES = {
    "connect": "no connection",
    "tls": "no TLS",
    "closed": "closed",
    "timeout": "no answer in time (--timeout-s)",
    "protocol": "no HTTP",
    "unsent": "not sent, as all connections were waiting for answers: the server is slower than this rate",
}


def verdict_lines(run: Run) -> list[Text]:
    """An objective each."""
    return [
        Text.assemble(
            f"{load_of(run)}: {verdict.objective}: {measured_text(verdict)} ",
            ("met", "green") if verdict.met else ("missed", "bold red"),
        )
        for verdict in run.verdicts
    ]


def measured_text(verdict: Verdict) -> str:
    """The measured value in the objective's own unit."""
    if verdict.measured is None:
        return "not that many were answered"
    if verdict.kind == "latency":
        return f"{figure(verdict.measured * 1e-6)} ms"
    return f"{verdict.measured:.2%}" if verdict.kind == "errors" else f"{verdict.measured:,.0f}/s"


def sweep_line(report: Report) -> str:
    """What the sweep found."""
    assert report.sweep is not None
    wanted = ", ".join(report.objectives)
    if report.sweep.highest_rate is None:
        return f"No rate that was tried meets {wanted}."
    return f"The highest rate that meets {wanted}: {report.sweep.highest_rate:,.0f} requests/s."


def figure(number: float) -> str:
    """Three digits: 0.084, 1.27, 27.4, 1,234."""
    places = 0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 3
    return f"{number:,.{places}f}"
