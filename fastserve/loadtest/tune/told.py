"""What the trials came to: which setting is recommended, and the evidence. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from fastserve import __version__
from fastserve.loadtest.neighbours import DISTURBED_SHARE
from fastserve.loadtest.report import Machine
from fastserve.loadtest.tune.duel import WORTH_IT, Turn, confirmed, usual
from fastserve.loadtest.tune.duel import told as duel_told
from fastserve.loadtest.tune.space import DEFAULT, Setting
from fastserve.loadtest.tune.trial import Outcome


class Tuning(Struct, frozen=True, kw_only=True):
    """What --json writes. `met`: whether the recommended setting met the objectives at any level.

    `rounds`: every candidate of every round, best first; later rounds are longer, and count. `turns`: the best of them
    beside the defaults; none where nothing looked better. `others_cpu`: others' part of the CPUs meanwhile, 0 to 1.
    """

    format: int = 1
    fastserve: str = __version__
    started: str
    path: str
    model: str
    objectives: list[str]
    levels: list[int]
    machine: Machine
    seconds: float
    recommended: Setting
    rate: float
    default_rate: float
    gain: float
    met: bool
    configuration: str
    rounds: list[list[Outcome]]
    turns: list[Turn] = []
    others_cpu: float = 0.0


def recommended(rounds: Sequence[Sequence[Outcome]], turns: Sequence[Turn] = ()) -> tuple[Outcome, Outcome]:
    """The outcome to follow, and that of the defaults beside it: of the turns, else of the last round that has both."""
    if turns:
        default = usual([turn.default for turn in turns])
        return (usual([turn.best for turn in turns]) if confirmed(turns) else default), default
    last = next((one for one in reversed(rounds) if _default_of(one) is not None and len(one) > 1), rounds[0])
    default = _default_of(last) or last[0]
    best = last[0]
    if default.rate > 0 and best.rate < default.rate * WORTH_IT:
        return default, default
    return best, default


def _default_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.setting == DEFAULT), None)


def reasons(
    best: Outcome,
    default: Outcome,
    objectives: Sequence[str],
    machine: Machine,
    tried: int,
    turns: Sequence[Turn] = (),
    others_cpu: float = 0.0,
) -> list[str]:
    """Why, as comments in the file."""
    wanted = ", ".join(objectives)
    settings = "one setting" if tried == 1 else f"{tried} settings"
    latency = "no answer in time" if best.latency_ms is None else f"{best.latency_ms:.3g} ms"
    lines = [f"Written by `fastserve tune` of fastserve {__version__}: {settings} tried on {machine.cpus} CPUs."]
    if best.rate == 0:
        lines.append(f"None of them met {wanted}; this one came closest: {latency}.")
    else:
        lines.append(f"Best rate within {wanted}: {best.rate:,.0f} requests/s at {latency}.")
    if tried == 1:
        lines.append("These are the defaults: the budget was over before anything else could be tried (--budget).")
    elif best.setting == DEFAULT:
        lines.append("These are the defaults: nothing that was tried was clearly better.")
    elif default.rate > 0:
        lines.append(f"The defaults reached {default.rate:,.0f} requests/s: {best.rate / default.rate:.2f}x.")
    else:
        lines.append("The defaults did not meet it.")
    if turns:
        lines += duel_told(turns)
    if others_cpu > DISTURBED_SHARE:
        lines.append(f"Others used {others_cpu:.0%} of the CPUs meanwhile, so all of this is less certain.")
    return lines
