"""How far two distributions are apart, from counts in the same bins or from samples. Pure; numpy and scipy.

Every function has an answer for every input: None where there is nothing to compare.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

EPSILON = 1e-4
"""The share that an empty bin counts as in PSI, where a logarithm has to be taken of it."""

MODERATE, SIGNIFICANT = 0.1, 0.25
"""PSI from which drift is called so, as usual."""

Counts = NDArray[np.float64]
Sample = NDArray[np.float64]


class Test(Struct, frozen=True):
    """A statistic, and how likely one so large is where nothing has changed."""

    __test__ = False  # pytest

    statistic: float
    p_value: float


class BinDistances(Struct, frozen=True):
    """Of counts in the same bins. `js`: the Jensen-Shannon distance to base 2, from 0 to 1; `l_infinity`: the largest
    difference between two shares."""

    psi: float | None = None
    js: float | None = None
    l_infinity: float | None = None
    chi_square: Test | None = None


class SampleDistances(Struct, frozen=True):
    """Of two samples. `ks`: from two values a side on. `wasserstein_normed`: in standard deviations of the baseline, None
    where that is 0."""

    ks: Test | None = None
    wasserstein: float | None = None
    wasserstein_normed: float | None = None


class CentroidDistances(Struct, frozen=True):
    """Of two mean vectors. `cosine`: 1 - cos, None where one of them is 0."""

    euclidean: float | None = None
    cosine: float | None = None


def of_bins(baseline: Counts, current: Counts, *, tested: bool = True) -> BinDistances:
    """Of counts; the same bins in the same order. Nothing where one side has no rows. `tested`: with the chi-square test."""
    if baseline.sum() <= 0 or current.sum() <= 0:
        return BinDistances()
    from scipy.spatial.distance import jensenshannon
    from scipy.special import rel_entr

    base, now = baseline / baseline.sum(), current / current.sum()
    kept = (base > 0) | (now > 0)
    floor_base, floor_now = np.maximum(base[kept], EPSILON), np.maximum(now[kept], EPSILON)
    js = float(jensenshannon(base, now, base=2))
    return BinDistances(
        psi=float(np.sum(rel_entr(floor_now, floor_base) + rel_entr(floor_base, floor_now))),
        js=0.0 if np.isnan(js) else js,  # rounding may put a tiny negative number under the root
        l_infinity=float(np.max(np.abs(base - now))),
        chi_square=_chi_square(baseline[kept], current[kept]) if tested else None,
    )


def _chi_square(baseline: Counts, current: Counts) -> Test | None:
    """Of homogeneity; with a single bin there is nothing that could differ."""
    if len(baseline) < 2:
        return Test(0.0, 1.0)
    from scipy.stats import chi2_contingency

    found: Any = chi2_contingency(np.vstack([baseline, current]), correction=False)
    return Test(float(found.statistic), float(found.pvalue))


def of_samples(baseline: Sample, current: Sample) -> SampleDistances:
    """Of finite numbers. Nothing where one side has none."""
    if not len(baseline) or not len(current):
        return SampleDistances()
    from scipy.stats import ks_2samp, wasserstein_distance

    few = len(baseline) < 2 or len(current) < 2
    ks: Any = None if few else ks_2samp(baseline, current, method="asymp")
    distance = _scaled(wasserstein_distance, baseline, current)
    deviation = float(np.std(baseline / _scale(baseline))) * _scale(baseline)
    return SampleDistances(
        ks=None if few else Test(float(ks.statistic), float(ks.pvalue)),
        wasserstein=distance,
        wasserstein_normed=distance / deviation if distance is not None and deviation > 0 else None,
    )


def _scale(values: Sample) -> float:
    """What to divide by, so that squares and sums stay finite; 1 for numbers of usual size."""
    largest = float(np.max(np.abs(values)))
    return largest if largest > 1e150 else 1.0


def _scaled(distance: Any, baseline: Sample, current: Sample) -> float | None:
    scale = max(_scale(baseline), _scale(current))
    found = float(distance(baseline / scale, current / scale)) * scale
    return found if np.isfinite(found) else None


def of_centroids(baseline: Sample, current: Sample) -> CentroidDistances:
    """Of two vectors of one length."""
    if len(baseline) != len(current) or not len(baseline):
        return CentroidDistances()
    from scipy.spatial.distance import cosine, euclidean

    apart = float(euclidean(baseline, current))
    has_angle = bool(np.any(baseline)) and bool(np.any(current))
    angle = float(cosine(baseline, current)) if has_angle else None
    finite = angle is not None and np.isfinite(angle)
    return CentroidDistances(apart if np.isfinite(apart) else None, max(0.0, angle) if finite and angle else angle)


def verdict(psi: float | None) -> str:
    """What people call such a PSI."""
    if psi is None:
        return "unknown"
    return "stable" if psi < MODERATE else "moderate" if psi < SIGNIFICANT else "significant"


def edges_of(sample: Sample, bins: int) -> list[float]:
    """The inner edges of quantile bins; bin i holds what is above edge i-1 and not above edge i, the outer ones are open.

    A value that many rows have is a bin of its own, and a shift to either side of it shows. Few values: one bin each.
    """
    finite = sample[np.isfinite(sample)]
    if not len(finite):
        return []
    values = np.unique(finite[: bins * 1000])
    if len(values) <= bins:
        values = np.unique(finite)
    if len(values) <= bins:
        points = values
        inner: Sample = np.empty(0)
    else:
        quantiles = np.quantile(finite, np.arange(1, bins) / bins, method="inverted_cdf")
        inner, times = np.unique(quantiles, return_counts=True)
        points = inner[times > 1]
    with np.errstate(over="ignore"):
        below = np.nextafter(points, -np.inf)
    edges = np.unique(np.concatenate([inner, points, below]))
    return [float(edge) for edge in edges[np.isfinite(edges)]]
