"""The page's part about servers under load: a table for each cell."""

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median

from bench.load.cells import CELLS, Cell, of_what_is_left, rate_against
from bench.load.contenders import LEAST, RAW
from bench.load.results import Measured, Round
from bench.load.wrk import Figures
from bench.tables import NOTHING, Row, figure, table

LOAD = """\
## The server under load

Medians over the rounds. What was refused or lost counts as an error and never as an answer. *CPU*: what the server's
processes used for one answer, user and system.
"""


def under_load(load: dict[str, Measured]) -> Iterator[str]:
    """The part of the page."""
    yield LOAD
    for name, measured in load.items():
        if name in CELLS:
            yield from _cell(CELLS[name], measured)


def _cell(cell: Cell, measured: Measured) -> Iterator[str]:
    yield f"### {cell.name}\n"
    yield f"{cell.title[0].upper()}{cell.title[1:]}. Rounds of {measured.seconds:g} s: {len(measured.rounds)}.\n"
    head = ("", "requests/s", "lowest .. highest", "p50 us", "p99 us", "CPU us", "errors", "others' CPU")
    others = dict.fromkeys(name for done in measured.rounds for name in done.order if name not in cell.contenders)
    known = [name for name in cell.contenders if any(name in done.figures for done in measured.rounds)]
    rows = [_contender(name, cell, measured.rounds) for name in (*known, *others)]
    rows += [_beside(name, measured.rounds) for name in cell.contenders if cell.beside]
    yield from table(head, rows)
    yield ""
    yield from _left(cell, measured.rounds)


def _left(cell: Cell, rounds: list[Round]) -> Iterator[str]:
    """What the network leaves of a model's rate, where both were measured."""
    parts = [(cell.score(done.figures), left) for done in rounds if (left := of_what_is_left(done.figures)) is not None]
    if parts:
        left, reached = median(left for _, left in parts), median(score / left for score, left in parts)
        yield (
            "Were there nothing but the model's time and the network's (Granian takes the body and answers shortly), one"
            f" after the other on these cores, it would be {left:.2f}x; fastserve has {reached:.2f} of that.\n"
        )
    least = [rate_against(RAW, LEAST)(done.figures) for done in rounds if LEAST in done.figures]
    if least:
        yield (
            "The least that can serve it, a loop over sockets that checks nothing (`bench/load/least.py`):"
            f" {median(least):.2f}x ({min(least):.2f} .. {max(least):.2f}).\n"
        )


def _contender(name: str, cell: Cell, rounds: list[Round]) -> Row:
    drives = [done.figures[name] for done in rounds if name in done.figures]
    disturbed = sum(figures.disturbed for figures in drives)
    others = f"{median(figures.others_cpu for figures in drives):.0%}"
    label = f"{name} ({_settings(name, rounds)})" if name == RAW else name
    # onnxruntime alone has no latencies; and beside big requests the CPU is theirs, not that of the small ones.
    rates = _rates(drives, latencies=name != RAW)
    cpu = NOTHING if cell.beside else middle(drives, lambda figures: figures.cpu_us)
    return (
        label,
        *rates,
        cpu,
        _errors(drives),
        others if not disturbed else f"{others}, disturbed: {disturbed} of {len(drives)}",
    )


def _beside(name: str, rounds: list[Round]) -> Row:
    drives = [done.beside[name] for done in rounds]
    return f"{name}: the big requests", *_rates(drives, latencies=True), NOTHING, _errors(drives), NOTHING


def _rates(drives: list[Figures], *, latencies: bool) -> tuple[str, str, str, str]:
    rates = [figures.per_s for figures in drives]
    p50, p99 = middle(drives, lambda figures: figures.p50_us), middle(drives, lambda figures: figures.p99_us)
    spread = f"{figure(min(rates))} .. {figure(max(rates))}"
    return figure(median(rates)), spread, p50 if latencies else NOTHING, p99 if latencies else NOTHING


def _errors(drives: list[Figures]) -> str:
    total = sum(figures.errors for figures in drives)
    return f"**{total:,}**" if total else "0"


def _settings(name: str, rounds: list[Round]) -> str:
    """The best setting of most rounds; of several, that of the first."""
    return Counter(done.notes.get(name, "") for done in rounds).most_common(1)[0][0]


def middle(drives: list[Figures], of: Callable[[Figures], float]) -> str:
    """Of all drives."""
    return figure(median(of(figures) for figures in drives))
