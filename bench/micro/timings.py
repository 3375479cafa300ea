"""The times of bench/results/micro.json, by group and contender, and what a request is made of. Pure but for `read`."""

from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

from bench.load.machine import Machine, Moment
from bench.micro.goals import (
    CONTENDER,
    DECODE,
    ENCODE,
    IN_LANE,
    IN_LANE_TOGETHER,
    MODELS,
    RUN,
    SUBMIT,
    TOGETHER,
    TURN,
    WHOLE,
    WHOLE_TOGETHER,
    request_group,
)


class Stats(Struct):
    """Seconds, of one turn."""

    min: float
    median: float


class Timed(Struct):
    """One benchmark in one turn."""

    group: str | None
    extra_info: dict[str, Any]
    stats: Stats


class Spent(Struct):
    """One contender, in the order of the turns."""

    fastest_s: float
    medians_s: list[float]

    @property
    def median_s(self) -> float:
        """The middle one of the turns' medians."""
        return median(self.medians_s)


class Micro(Struct):
    """All of the file."""

    machine: Machine
    begun: Moment
    others_cpu: float
    benchmarks: list[Timed]

    def groups(self) -> dict[str, dict[str, Spent]]:
        """By group and contender, in the order of the file."""
        found: dict[str, dict[str, Spent]] = {}
        for one in sorted(self.benchmarks, key=lambda one: int(one.extra_info[TURN])):
            group = found.setdefault(one.group or "", {})
            spent = group.setdefault(one.extra_info[CONTENDER], Spent(one.stats.min, []))
            spent.fastest_s = min(spent.fastest_s, one.stats.min)
            spent.medians_s.append(one.stats.median)
        return found


def read(path: Path) -> Micro | None:
    """None where nothing was measured yet."""
    return msgspec.json.decode(path.read_bytes(), type=Micro) if path.exists() else None


def request_groups(micro: Micro) -> dict[str, dict[str, Spent]]:
    """The parts of a request, by the model's title; only where all were measured."""
    groups = micro.groups()
    parts = {WHOLE, WHOLE_TOGETHER, IN_LANE, IN_LANE_TOGETHER, DECODE, SUBMIT, RUN, ENCODE}
    found = {title: groups.get(request_group(model), {}) for model, title in MODELS.items()}
    return {title: spent for title, spent in found.items() if parts <= spent.keys()}


def budget(spent: dict[str, Spent]) -> dict[str, float]:
    """Seconds of one request, by part: the first five make up the whole."""
    decode, submit, run, encode = (spent[part].fastest_s for part in (DECODE, SUBMIT, RUN, ENCODE))
    whole = spent[WHOLE].fastest_s
    return {
        "decode: body to tensors": decode,
        "run: the model": run,
        "submit, but for the run: checks, slot, times": submit - run,
        "encode: outputs to body": encode,
        "door, route, reply, counters": whole - decode - submit - encode,
        "**the whole request**": whole,
        "the whole request, median": spent[WHOLE].median_s,
        f"**the whole request, one of {TOGETHER} that come together**": spent[WHOLE_TOGETHER].fastest_s / TOGETHER,
        "the whole request in a lane": spent[IN_LANE].fastest_s,
        f"**the whole request in a lane, one of {TOGETHER}**": spent[IN_LANE_TOGETHER].fastest_s / TOGETHER,
    }
