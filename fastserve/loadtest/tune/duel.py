"""The best of the search beside the defaults, in turns: what was better once may have been lucky. Pure but for `measure`."""

import math
from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct

from fastserve.loadtest.tune.space import DEFAULT, Setting
from fastserve.loadtest.tune.trial import WARM_UP_SHARE, Outcome

TURNS = 3
BUDGET_SHARE = 0.25
"""Of the budget is kept for it."""

MOST_S = 3.0
"""One measurement takes no longer."""

WORTH_IT = 1.05
"""A setting that is no better than the defaults by this much is not recommended."""

NOISY = 1.25
"""Where the defaults' own rates differ by more, it is said."""


class Turn(Struct, frozen=True, kw_only=True):
    """Both, one right after the other."""

    default: Outcome
    best: Outcome

    @property
    def won(self) -> bool:
        """Whether the defaults were behind."""
        return self.best.score > self.default.score

    @property
    def ratio(self) -> float:
        """Of their rates; endless where the defaults met no objective."""
        if self.default.rate:
            return self.best.rate / self.default.rate
        return math.inf if self.won else 1.0


def seconds_each(budget_s: float) -> float:
    """How long each of the two is measured in a turn."""
    return min(MOST_S, budget_s * BUDGET_SHARE / (2 * TURNS * (1 + WARM_UP_SHARE)))


def duel(best: Setting, measure: Callable[[Setting, float], Outcome], seconds: float) -> list[Turn]:
    """So many turns; who goes first changes."""
    turns = []
    for number in range(TURNS):
        order = (DEFAULT, best) if number % 2 == 0 else (best, DEFAULT)
        found = {setting: measure(setting, seconds) for setting in order}
        turns.append(Turn(default=found[DEFAULT], best=found[best]))
    return turns


def confirmed(turns: Sequence[Turn]) -> bool:
    """Whether it was better in every turn, and by enough."""
    return all(turn.won for turn in turns) and median(turn.ratio for turn in turns) >= WORTH_IT


def usual(outcomes: Sequence[Outcome]) -> Outcome:
    """The one in the middle."""
    return sorted(outcomes, key=lambda one: one.score)[len(outcomes) // 2]


def told(turns: Sequence[Turn]) -> list[str]:
    """What they came to, in words."""
    (setting,) = {turn.best.setting for turn in turns}
    ratios = ", ".join("they did not meet it" if math.isinf(turn.ratio) else f"{turn.ratio:.2f}x" for turn in turns)
    if confirmed(turns):
        lines = [f"Measured in turns with the defaults: {ratios}."]
    else:
        lines = [f"{setting.text()} looked better, but was not each time in turns with the defaults: {ratios}."]
    rates = [turn.default.rate for turn in turns]
    if max(rates) > NOISY * min(rates):
        span = f"{min(rates):,.0f} to {max(rates):,.0f} requests/s"
        lines.append(f"The defaults alone reached {span} in these turns: this machine is not the same all the time.")
    return lines
