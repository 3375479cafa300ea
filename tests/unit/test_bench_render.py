"""The page of the benchmarks says what was measured: reached or not, disturbed or not, and nothing where nothing was."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import render as page
from bench.load import budget, open_loop, results
from bench.load.cells import CELLS
from bench.load.contenders import CONTENDERS, ECHO, FASTSERVE, LEAST, ON_LOOP, RAW, SINK, STORES
from bench.load.machine import Moment
from bench.micro import timings
from bench.micro.goals import GOALS, MODELS, OURS, request_group

MACHINE = {
    "cpu": "Test CPU",
    "cores": 2,
    "memory_gib": 8.0,
    "kernel": "6.1",
    "python": "3.11.0",
    "packages": {"granian": "2.8.7"},
    "generator": "wrk 4.1.0",
}
BEGUN = {"date": "2026-11-21 12:00 UTC", "commit": "0123456789", "changed_files": 0}


def drive(per_s: float = 1000, **figures: Any) -> dict[str, Any]:
    times = {"p50_us": 100, "p90_us": 150, "p99_us": 200, "max_us": 300, "cpu_us": 25}
    return {"answers": 2000, "errors": 0, "per_s": per_s, "others_cpu": 0.02, **times, **figures}


def one_round(cell: str, **figures: Any) -> dict[str, Any]:
    """Everybody alike but for `figures`, by contender."""
    drives = {name: figures.get(name, drive()) for name in CELLS[cell].contenders}
    beside = {name: drive(per_s=20) for name in drives} if CELLS[cell].beside else {}
    return {"order": list(drives), "figures": drives, "beside": beside, "notes": {RAW: "1 thread, batches of 8"}}


def measured(*rounds: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"seconds": 2.0, "machine": MACHINE, "begun": BEGUN, "rounds": rounds, **more}


def timed(group: str, contender: str, *turns_us: float) -> list[dict[str, Any]]:
    """One benchmark; its fastest time is half of the median."""
    return [
        {
            "group": group,
            "name": "test",
            "extra_info": {"turn": turn, "contender": contender},
            "stats": {"min": us / 2e6, "median": us / 1e6, "rounds": 9, "iterations": 1},
        }
        for turn, us in enumerate(turns_us)
    ]


def micro(*benchmarks: list[dict[str, Any]], others_cpu: float = 0.01) -> dict[str, Any]:
    listed = [one for several in benchmarks for one in several]
    return {"machine": MACHINE, "begun": BEGUN, "others_cpu": others_cpu, "benchmarks": listed}


@pytest.fixture
def render(tmp_path: Path) -> Any:
    """The lines of the page made of these files."""

    def render(
        load: dict[str, Any], micro: dict[str, Any] | None = None, spent: Any = None, stand: Any = None
    ) -> list[str]:
        (tmp_path / "load.json").write_bytes(msgspec.json.encode(load))
        if micro is not None:
            (tmp_path / "micro.json").write_bytes(msgspec.json.encode(micro))
        read = results.read(tmp_path / "load.json"), timings.read(tmp_path / "micro.json")
        text = page.render(*read, spent, stand)
        assert text == page.render(*read, spent, stand)
        return text.splitlines()

    return render


def row(lines: list[str], *first: str) -> list[str]:
    """The other columns of the row that begins with these."""
    (found,) = [line for line in lines if line.startswith("| " + " | ".join(first) + " |")]
    return found.strip("| ").split(" | ")[len(first) :]


def test_without_figures_every_goal_is_named_and_none_is_judged(render: Any):
    lines = render({})
    assert sum("| not measured | - | - | - |" in line for line in lines) == len(GOALS) + len(CELLS)
    assert not any("Not reached" in line for line in lines)


@pytest.mark.parametrize(
    ("cell", "ours", "other", "score", "reached"),
    [
        ("tiny-c64", {"per_s": 1200}, (ECHO, {"per_s": 1000}), "1.20x", True),
        ("tiny-c64", {"per_s": 1190}, (ECHO, {"per_s": 1000}), "1.19x", False),
        ("mlp-c64", {"per_s": 600}, (ECHO, {"per_s": 1000}), "0.60x", True),
        ("tiny-c1", {"p50_us": 180}, (ECHO, {"p50_us": 100}), "80 us", True),
        ("tiny-c1", {"p50_us": 181}, (ECHO, {"p50_us": 100}), "81 us", False),
        ("tiny-c1", {"p50_us": 90}, (ECHO, {"p50_us": 100}), "-10 us", True),
        ("encoder-c16", {"per_s": 840}, (RAW, {"per_s": 1000}), "0.84x", False),
        ("mixed-p99", {"p99_us": 1000}, (ON_LOOP, {"p99_us": 8000}), "8.00x", True),
    ],
)
def test_a_goal_of_the_server_is_judged_by_its_score(
    render: Any, cell: str, ours: dict[str, float], other: tuple[str, dict[str, float]], score: str, reached: bool
):
    figures = {FASTSERVE: drive(**ours), other[0]: drive(**other[1])}
    lines = render({cell: measured(one_round(cell, **figures))})
    goal = CELLS[cell]
    assert row(lines, goal.title)[:2] == [goal.wording(), f"**{score}**"]
    assert row(lines, goal.title)[-1] == ("yes" if reached else "**no**")
    assert (f"- {goal.title}: **{score}**, to be {goal.wording()}" in lines) == (not reached)


def test_the_median_of_the_rounds_counts_and_their_range_is_shown(render: Any):
    rounds = [one_round("tiny-c64", **{FASTSERVE: drive(per_s=rate)}) for rate in (500, 900, 800)]
    lines = render({"tiny-c64": measured(*rounds)})
    assert row(lines, CELLS["tiny-c64"].title)[1:3] == ["**0.80x**", "0.50 .. 0.90"]
    assert row(lines, FASTSERVE)[:2] == ["800", "500 .. 900"]


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        ({"at_least": 0.9, "scores": [0.7, 0.95, 0.92]}, ["at least 0.9x", "**0.92x**", "0.70 .. 0.95", "-", "yes"]),
        (
            {"at_most": 5, "unit": "ms", "scores": [4, 10, 7]},
            ["at most 5 ms", "**7.00 ms**", "4.00 .. 10.0", "-", "**no**"],
        ),
        (
            {"at_least": 0.8, "at_most": 1.2, "scores": [1.3]},
            ["at least 0.8x and at most 1.2x", "**1.30x**", "1.30 .. 1.30", "-", "**no**"],
        ),
    ],
)
def test_scripts_of_their_own_say_what_they_were_to_reach(
    render: Any, tmp_path: Path, goal: dict[str, Any], told: list[str]
):
    file = tmp_path / "it.json"
    file.write_bytes(
        msgspec.json.encode(
            {"machine": MACHINE, "begun": BEGUN, "others_cpu": 0.3, "goals": [{"title": "It", **goal}], "rounds": []}
        )
    )
    lines = render({}, None, None, {"it": open_loop.read(file), "other": open_loop.read(tmp_path / "none")})
    assert row(lines, "It") == told
    assert any("Others used the machine in it (30% of the CPU)" in line for line in lines)
    assert row(lines, "it") == ["2026-11-21 12:00 UTC", "0123456789"]


def test_functions_are_compared_turn_by_turn(render: Any):
    goal = GOALS[0]
    ours, theirs = timed(goal.group, OURS, 10, 20, 10), timed(goal.group, goal.other, 15, 26, 12)
    theirs[0]["stats"]["min"] = 12.5e-6
    lines = render({}, micro(ours, theirs))
    assert row(lines, goal.title) == ["at least 1.4x", "**1.30x**", "1.20 .. 1.50", "1.20x", "**no**"]
    assert row(lines, goal.group, goal.other) == ["6.00 us", "15.0 us", "1.50x"]


def test_errors_and_disturbances_stand_beside_the_figures(render: Any):
    disturbed = drive(others_cpu=0.3, disturbed=True, errors=1200)
    rounds = [one_round("tiny-c64", **{FASTSERVE: disturbed}), one_round("tiny-c64", **{FASTSERVE: disturbed})]
    lines = render({"tiny-c64": measured(*rounds)}, micro(others_cpu=0.4))
    assert row(lines, FASTSERVE)[-2:] == ["**2,400**", "30%, disturbed: 2 of 2"]
    assert row(lines, ECHO)[-2:] == ["0", "2%"]
    assert any("functions were timed (40% of the CPU), in 2 of 10 drives of tiny-c64" in line for line in lines)


def test_what_the_network_leaves_of_a_model_is_told(render: Any):
    rates = {RAW: drive(per_s=1000), SINK: drive(per_s=4000), LEAST: drive(per_s=810), FASTSERVE: drive(per_s=720)}
    text = " ".join(render({"encoder-c16": measured(one_round("encoder-c16", **rates))}))
    assert "it would be 0.80x; fastserve has 0.90 of that" in text
    assert "(`bench/load/least.py`): 0.81x (0.81 .. 0.81)" in text
    assert "it would be" not in " ".join(render({"tiny-c64": measured(one_round("tiny-c64"))}))


def test_what_was_not_measured_of_a_contender_is_not_shown(render: Any):
    load = {name: measured(one_round(name)) for name in ("encoder-c16", "mixed-p99")}
    lines = render(load)
    assert row(lines, f"{RAW} (1 thread, batches of 8)")[2:5] == ["-", "-", "25.0"]
    assert row(lines, ON_LOOP)[4] == "-", "beside big requests, the CPU is not that of the small ones"
    assert row(lines, f"{ON_LOOP}: the big requests")[0] == "20.0"


def test_machine_commit_and_changes_are_named(render: Any):
    begun = {**BEGUN, "changed_files": 2}
    lines = render(
        {"tiny-c64": measured(one_round("tiny-c64"), begun=begun), "mlp-c64": measured(one_round("mlp-c64"))}
    )
    assert "- Test CPU, 2 cores, 8 GiB, Linux 6.1, Python 3.11.0, granian 2.8.7" in lines
    assert "- wrk 4.1.0" in lines
    assert row(lines, "tiny-c64") == ["2026-11-21 12:00 UTC", "0123456789 and 2 changed files"]
    assert row(lines, "mlp-c64") == ["2026-11-21 12:00 UTC", "0123456789"]


def test_a_request_is_the_sum_of_its_parts(render: Any):
    parts_us = {"whole request": 40, "16 whole requests that come together": 320, "decode": 4, "submit": 20, "run": 12}
    parts_us |= {"whole request in a lane": 30, "16 whole requests in a lane that come together": 160}
    benchmarks = [
        timed(request_group(model), part, us) for model in MODELS for part, us in {**parts_us, "encode": 2}.items()
    ]
    lines = render({"tiny-c64": measured(one_round("tiny-c64"))}, micro(*benchmarks))
    assert row(lines, "decode: body to tensors") == ["2.00", "2.00"]
    assert row(lines, "submit, but for the run: checks, slot, times") == ["4.00", "4.00"]
    assert row(lines, "door, route, reply, counters") == ["7.00", "7.00"]
    assert row(lines, "**the whole request**") == ["20.0", "20.0"]
    assert row(lines, "**the whole request, one of 16 that come together**") == ["10.0", "10.0"]
    assert row(lines, "**the whole request in a lane, one of 16**") == ["5.00", "5.00"]
    assert row(lines, f"CPU of the server's processes, concurrency 64: {OURS}") == ["25.0", "-"]


def test_cells_name_contenders_that_exist():
    for cell in CELLS.values():
        assert {*cell.contenders} <= {*CONTENDERS, RAW, *STORES}


def test_the_page_is_what_the_script_writes():
    if not page.PAGE.exists():
        pytest.skip("nothing was measured yet: make bench")
    load, micro = results.read(page.RESULTS / "load.json"), timings.read(page.RESULTS / "micro.json")
    assert page.PAGE.read_text() == page.render(load, micro, budget.read(), page.standings()), (
        "run: python -m bench.render"
    )


def test_what_a_request_costs_is_told_by_whose_code_it_is(render: Any):
    samples = [
        "    7f00 [unknown] (/x/site-packages/_granian.cpython-311-x86_64-linux-gnu.so)",
        "    7f01 sole_rows (/x/fastserve/_ext/tensorize.cpython-311-x86_64-linux-gnu.so)",
        "    ffff tcp_ack ([kernel.kallsyms])",
        "    ffff (deleted) thing ([kernel.kallsyms])",
        "    7f02 [unknown] (/usr/lib/libsomething.so.1)",
        "",
    ]
    found = budget.shares(samples)
    assert {part: share for part, share in found.items() if share} == {
        budget.KERNEL: 0.4,
        budget.GRANIAN: 0.2,
        budget.READ: 0.2,
        budget.OTHER: 0.2,
    }
    parts = {part: share * 50 for part, share in found.items()}
    spent = budget.Spent(connections=64, answers=1000, cpu_us=50.0, parts=parts, begun=msgspec.convert(BEGUN, Moment))
    lines = render({}, None, {"tiny": spent})
    assert row(lines, budget.KERNEL) == ["20.0"]
    assert row(lines, "**all**") == ["**50.0**"]
