"""`python -m bench.render`: bench/README.md from the figures in bench/results. The same figures always give the same page.

Pure but for `main`; nobody writes that page by hand.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import median

from bench.load import budget as budgets
from bench.load import open_loop, results
from bench.load.cells import CELLS, Cell, of_what_is_left
from bench.load.contenders import LEAST, RAW
from bench.load.machine import CORES, DISTURBED_SHARE, Moment
from bench.load.open_loop import Standing
from bench.load.results import Measured, Round
from bench.load.servers import ROOT
from bench.load.wrk import Figures
from bench.micro import timings
from bench.micro.goals import GOALS, MODELS, OURS, Goal, request_group
from bench.micro.timings import Micro, Spent, budget, request_groups

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "bench" / "README.md"
STANDINGS = ("overload", "changing", "monitor")
"""Scripts of their own that write what they were to reach beside what they found."""

QUICK = ROOT / "build"

NOTHING = "-"
OPENING = f"""\
<!-- Written by `python -m bench.render` from bench/results; change that. -->
# How fast it is

Everything here was measured on {CORES} cores of one machine, load generator included. Such figures hold for that machine;
what can be compared are the ratios, since both sides of each were measured in turns, seconds apart. Where others used more
than {DISTURBED_SHARE:.0%} of the CPU meanwhile, it is said.
"""
EXPLAINED = """
*measured*: the median over the turns (functions) or rounds (server) of the ratio within each, for functions the ratio of
median times; it decides what counts as reached. *of the fastest*: the ratio of the shortest times of all turns, which
neighbours on the machine disturb least.
"""
LOAD = """\
## The server under load

Medians over the rounds. What was refused or lost counts as an error and never as an answer. *CPU*: what the server's
processes used for one answer, user and system.
"""
REQUEST = """\
## Where a request's time goes

In one process, through the door without a loop; the shortest times, in us. The parts are timed alone and warm, so what is
left for the door also holds what they cost more one after another.
"""
SPENT = """\
## What a request costs, by whose code it is

