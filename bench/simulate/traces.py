"""When requests come: arrival times in ns, the same for the same seed. Pure."""

from collections.abc import Callable

import numpy as np
from msgspec import Struct

Times = np.ndarray[tuple[int], np.dtype[np.int64]]

BURST_SHARE = 0.2
"""Of the time: in it, bursts come at BURST_FACTOR times the rate of the rest."""

BURST_FACTOR = 5.0
BURST_PERIOD_S = 2.0
WAVES = 3
WAVE_DEPTH = 0.8


class Trace(Struct, frozen=True):
    """Arrivals over `seconds`."""

    name: str
    times_ns: Times
    seconds: float


def poisson(per_s: float, seconds: float, seed: int) -> Trace:
    """Independent arrivals at one rate."""
    return Trace("Poisson", _thinned(np.ones_like, per_s, seconds, seed), seconds)


def bursts(per_s: float, seconds: float, seed: int) -> Trace:
    """On average as many, of which bursts bring half."""
    quiet = 1 / (1 - BURST_SHARE + BURST_SHARE * BURST_FACTOR)

    def shape(at_s: np.ndarray) -> np.ndarray:
        return np.where(at_s % BURST_PERIOD_S < BURST_SHARE * BURST_PERIOD_S, BURST_FACTOR * quiet, quiet)

    return Trace("bursts", _thinned(shape, per_s, seconds, seed), seconds)


def changing(per_s: float, seconds: float, seed: int) -> Trace:
    """On average as many, in waves: between a fifth and nearly twice that rate."""

    def shape(at_s: np.ndarray) -> np.ndarray:
        return 1 + WAVE_DEPTH * np.sin(2 * np.pi * WAVES * at_s / seconds)

    return Trace("changing", _thinned(shape, per_s, seconds, seed), seconds)


TRACES = {"poisson": poisson, "bursts": bursts, "changing": changing}


def _thinned(shape: Callable[[np.ndarray], np.ndarray], per_s: float, seconds: float, seed: int) -> Times:
    """Arrivals at `per_s * shape(t)`: those of the highest rate, of which each is kept with its moment's share."""
    rand = np.random.default_rng(seed)
    highest = float(np.max(shape(np.linspace(0, seconds, 10_001))))
    count = int(rand.poisson(per_s * highest * seconds))
    at_s = np.sort(rand.random(count) * seconds)
    kept = at_s[rand.random(count) * highest < shape(at_s)]
    return (kept * 1e9).astype(np.int64)
