"""Predict by row for many requests at a time: `{"instances": [...]}` and nothing else, for models with one numeric input.

Thread: the door's. Memory: holds the lease of its version for as long as that is the one that the path means.
"""

from collections.abc import Callable

from fastserve._ext import jsonwrite
from fastserve._ext.coalesce import split
from fastserve._ext.tensorize import sole_rows
from fastserve.engine.block import Blocks, each
from fastserve.engine.lease import Lease
from fastserve.errors import FastServeError
from fastserve.http.message import Response
from fastserve.protocols.tfserving.codec import ROWS, PredictPlan
from fastserve.types import Tensor

_KEY = ROWS.encode()
_BEFORE, _AFTER = b'{"predictions": ', b"}"


class PredictLane:
    """One path's requests. `serves`: whether the path still means this version; raises what a lookup raises."""

    header: str | None = None
    header_value: str | None = None
    light = False
    limit = 0

    def __init__(self, lease: Lease, plan: PredictPlan, blocks: Blocks, serves: Callable[[], bool]) -> None:
        self.subject = lease.subject
        self._lease = lease
        self._plan = plan
        self._blocks = blocks
        self._serves = serves

    def answer(self, bodies: list[bytes], came_ns: list[int]) -> list[Response | None] | None:
        """See `Lane`."""
        try:
            if not self._serves() or not self._blocks.worth_while:
                return None
        except FastServeError:
            return None
        dtype = self._plan.sole_dtype
        found = each(lambda body: sole_rows(body, _KEY, dtype, "$.instances"), bodies)
        # Not kept: a method of its own that it holds would keep it, and the version, until the collector comes.
        encode = self._sole_output if len(self._plan.output_names) == 1 else self._outputs
        return self._blocks.run(found, came_ns, encode)

    def _sole_output(self, outputs: tuple[Tensor, ...], rows: list[int]) -> list[Response]:
        plan = self._plan
        texts = jsonwrite.each_tensor(_BEFORE, outputs[0], rows, plan.output_dtypes[0], False, _AFTER)
        return [Response(200, plan.headers, text) for text in texts]

    def _outputs(self, outputs: tuple[Tensor, ...], rows: list[int]) -> list[Response]:
        plan = self._plan
        answers = []
        for arrays in zip(*[split(output, rows) for output in outputs], strict=True):
            text = jsonwrite.row_objects(
                _BEFORE, plan.output_names, arrays, plan.output_dtypes, plan.output_b64, _AFTER
            )
            answers.append(Response(200, plan.headers, text))
        return answers


def lane_for(lease: Lease, plan: PredictPlan, serves: Callable[[], bool]) -> PredictLane | None:
    """The lane of a version; None where its requests are looked at one by one."""
    blocks = lease.blocks
    if blocks is None or not plan.sole_dtype or not blocks.worth_while:
        return None
    return PredictLane(lease, plan, blocks, serves)
