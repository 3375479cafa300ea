"""Short words for making ONNX graphs in tests. Weights are random with a fixed seed: answers are always the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8
Dims = Sequence[int | str | None] | None


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write `model` to `folder`/`name`, making the folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def tensor(name: str, dims: Dims, dtype: int = T.FLOAT) -> onnx.ValueInfoProto:
    """An input or output; dims None: unknown rank; a dimension None: free; a string: free, with that symbol."""
    return helper.make_tensor_value_info(name, dtype, dims)


def weight(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by spaces."""
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = OPSET,
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
