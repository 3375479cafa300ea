"""Successive halving: all candidates shortly, the best third of them longer, the best of those longer still. Pure but for
the clock it is given; whoever measures is given too."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import TypeVar

from fastserve.clock import Clock

KEPT = 3
"""One of so many goes on to the next round."""

ROUNDS = 3
GROWTH = 2
"""A round's measurements are so much longer than those of the one before."""

Candidate = TypeVar("Candidate")
Score = tuple[float, ...]
Measure = Callable[[Candidate, float], Score]
"""Measures a candidate for so many seconds; a higher score is better."""


def sizes(first: int) -> list[int]:
    """How many candidates each round has."""
    return [max(1, ceil(first / KEPT**number)) for number in range(ROUNDS)]


def affordable(total: int, budget_s: float, start_s: float, first_s: float) -> int:
    """How many candidates the first round may have so that all rounds fit the budget; at least 1, at most `total`."""
    for first in range(total, 1, -1):
        if cost_s(first, start_s, first_s) <= budget_s:
            return first
    return 1


def cost_s(first: int, start_s: float, first_s: float) -> float:
    """What all rounds take with so many in the first; one that is measured anyway, the default, comes on top."""
    return sum((size + 1) * (start_s + first_s * float(GROWTH**number)) for number, size in enumerate(sizes(first)))


def search(
    candidates: Sequence[Candidate],
    measure: Measure[Candidate],
    *,
    budget_ns: int,
    first_s: float,
    clock: Clock,
) -> list[list[tuple[Candidate, Score]]]:
    """Every round's candidates with their scores, best first. The first candidate is measured in every round.

    Once the budget is used up nothing more is begun: the last round may lack some of its candidates.
    """
    started = clock()
    baseline = candidates[0]
    measured = [(baseline, measure(baseline, first_s))]
    start_s = max(0.0, (clock() - started) / 1e9 - first_s)
    left_s = (budget_ns - (clock() - started)) / 1e9
    count = affordable(len(candidates), left_s, start_s, first_s)
    # Too little for several rounds: one, of as many as there is time for.
    planned = sizes(count) if count > 1 else [len(candidates)]
    going = list(candidates[1 : planned[0]])
    rounds: list[list[tuple[Candidate, Score]]] = []
    for number, size in enumerate(planned):
        seconds = first_s * GROWTH**number
        if number:
            going = [candidate for candidate, _ in rounds[-1] if candidate is not baseline][:size]
            measured = []
            going.insert(0, baseline)
        for candidate in going:
            if clock() - started + round((start_s + seconds) * 1e9) > budget_ns:
                break
            measured.append((candidate, measure(candidate, seconds)))
        if not measured:
            break
        rounds.append(sorted(measured, key=lambda one: one[1], reverse=True))
    return rounds
