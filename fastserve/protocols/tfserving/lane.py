"""Predict by row for many requests at a time: `{"instances": [...]}` and nothing else, for models with one numeric input."""

from collections.abc import Callable

from fastserve._ext import jsonwrite
from fastserve._ext.coalesce import split
from fastserve._ext.tensorize import sole_rows
from fastserve.engine.block import Blocks, Found, each
from fastserve.engine.lease import Lease
from fastserve.http.message import Reply, Response
from fastserve.protocols.lanes import ModelLane, Told
from fastserve.protocols.tfserving.codec import ROWS, PredictPlan, encode_predict
from fastserve.types import Tensor

_KEY = ROWS.encode()
_BEFORE, _AFTER = b'{"predictions": ', b"}"


class PredictLane(ModelLane):
    """The lane of one path."""

    def __init__(self, lease: Lease, plan: PredictPlan, blocks: Blocks, serves: Callable[[], bool]) -> None:
        super().__init__(lease, blocks, serves)
        self._plan = plan

    def read(self, bodies: list[bytes]) -> Found:
        """See `ModelLane`."""
        dtype = self._plan.sole_dtype
        return each(lambda body: sole_rows(body, _KEY, dtype, "$.instances"), bodies)

    def told(self, reply: Reply) -> Told:
        """See `ModelLane`."""
        return reply.then(encode_predict, self._plan, ROWS)

    def encode(self, outputs: tuple[Tensor, ...], rows: list[int]) -> list[Response]:
        """See `ModelLane`."""
        plan = self._plan
        if len(plan.output_names) == 1:
            texts = jsonwrite.each_tensor(_BEFORE, outputs[0], rows, plan.output_dtypes[0], False, _AFTER)
            return [Response(200, plan.headers, text) for text in texts]
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
    return None if blocks is None or not plan.sole_dtype else PredictLane(lease, plan, blocks, serves)
