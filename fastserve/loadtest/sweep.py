"""The highest rate that meets an objective, found in few trials. Pure: it says which rate to try and is told how it went."""

import math

from msgspec import Struct

from fastserve.loadtest.report import Run

KEPT_UP_SHARE = 0.95
"""Where less of what was sent was answered meanwhile, the server fell behind, whatever the percentiles say."""

LOWEST_SHARE = 0.01
"""Of what a closed loop reached: rates below are not tried."""


def kept_up(run: Run) -> bool:
    """Whether answers came as fast as requests did.

    Beside how many came, not beside the rate: chance has a short level send fewer or more. What was on its way at the end
    of it is no delay: as many as come in the usual latency.
    """
    assert run.rate is not None
    on_their_way = run.rate * run.latency_ms.p50 * 1e-3
    return run.per_s * run.seconds + on_their_way >= run.requests * KEPT_UP_SHARE


class Trial(Struct, frozen=True):
    """One rate and whether it met the objective."""

    rate: float
    met: bool


class RateSearch:
    """Doubling up or halving down to a bracket, then bisecting it (by ratio) until its ends are within `precision`.

    `guess`: what a closed loop reached; a met rate is never asked again, and at most `max_trials` are asked at all.
    """

    def __init__(self, guess: float, precision: float = 0.05, max_trials: int = 12) -> None:
        self._guess = guess
        self._precision = precision
        self._max_trials = max_trials
        self.trials: list[Trial] = []

    @property
    def highest_met(self) -> float | None:
        """The highest rate that met it, of those below the lowest that did not."""
        ceiling = self._lowest_missed()
        return max((trial.rate for trial in self.trials if trial.met and trial.rate < ceiling), default=None)

    def next_rate(self) -> float | None:
        """The rate to try; None when the search is over."""
        if len(self.trials) >= self._max_trials:
            return None
        low, high = self.highest_met, self._lowest_missed()
        if low is None and math.isinf(high):
            return self._guess * 0.7
        if low is None:
            return high / 2 if high / 2 >= self._guess * LOWEST_SHARE else None
        if math.isinf(high):
            return low * 1.3
        return math.sqrt(low * high) if high / low > 1 + self._precision else None

    def tell(self, rate: float, met: bool) -> None:
        """How the trial went."""
        self.trials.append(Trial(rate, met))

    def _lowest_missed(self) -> float:
        return min((trial.rate for trial in self.trials if not trial.met), default=math.inf)