Microseconds of CPU of the server's processes for one answer, from samples of all their threads under load (`python -m
bench.load.budget`, which needs `perf`). Cold caches and two busy cores are in it: the same code takes a third of that alone.
"""
FUNCTIONS = """\
## Functions

*median*: the middle one of the turns' medians; *times*: how much longer that is than fastserve's.
"""
REPRODUCE = """\
## Again

`make bench` measures everything and writes this page: about seven minutes, and `wrk` must be there (`apt-get install wrk`).
In parts:

```console
$ .venv/bin/python -m bench.load --only tiny-c64
$ .venv/bin/python -m bench.load.budget
$ .venv/bin/python -m bench.monitor
$ .venv/bin/python -m bench.load.overload
$ .venv/bin/python -m bench.load.changing
$ .venv/bin/python -m pytest bench/micro -k tensorize --benchmark-enable --benchmark-only
$ .venv/bin/python -m bench.render
```

Other servers are measured beside these by their address, in every cell that they answer rightly:

```console
$ .venv/bin/python -m bench.load --models /tmp/others
$ tritonserver --model-repository /tmp/others/models &
$ .venv/bin/python -m bench.load --server Triton=127.0.0.1:8000
```

`make bench-quick` takes two minutes, keeps its figures and its page in `build/`, and shows what is far off.
"""

Row = Iterable[str]


def main() -> None:
    """Read, render, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.render", description="bench/README.md from bench/results.")
    parser.add_argument("--quick", action="store_true", help="build/bench-quick.md from the quick figures in build.")
    if parser.parse_args().quick:
        page, load, micro = QUICK / "bench-quick.md", QUICK / "load-quick.json", QUICK / "micro-quick.json"
    else:
        page, load, micro = PAGE, RESULTS / "load.json", RESULTS / "micro.json"
    spent = {} if page != PAGE else budgets.read()
    stand = {} if page != PAGE else standings()
    page.write_text(render(results.read(load), timings.read(micro), spent, stand))
    print(f"wrote {page}")


def standings() -> dict[str, Standing | None]:
    """Of the scripts in `STANDINGS`."""
    return {name: open_loop.read(RESULTS / f"{name}.json") for name in STANDINGS}


def render(
    load: dict[str, Measured],
    micro: Micro | None,
    spent: Mapping[str, budgets.Spent] | None = None,
    standings: Mapping[str, Standing | None] | None = None,
) -> str:
    """The page. `standings`: of scripts of their own, by name; None where one was not run."""
    stand = {name: one for name, one in (standings or {}).items() if one is not None}
    parts = [
        OPENING,
        "\n".join(_goals(load, micro, stand)),
        "\n".join(_machines(load, micro, stand)),
        "\n".join(_load(load)),
        "\n".join(_request(load, micro)) if micro is not None else "",
        "\n".join(_spent(spent)) if spent else "",
        "\n".join(_functions(micro)) if micro is not None else "",
        REPRODUCE,
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


# --- what was to be reached


def _goals(load: dict[str, Measured], micro: Micro | None, stand: Mapping[str, Standing]) -> Iterator[str]:
    yield "## What was to be reached\n"
    head = ("what", "to reach", "measured", "lowest .. highest", "of the fastest", "reached")
    verdicts = [*(_micro_verdict(goal, micro) for goal in GOALS), *(_load_verdict(c, load) for c in CELLS.values())]
    verdicts += [_verdict(goal) for one in stand.values() for goal in one.goals]
    yield from _table(head, [verdict[1] for verdict in verdicts])
    yield EXPLAINED
    missed = [row for reached, row in verdicts if reached is False]
    if missed:
        yield f"Not reached, {len(missed)} of {len(verdicts)}:\n"
        yield from (f"- {what}: {measured}, to be {goal}" for what, goal, measured, *_ in missed)
        yield ""
    yield from _disturbances(load, micro, stand)


def _micro_verdict(goal: Goal, micro: Micro | None) -> tuple[bool | None, Row]:
    spent = micro.groups().get(goal.group, {}) if micro is not None else {}
    title, wanted = goal.title, f"at least {goal.times:g}x"
    if OURS not in spent or goal.other not in spent:
        return None, (title, wanted, *_unmeasured())
    ours, other = spent[OURS], spent[goal.other]
    ratios = [theirs / our for our, theirs in zip(ours.medians_s, other.medians_s, strict=True)]
    reached = median(ratios) >= goal.times
    return reached, (title, wanted, *_spread(ratios, "x"), f"{other.fastest_s / ours.fastest_s:.2f}x", _yes(reached))


def _load_verdict(cell: Cell, load: dict[str, Measured]) -> tuple[bool | None, Row]:
    if cell.name not in load:
        return None, (cell.title, cell.wording(), *_unmeasured())
    scores = [cell.score(done.figures) for done in load[cell.name].rounds]
    reached = cell.reached(median(scores))
    return reached, (cell.title, cell.wording(), *_spread(scores, cell.unit), NOTHING, _yes(reached))


def _verdict(goal: open_loop.Goal) -> tuple[bool | None, Row]:
    reached = goal.reached(median(goal.scores))
    return reached, (goal.title, goal.wording(), *_spread(goal.scores, goal.unit), NOTHING, _yes(reached))


def _spread(scores: list[float], unit: str) -> tuple[str, str]:
    if unit == "x":
        return f"**{median(scores):.2f}x**", f"{min(scores):.2f} .. {max(scores):.2f}"
    if unit in ("ms", "s"):
        return f"**{_figure(median(scores))} {unit}**", f"{_figure(min(scores))} .. {_figure(max(scores))}"
    return f"**{median(scores):,.0f} {unit}**", f"{min(scores):,.0f} .. {max(scores):,.0f}"


def _unmeasured() -> tuple[str, str, str, str]:
    return "not measured", NOTHING, NOTHING, NOTHING


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _disturbances(load: dict[str, Measured], micro: Micro | None, stand: Mapping[str, Standing]) -> Iterator[str]:
    said = []
    if micro is not None and micro.others_cpu > DISTURBED_SHARE:
        said.append(f"while functions were timed ({micro.others_cpu:.0%} of the CPU)")
    for name, measured in load.items():
        drives = [figures for done in measured.rounds for figures in done.figures.values()]
        disturbed = sum(figures.disturbed for figures in drives)
        if disturbed:
            said.append(f"in {disturbed} of {len(drives)} drives of {name}")
    for name, one in stand.items():
        if one.others_cpu > DISTURBED_SHARE:
            said.append(f"in {name} ({one.others_cpu:.0%} of the CPU)")
    if said:
        yield f"Others used the machine {', '.join(said)}: these figures are less certain.\n"


# --- on what


def _machines(load: dict[str, Measured], micro: Micro | None, stand: Mapping[str, Standing]) -> Iterator[str]:
    yield "## On what\n"
    machines = [
        *(one.machine for one in (*load.values(), *stand.values())),
        *([] if micro is None else [micro.machine]),
    ]
    for one in dict.fromkeys(
        f"{one.cpu}, {one.cores} cores, {one.memory_gib:g} GiB, Linux {one.kernel}, Python {one.python}, "
        + ", ".join(f"{name} {version}" for name, version in one.packages.items())
        for one in machines
    ):
        yield f"- {one}"
    yield from (f"- {one}" for one in dict.fromkeys(one.generator for one in machines if one.generator))
    moments = [
        *([("functions", micro.begun)] if micro is not None else []),
        *((n, m.begun) for n, m in {**load, **stand}.items()),
    ]
    yield ""
    yield from _table(("measured", "when", "commit"), [(name, at.date, _commit(at)) for name, at in moments])
    yield ""


def _commit(moment: Moment) -> str:
    changed = moment.changed_files
    return moment.commit if not changed else f"{moment.commit} and {changed} changed file{'s' if changed > 1 else ''}"


# --- the server


def _load(load: dict[str, Measured]) -> Iterator[str]:
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
    yield from _table(head, rows)
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
    least = [_rate_of(LEAST, done) for done in rounds if LEAST in done.figures]
    if least:
        yield (
            "The least that can serve it, a loop over sockets that checks nothing (`bench/load/least.py`):"
            f" {median(least):.2f}x ({min(least):.2f} .. {max(least):.2f}).\n"
        )


def _rate_of(name: str, done: Round) -> float:
    return done.figures[name].per_s / done.figures[RAW].per_s


def _contender(name: str, cell: Cell, rounds: list[Round]) -> Row:
    drives = [done.figures[name] for done in rounds if name in done.figures]
    disturbed = sum(figures.disturbed for figures in drives)
    others = f"{median(figures.others_cpu for figures in drives):.0%}"
    label = f"{name} ({_settings(name, rounds)})" if name == RAW else name
    # onnxruntime alone has no latencies; and beside big requests the CPU is theirs, not that of the small ones.
    rates = _rates(drives, latencies=name != RAW)
    cpu = NOTHING if cell.beside else _middle(drives, lambda figures: figures.cpu_us)
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
    p50, p99 = _middle(drives, lambda figures: figures.p50_us), _middle(drives, lambda figures: figures.p99_us)
    spread = f"{_figure(min(rates))} .. {_figure(max(rates))}"
    return _figure(median(rates)), spread, p50 if latencies else NOTHING, p99 if latencies else NOTHING


def _errors(drives: list[Figures]) -> str:
    total = sum(figures.errors for figures in drives)
    return f"**{total:,}**" if total else "0"


def _settings(name: str, rounds: list[Round]) -> str:
    """The best setting of most rounds; of several, that of the first."""
    return Counter(done.notes.get(name, "") for done in rounds).most_common(1)[0][0]


def _middle(drives: list[Figures], of: Callable[[Figures], float]) -> str:
    return _figure(median(of(figures) for figures in drives))


# --- one request


def _request(load: dict[str, Measured], micro: Micro) -> Iterator[str]:
    columns = {title: budget(spent) for title, spent in request_groups(micro).items()}
    if not columns:
        return
    yield REQUEST
    parts = dict.fromkeys(part for column in columns.values() for part in column)
    rows = [(part, *(_figure(column[part] * 1e6) for column in columns.values())) for part in parts]
    yield from _table(("", *columns), [*rows, *_served(load, list(columns))])
    yield ""


def _served(load: dict[str, Measured], columns: list[str]) -> Iterator[Row]:
    """The same requests as the server's processes pay for them."""
    cells = [CELLS[name] for name in ("tiny-c64", "mlp-c64")]
    for name in (OURS, "Granian RSGI echo"):
        drives = [[done.figures[name] for done in load[c.name].rounds] if c.name in load else [] for c in cells]
        if len(cells) == len(columns) and any(drives):
            paid = (_middle(of, lambda figures: figures.cpu_us) if of else NOTHING for of in drives)
            yield f"CPU of the server's processes, concurrency 64: {name}", *paid


def _spent(spent: Mapping[str, budgets.Spent]) -> Iterator[str]:
    yield SPENT
    rows = [(part, *(_figure(one.parts.get(part, 0)) for one in spent.values())) for part in budgets.PARTS]
    rows.append(("**all**", *(f"**{_figure(one.cpu_us)}**" for one in spent.values())))
    yield from _table(("", *(f"{name}, concurrency {one.connections}" for name, one in spent.items())), rows)
    moments = dict.fromkeys((one.begun.date, _commit(one.begun)) for one in spent.values())
    yield f"\nSampled {', '.join(f'{date} ({commit})' for date, commit in moments)}.\n"


# --- functions


def _functions(micro: Micro) -> Iterator[str]:
    yield FUNCTIONS
    requests = [request_group(model) for model in MODELS]
    rows = [
        (group, contender, _time(spent.fastest_s), _time(spent.median_s), _times(group_of, spent))
        for group, group_of in micro.groups().items()
        if group not in requests
        for contender, spent in group_of.items()
    ]
    yield from _table(("", "", "fastest", "median", "times"), rows)
    yield ""


def _times(group: dict[str, Spent], spent: Spent) -> str:
    if OURS not in group or spent is group[OURS]:
        return ""
    return f"{spent.median_s / group[OURS].median_s:.2f}x"


# --- text


def _table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    head = tuple(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _figure(number: float) -> str:
    """Three digits at least: 0.412, 5.31, 27.4, 1,234."""
    places = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{places}f}"


def _time(seconds: float) -> str:
    return f"{_figure(seconds * 1e6)} us" if seconds < 1e-3 else f"{_figure(seconds * 1e3)} ms"


if __name__ == "__main__":
    main()
