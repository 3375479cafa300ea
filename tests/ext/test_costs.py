"""What a run is expected to take, against the plain twin, and the rules in words."""

from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.costs import UNKNOWN_NS, CostTable
from tests.reference import costs as reference

ROWS = st.integers(0, 2**62)
RUNS = st.lists(st.tuples(ROWS | st.integers(0, 70), st.integers(-5, 2**62) | st.integers(0, 10**6)), max_size=60)


@given(RUNS, ROWS)
def test_estimates_agree_with_the_reference(runs: list[tuple[int, int]], rows: int):
    native, twin = CostTable(), reference.CostTable()
    for run in runs:
        native.observe(*run)
        twin.observe(*run)
        assert native.estimate_ns(run[0]) == twin.estimate_ns(run[0])
    assert native.estimate_ns(rows) == twin.estimate_ns(rows)


def test_what_was_never_measured_is_longer_than_any_limit():
    assert CostTable().estimate_ns(1) == UNKNOWN_NS


def test_sizes_of_one_power_of_two_share_an_estimate_and_others_do_not():
    table = CostTable()
    table.observe(4, 1000)
    assert table.estimate_ns(7) == 1000
    assert table.estimate_ns(8) == table.estimate_ns(3) == UNKNOWN_NS


def test_one_disturbed_run_moves_the_estimate_by_a_sixteenth():
    table = CostTable()
    table.observe(1, 1600)
    table.observe(1, 10**9)
    assert table.estimate_ns(1) == 1700


def test_a_model_that_slows_down_is_believed_within_a_dozen_runs():
    table = CostTable()
    table.observe(1, 1600)
    for _ in range(12):
        table.observe(1, 10**6)
    assert table.estimate_ns(1) > 3200


def test_a_faster_run_is_believed_at_once():
    table = CostTable()
    table.observe(1, 100_000)
    for _ in range(5):
        table.observe(1, 5_000)
    assert table.estimate_ns(1) < 10_000
