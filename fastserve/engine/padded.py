"""Batches of allowed sizes only (`batch_sizes`): the rest of the smallest that holds a batch is filled with one of its rows.

A row of the batch itself, since zeros may be nothing that the model takes; what comes of it is cut off again.
Thread: as the runner that it asks. Memory: the rows that fill up, as long as a run takes.
"""

from bisect import bisect_left

import numpy as np
from msgspec.structs import replace

from fastserve.backends.base import Runner
from fastserve.config import ModelConfig
from fastserve.engine.block import RunsParts
from fastserve.errors import LoadFailed
from fastserve.types import Tensor


class Padded:
    """A runner whose runs have an allowed number of rows. `sizes`: ascending; the last one holds every batch."""

    def __init__(self, runner: Runner, sizes: tuple[int, ...]) -> None:
        self._runner = runner
        self._sizes = sizes
        self.stop = runner.stop
        self.go_on = runner.go_on

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer each request, from one run."""
        missing = self._missing(sum(rows))
        if not missing:
            return self._runner.run(requests, rows)
        one = next(request for request, count in zip(requests, rows, strict=True) if count)
        more = {name: _repeated(tensor, missing) for name, tensor in one.items()}
        return self._runner.run([*requests, more], [*rows, missing])[:-1]

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Answer one request."""
        return self.run([request], [rows])[0] if self._missing(rows) else self._runner.run_one(request, rows)

    def _missing(self, rows: int) -> int:
        """Rows up to the next allowed size; nothing fills up a batch of none."""
        if rows == 0 or rows > self._sizes[-1]:
            return 0
        return self._sizes[bisect_left(self._sizes, rows)] - rows


class PaddedParts(Padded):
    """The same of a runner that also takes rows where they lie."""

    def __init__(self, runner: Runner, parts: RunsParts, sizes: tuple[int, ...]) -> None:
        super().__init__(runner, sizes)
        self._parts = parts

    def run_parts(self, parts: list[Tensor], rows: int) -> tuple[Tensor, ...] | None:
        """All outputs of the one input's parts; None where they do not fit, or the run fails."""
        missing = self._missing(rows)
        if not missing:
            return self._parts.run_parts(parts, rows)
        one = next(part for part in parts if len(part))
        outputs = self._parts.run_parts([*parts, _repeated(one, missing)], rows + missing)
        return None if outputs is None else tuple([output[:rows] for output in outputs])


def padded(runner: Runner, sizes: tuple[int, ...]) -> Runner:
    """`runner` itself, where any size is allowed."""
    if not sizes:
        return runner
    return PaddedParts(runner, runner, sizes) if isinstance(runner, RunsParts) else Padded(runner, sizes)


def with_allowed_sizes(config: ModelConfig) -> ModelConfig:
    """`batch_sizes` ascending, none larger than a batch may be, and no batch larger than the last. Raises LoadFailed."""
    if not config.batch_sizes:
        return config
    sizes = tuple(sorted({size for size in config.batch_sizes if size <= config.max_batch_rows}))
    if not sizes:
        raise LoadFailed(
            f"batch_sizes: expected one of at most max_batch_rows ({config.max_batch_rows}), got {list(config.batch_sizes)}"
        )
    return replace(config, batch_sizes=sizes, max_batch_rows=sizes[-1])


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return np.repeat(tensor[:1], count, axis=0)
