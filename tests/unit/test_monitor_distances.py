"""Distances between distributions: against scipy and plain numpy, and on what has no distribution."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fastserve.monitor.distances import EPSILON, edges_of, of_bins, of_centroids, of_samples, verdict

COUNTS = hnp.arrays(np.float64, 8, elements=st.integers(0, 10_000).map(float))
FINITE = st.floats(-1e308, 1e308)


def counted(values: np.ndarray, edges: list[float]) -> np.ndarray:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(float)


@given(COUNTS)
def test_what_is_the_same_has_not_drifted(counts: np.ndarray) -> None:
    found = of_bins(counts, counts)
    if counts.sum():
        assert found.psi == 0.0
        assert found.js == pytest.approx(0, abs=1e-6)
        assert found.chi_square is not None
        assert found.chi_square.p_value == pytest.approx(1)
    else:
        assert found.psi is found.js is found.chi_square is None


@given(COUNTS, COUNTS)
def test_distances_of_bins_are_within_their_bounds_and_symmetric(one: np.ndarray, other: np.ndarray) -> None:
    found, back = of_bins(one, other), of_bins(other, one)
    if not one.sum() or not other.sum():
        assert found.psi is None
        return
    assert found.psi >= 0
    assert found.psi == pytest.approx(back.psi)
    assert 0 <= found.js <= 1
    assert 0 <= found.l_infinity <= 1


def test_psi_is_the_formula() -> None:
    base, now = np.array([50.0, 30, 20, 0]), np.array([25.0, 25, 0, 50])
    b, n = np.maximum(base / 100, EPSILON), np.maximum(now / 100, EPSILON)
    assert of_bins(base, now).psi == pytest.approx(np.sum((n - b) * np.log(n / b)))


def test_psi_grows_with_the_shift() -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(size=20_000)
    edges = edges_of(base, 10)
    assert len(edges) == 9
    psis = [of_bins(counted(base, edges), counted(base + shift, edges)).psi for shift in (0, 0.1, 0.3, 1, 3)]
    assert psis[0] == 0
    assert psis == sorted(psis)
    assert [verdict(psi) for psi in psis] == ["stable", "stable", "stable", "significant", "significant"]
    assert verdict(None) == "unknown"


@given(hnp.arrays(np.float64, st.integers(0, 200), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_edges_are_finite_and_rise(sample: np.ndarray) -> None:
    edges = edges_of(sample, 10)
    assert all(np.isfinite(edges))
    assert all(low < high for low, high in pairwise(edges))
    assert len(edges) <= 3 * 10


@pytest.mark.parametrize("moved", [4.0, 6.0, -1e300, 1e300])
def test_a_constant_that_moves_to_either_side_has_drifted(moved: float) -> None:
    base = np.full(1000, 5.0)
    edges = edges_of(base, 10)
    assert of_bins(counted(base, edges), counted(np.full(1000, moved), edges)).psi > 1


def test_a_value_of_many_rows_is_a_bin_of_its_own() -> None:
    base = np.concatenate([np.zeros(600), np.linspace(1, 2, 400)])
    edges = edges_of(base, 10)
    shares = counted(base, edges) / 1000
    assert 0.6 in shares
    assert max(share for share in shares if share != 0.6) < 0.15


@given(
    hnp.arrays(np.float64, st.integers(1, 50), elements=FINITE),
    hnp.arrays(np.float64, st.integers(1, 50), elements=FINITE),
)
def test_samples_of_any_size_have_answers(one: np.ndarray, other: np.ndarray) -> None:
    found = of_samples(one, other)
    assert (found.ks is None) == (len(one) < 2 or len(other) < 2)
    assert found.ks is None or 0 <= found.ks.statistic <= 1
    assert found.ks is None or 0 <= found.ks.p_value <= 1
    assert found.wasserstein is None or found.wasserstein >= 0
    assert found.wasserstein_normed is None or found.wasserstein_normed >= 0


def test_samples_are_compared_as_scipy_does() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=500), rng.normal(0.3, 2, size=700)
    found = of_samples(one, other)
    assert found.ks.statistic == pytest.approx(stats.ks_2samp(one, other).statistic)
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(one, other))
    assert found.wasserstein_normed == pytest.approx(found.wasserstein / np.std(one))
    assert of_samples(one, np.empty(0)).ks is None
    assert of_samples(np.ones(5), np.ones(5)).wasserstein_normed is None


def test_centroids() -> None:
    found = of_centroids(np.array([1.0, 0]), np.array([0.0, 1]))
    assert (found.euclidean, found.cosine) == (pytest.approx(2**0.5), pytest.approx(1))
    assert of_centroids(np.zeros(2), np.ones(2)).cosine is None
    assert of_centroids(np.ones(2), np.ones(3)).euclidean is None
    assert of_centroids(np.ones(3), np.ones(3)).cosine == pytest.approx(0, abs=1e-12)
