"""Which settings are tried, in which order and for how long; what is recommended. No server runs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.cli.tune import by_rounds
from fastserve.config import load_config
from fastserve.loadtest.report import Machine
from fastserve.loadtest.slo import Verdict
from fastserve.loadtest.target import LoadTestError
from fastserve.loadtest.tune import told
from fastserve.loadtest.tune.duel import Turn, duel, seconds_each
from fastserve.loadtest.tune.halving import KEPT, affordable, cost_s, search, sizes
from fastserve.loadtest.tune.space import DEFAULT, Setting, candidates
from fastserve.loadtest.tune.trial import Outcome, chosen, hopeless
from fastserve.loadtest.tune.written import configuration
from fastserve.repository.layout import ModelFiles

S = 1_000_000_000
MACHINE = Machine(cpus=2, platform="here", python="3")


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 64])
def test_candidates_begin_with_the_defaults_and_never_oversubscribe(cpus: int) -> None:
    found = candidates(cpus, 5_000_000)
    assert found[0] == DEFAULT
    assert len(set(found)) == len(found) < 400
    for setting in found:
        assert setting.workers * max(1, setting.slots) * max(1, setting.threads) <= cpus
        assert setting.max_queue_delay_us <= 5000 / 4
        assert setting.max_batch_rows > 1 or setting.max_queue_delay_us == 0
    assert [len(setting.changes()) for setting in found] == sorted(len(setting.changes()) for setting in found)


class Machinery:
    """A clock that only measuring moves; what each candidate is worth is its number."""

    def __init__(self, start_s: float, slow: float = 1.0) -> None:
        self.now = 0
        self.start_s = start_s
        self.slow = slow
        self.measured: list[tuple[int, float]] = []

    def clock(self) -> int:
        return self.now

    def measure(self, candidate: int, seconds: float) -> tuple[float, ...]:
        self.now += round((self.start_s + seconds) * self.slow * S)
        self.measured.append((candidate, seconds))
        return (float(candidate),)


def test_the_best_go_on_and_are_measured_longer() -> None:
    machinery = Machinery(start_s=1.0)
    rounds = search(range(30), machinery.measure, budget_ns=10_000 * S, first_s=1.0, clock=machinery.clock)
    assert [len(one) for one in rounds] == [30, 11, 5]
    assert [candidate for candidate, _ in rounds[-1]] == [29, 28, 27, 26, 0]
    assert [seconds for _, seconds in machinery.measured] == [1.0] * 30 + [2.0] * 11 + [4.0] * 5
    assert all(0 in [candidate for candidate, _ in one] for one in rounds)


@given(st.integers(1, 40), st.floats(0.1, 5), st.floats(1, 200), st.floats(0.5, 2))
def test_the_budget_is_kept(total: int, start_s: float, budget_s: float, slow: float) -> None:
    machinery = Machinery(start_s, slow)
    rounds = search(range(total), machinery.measure, budget_ns=round(budget_s * S), first_s=1.0, clock=machinery.clock)
    longest = max(start_s + seconds for _, seconds in machinery.measured) * slow
    assert machinery.now <= max(budget_s * S, (start_s + 1) * slow * S) + longest * S
    assert rounds[0]
    assert [score[0] for candidate, score in rounds[0] if candidate == 0] == [0.0]


def test_a_small_budget_measures_the_defaults() -> None:
    machinery = Machinery(start_s=1.0)
    rounds = search(range(30), machinery.measure, budget_ns=1, first_s=1.0, clock=machinery.clock)
    assert rounds == [[(0, (0.0,))]]


def test_a_budget_for_one_round_is_used_for_one() -> None:
    machinery = Machinery(start_s=10.0)
    rounds = search(range(30), machinery.measure, budget_ns=40 * S, first_s=1.0, clock=machinery.clock)
    assert [[candidate for candidate, _ in one] for one in rounds] == [[2, 1, 0]]


def test_as_many_as_the_budget_allows() -> None:
    assert affordable(100, 0.0, 1.0, 1.0) == 1
    assert affordable(5, 1e9, 1.0, 1.0) == 5
    most = affordable(100, 120.0, 2.0, 1.2)
    assert cost_s(most, 2.0, 1.2) <= 120.0 < cost_s(most + 1, 2.0, 1.2)
    assert sizes(9) == [9, 3, 1]
    assert KEPT == 3


def outcome(rate: float, latency_ms: float | None = 1.0, seconds: float = 1.0, **setting: int) -> Outcome:
    return Outcome(setting=Setting(**setting), seconds=seconds, rate=rate, latency_ms=latency_ms, runs=[])


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict("p99=5ms", "latency", 5e6, 4e6, True), False),
        (Verdict("p99=5ms", "latency", 5e6, 9e6, False), False),
        (Verdict("p99=5ms", "latency", 5e6, 11e6, False), True),
        (Verdict("p99=5ms", "latency", 5e6, None, False), True),
        (Verdict("rate=100", "rate", 100, 1, False), False),
    ],
)
def test_more_load_is_not_tried_where_less_took_far_too_long(verdict: Verdict, expected: bool) -> None:
    assert hopeless(SimpleNamespace(verdicts=[verdict])) is expected  # type: ignore[arg-type]


def test_what_is_clearly_better_than_the_defaults_is_recommended() -> None:
    best, default = told.recommended([[outcome(120, slots=1), outcome(100)]])
    assert (best.setting, default.setting) == (Setting(slots=1), DEFAULT)
    best, _ = told.recommended([[outcome(103, slots=1), outcome(100)]])
    assert best.setting == DEFAULT


def turns(*rates: tuple[float, float]) -> list[Turn]:
    return [Turn(default=outcome(default), best=outcome(best, slots=1)) for default, best in rates]


DUELS = [
    (turns((100, 130), (110, 120), (100, 140)), 130, 100, ["Measured in turns with the defaults: 1.30x, 1.09x, 1.40x."]),
    (turns((0, 130), (0, 120), (0, 140)), 130, 0, ["they did not meet it, they did not meet it, they did not meet it"]),
    (turns((100, 130), (110, 105), (100, 140)), 100, 100, ["slots 1 looked better, but was not each time"]),
    (turns((100, 102), (100, 103), (100, 101)), 100, 100, ["slots 1 looked better, but was not each time"]),
    (turns((100, 200), (150, 210), (90, 190)), 200, 100, ["Measured in turns", "90 to 150 requests/s"]),
    (turns((0, 200), (150, 210), (90, 190)), 200, 90, ["Measured in turns", "0 to 150 requests/s"]),
]  # fmt: skip


@pytest.mark.parametrize(("fought", "best_rate", "default_rate", "said"), DUELS)
def test_what_looks_better_must_be_so_in_every_turn_beside_the_defaults(
    fought: list[Turn], best_rate: float, default_rate: float, said: list[str]
) -> None:
    best, default = told.recommended([[outcome(900, slots=1), outcome(100)]], fought)
    assert (best.rate, default.rate) == (best_rate, default_rate)
    lines = told.reasons(best, default, ["p99=5ms"], MACHINE, 3, fought)
    assert len(lines) == 3 + len(said)
    assert all(one in line for one, line in zip(said, lines[3:], strict=True))


def test_who_goes_first_changes_from_turn_to_turn() -> None:
    asked: list[Setting] = []

    def measure(setting: Setting, seconds: float) -> Outcome:
        asked.append(setting)
        return outcome(1.0, seconds=seconds, **setting.changes())

    fought = duel(Setting(slots=1), measure, seconds_each(24.0))
    assert [one == DEFAULT for one in asked] == [True, False, False, True, True, False]
    assert all((turn.default.setting, turn.best.setting) == (DEFAULT, Setting(slots=1)) for turn in fought)
    assert sum(turn.best.seconds + turn.default.seconds for turn in fought) <= 6.0


def test_the_longest_round_that_has_the_defaults_counts() -> None:
    rounds = [
        [outcome(900, slots=1), outcome(100)],
        [outcome(150, threads=2, seconds=2), outcome(110, seconds=2)],
        [outcome(140, threads=2, seconds=4)],
    ]
    best, default = told.recommended(rounds)
    assert (best.rate, default.rate) == (150, 110)


def test_where_none_meets_the_objective_the_closest_is_recommended() -> None:
    rounds = by_rounds([outcome(0, 9.0), outcome(0, None, workers=2), outcome(0, 7.0, slots=1)])
    best, default = told.recommended(rounds)
    assert best.setting == Setting(slots=1)
    lines = told.reasons(best, default, ["p99=5ms"], MACHINE, 3)
    assert "None of them met p99=5ms; this one came closest: 7 ms." in lines
    assert "The defaults did not meet it." in lines


def test_reasons_compare_with_the_defaults() -> None:
    lines = told.reasons(outcome(150, slots=1), outcome(100), ["p99=5ms"], MACHINE, 3)
    assert lines[1:] == [
        "Best rate within p99=5ms: 150 requests/s at 1 ms.",
        "The defaults reached 100 requests/s: 1.50x.",
    ]
    assert (
        "nothing that was tried was clearly better" in told.reasons(outcome(1), outcome(1), ["p99=5ms"], MACHINE, 3)[-1]
    )
    noisy = told.reasons(outcome(1), outcome(1), ["p99=5ms"], MACHINE, 3, others_cpu=0.4)
    assert noisy[-1].startswith("Others used 40% of the CPUs meanwhile")
    assert "the budget was over" in told.reasons(outcome(1), outcome(1), ["p99=5ms"], MACHINE, 1)[-1]


def test_the_configuration_is_one_that_serve_reads(tmp_path: Path) -> None:
    file = tmp_path / 'a "quoted" name.onnx'
    file.touch()
    model = ModelFiles(name='a "quoted" name', base=file, versions={1: file})
    setting = Setting(workers=2, slots=1, threads=2, max_batch_rows=16, max_queue_delay_us=500)
    (tmp_path / "fastserve.toml").write_text(configuration(model, setting, ["why"]))
    config = load_config((str(tmp_path / "fastserve.toml"),), None, {}, {})
    assert config.server.workers == 2
    assert config.repository.path == (str(file),)
    (entry,) = config.models
    assert (entry.name, entry.slots, entry.threads) == ('a "quoted" name', 1, 2)
    assert (entry.max_batch_rows, entry.max_queue_delay_us) == (16, 500)


def test_one_model_is_chosen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.onnx").touch()
    assert chosen(tmp_path, "b").name == "b"
    assert chosen(tmp_path / "a", None).name == "a"
    for name, said in ((None, "holds a, b: choose one with --model"), ("c", "holds a, b, not c")):
        with pytest.raises(LoadTestError, match=said):
            chosen(tmp_path, name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadTestError, match="holds no model"):
        chosen(tmp_path / "empty", None)
