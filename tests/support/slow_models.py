"""A model that takes as long as the request says, so that tests can fill slots and queues without sleeping."""

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from tests.support.models import build, node, tensor, weight

WIDTH = 96
BASE_STEPS = 60
"""Every run takes so many steps: far longer than what a door's thread would run by itself."""


def patient(base_steps: int = BASE_STEPS) -> onnx.ModelProto:
    """`steps` int64 [N] -> `done` int64 [N], the same numbers, after as many matrix products as the largest says.

    `base_steps` come on top, in every run. A step takes some 10 to 40 us on one thread. Rows are independent but for
    the time.
    """
    body = helper.make_graph(
        [
            node("MatMul", "state_in turn", "state_out"),
            node("Identity", "go_on", "go_on_out"),
        ],
        "body",
        [tensor("at", [], T.INT64), tensor("go_on", [], T.BOOL), tensor("state_in", [WIDTH, WIDTH])],
        [tensor("go_on_out", [], T.BOOL), tensor("state_out", [WIDTH, WIDTH])],
    )
    nodes = [
        node("ReduceMax", "steps", "most", keepdims=0),
        node("Add", "most base", "trips"),
        node("Loop", "trips yes start", "state", body=body),
        node("ReduceMax", "state", "highest", keepdims=0),
        node("Cast", "highest", "whole", to=T.INT64),
        node("Mul", "whole zero", "nothing"),
        node("Add", "steps nothing", "done"),
    ]
    weights = [
        weight("turn", np.roll(np.eye(WIDTH, dtype=np.float32), 1, axis=0)),
        weight("start", np.full((WIDTH, WIDTH), 0.5, dtype=np.float32)),
        numpy_helper.from_array(np.array(base_steps), "base"),
        numpy_helper.from_array(np.array(0), "zero"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return build(nodes, [tensor("steps", ["N"], T.INT64)], [tensor("done", ["N"], T.INT64)], weights)
