"""`python -m bench.render`: bench/README.md from the figures in bench/results. The same figures always give the same page.

Pure but for `main`; nobody writes that page by hand.
"""

import argparse
from collections.abc import Iterator, Mapping
from statistics import median

from bench.load import budget as budgets
from bench.load import open_loop, results
from bench.load.cells import CELLS, Cell
from bench.load.machine import CORES, Moment
from bench.load.open_loop import Standing
from bench.load.results import Measured
from bench.load.servers import ROOT
from bench.micro import timings
from bench.micro.goals import GOALS, MODELS, OURS, Goal, request_group
from bench.micro.timings import Micro, Spent, budget, request_groups
from bench.tables import NOTHING, Row, figure, table, time
from bench.under_load import middle, under_load
from fastserve.loadtest.neighbours import DISTURBED_SHARE

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "bench" / "README.md"
STANDINGS = ("overload", "changing", "monitor")
"""Scripts of their own that write what they were to reach beside what they found."""

QUICK = ROOT / "build"

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
        "\n".join(under_load(load)),
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
    yield from table(head, [verdict[1] for verdict in verdicts])
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
        return f"**{figure(median(scores))} {unit}**", f"{figure(min(scores))} .. {figure(max(scores))}"
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
    shown: list[Measured | Standing] = [*load.values(), *stand.values()]
    machines = [
        *(one.machine for one in shown),
        *([] if micro is None else [micro.machine]),
    ]
    for one in dict.fromkeys(
        f"{one.cpu}, {one.cores} cores, {one.memory_gib:g} GiB, Linux {one.kernel}, Python {one.python}, "
        + ", ".join(f"{name} {version}" for name, version in one.packages.items())
        for one in machines
    ):
        yield f"- {one}"
    yield from (f"- {one}" for one in dict.fromkeys(one.generator for one in machines if one.generator))
    named: dict[str, Measured | Standing] = {**load, **stand}
    moments = [
        *([("functions", micro.begun)] if micro is not None else []),
        *((n, m.begun) for n, m in named.items()),
    ]
    yield ""
    yield from table(("measured", "when", "commit"), [(name, at.date, _commit(at)) for name, at in moments])
    yield ""


def _commit(moment: Moment) -> str:
    changed = moment.changed_files
    return moment.commit if not changed else f"{moment.commit} and {changed} changed file{'s' if changed > 1 else ''}"


# --- one request


def _request(load: dict[str, Measured], micro: Micro) -> Iterator[str]:
    columns = {title: budget(spent) for title, spent in request_groups(micro).items()}
    if not columns:
        return
    yield REQUEST
    parts = dict.fromkeys(part for column in columns.values() for part in column)
    rows = [(part, *(figure(column[part] * 1e6) for column in columns.values())) for part in parts]
    yield from table(("", *columns), [*rows, *_served(load, list(columns))])
    yield ""


def _served(load: dict[str, Measured], columns: list[str]) -> Iterator[Row]:
    """The same requests as the server's processes pay for them."""
    cells = [CELLS[name] for name in ("tiny-c64", "mlp-c64")]
    for name in (OURS, "Granian RSGI echo"):
        drives = [[done.figures[name] for done in load[c.name].rounds] if c.name in load else [] for c in cells]
        if len(cells) == len(columns) and any(drives):
            paid = (middle(of, lambda figures: figures.cpu_us) if of else NOTHING for of in drives)
            yield f"CPU of the server's processes, concurrency 64: {name}", *paid


def _spent(spent: Mapping[str, budgets.Spent]) -> Iterator[str]:
    yield SPENT
    rows = [(part, *(figure(one.parts.get(part, 0)) for one in spent.values())) for part in budgets.PARTS]
    rows.append(("**all**", *(f"**{figure(one.cpu_us)}**" for one in spent.values())))
    yield from table(("", *(f"{name}, concurrency {one.connections}" for name, one in spent.items())), rows)
    moments = dict.fromkeys((one.begun.date, _commit(one.begun)) for one in spent.values())
    yield f"\nSampled {', '.join(f'{date} ({commit})' for date, commit in moments)}.\n"


# --- functions


def _functions(micro: Micro) -> Iterator[str]:
    yield FUNCTIONS
    requests = [request_group(model) for model in MODELS]
    rows = [
        (group, contender, time(spent.fastest_s), time(spent.median_s), _times(group_of, spent))
        for group, group_of in micro.groups().items()
        if group not in requests
        for contender, spent in group_of.items()
    ]
    yield from table(("", "", "fastest", "median", "times"), rows)
    yield ""


def _times(group: dict[str, Spent], spent: Spent) -> str:
    if OURS not in group or spent is group[OURS]:
        return ""
    return f"{spent.median_s / group[OURS].median_s:.2f}x"


if __name__ == "__main__":
    main()
