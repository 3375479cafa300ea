"""Every benchmark is measured in several turns, one after another, so that no contender gets the quiet minute.

What is written with `--benchmark-json` is cut down to what bench.render reads, with the machine and the moment.
"""

import time
from typing import Any

import msgspec
import pytest

from bench.load import machine
from bench.micro.goals import CONTENDER, TURN
from fastserve.loadtest.neighbours import busy_s

TURNS = 5
KEPT = ("group", "extra_info")
KEPT_STATS = ("min", "median", "rounds")


class Quiet:
    """How busy others were since it was made."""

    def __init__(self) -> None:
        self._busy, self._ours, self._started = busy_s(), time.process_time(), time.monotonic()

    def others_cpu(self) -> float:
        """Their share of the CPU time."""
        others = busy_s() - self._busy - (time.process_time() - self._ours)
        return max(0.0, others / ((time.monotonic() - self._started) * machine.CORES))


_WATCHED = pytest.StashKey[Quiet]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_WATCHED] = Quiet()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Called before the tests' own parameters are known: the turn changes last."""
    options = metafunc.config.option
    measuring = options.benchmark_enable or not options.benchmark_disable
    metafunc.parametrize("turn", range(TURNS if measuring else 1), indirect=True)


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest, benchmark: Any) -> None:
    node: Any = request.node
    benchmark.extra_info[TURN] = request.param
    benchmark.extra_info[CONTENDER] = _label(node.originalname, node.callspec.params)


def _label(test: str, parameters: dict[str, Any]) -> str:
    """What is measured, for tests that do not say it better themselves."""
    words = test.removeprefix("test_").replace("_", " ")
    return ", ".join([words, *(f"{name} {value}" for name, value in parameters.items() if name != TURN)])


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    if not config.option.benchmark_json:
        return  # one that is saved to be compared stays whole
    kept = [
        {**{key: one[key] for key in KEPT}, "stats": {key: one["stats"][key] for key in KEPT_STATS}}
        for one in output_json["benchmarks"]
    ]
    output_json.clear()
    output_json["machine"] = msgspec.to_builtins(machine.here(""))
    output_json["begun"] = msgspec.to_builtins(machine.now())
    output_json["others_cpu"] = round(config.stash[_WATCHED].others_cpu(), 3)
    output_json["benchmarks"] = kept
