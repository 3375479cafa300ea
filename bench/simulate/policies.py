"""What is compared: the scheduler with the settings that there are for it. Pure."""

from msgspec import Struct

from fastserve.config import ModelConfig
from fastserve.engine.limits import Limits

_DEFAULT = ModelConfig(name="default")
SIZES = (1, 4, 16, 64)
DELAY_SHARES = (0.0, 0.1, 0.25, 0.5)
"""Of the objective."""


class Policy(Struct, frozen=True):
    """One setting. `deadlines`: requests carry the objective as their deadline, so that late ones are never run.

    `objective`: the model has it as its `slo_ms`.
    """

    name: str
    limits: Limits
    deadlines: bool
    fixed: bool
    objective: bool = False


def limits(rows: int, delay_ns: int) -> Limits:
    """A batch of at most so many rows, whose first waits at most so long for company."""
    return Limits(
        batchable=True, max_batch_rows=rows, max_queue_delay_ns=delay_ns, max_queue_rows=_DEFAULT.max_queue_rows
    )


def policies(slo_ns: int) -> list[Policy]:
    """The fixed (size, delay) grid, without deadlines as such servers have it; then what is compared with its best one."""
    grid = [
        Policy(f"size {rows}, delay {share * slo_ns / 1e6:g} ms", limits(rows, round(share * slo_ns)), False, True)
        for rows in SIZES
        for share in DELAY_SHARES
        if rows > 1 or share == 0
    ]
    default = limits(_DEFAULT.max_batch_rows, 0)
    return [
        *grid,
        Policy("defaults", default, False, False),
        Policy("defaults, deadlines", default, True, False),
        Policy("objective", default, False, False, objective=True),
    ]
