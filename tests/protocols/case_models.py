"""The models that the protocol cases ask for, in one folder: small graphs whose answers are known by heart."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

OPSET = 17
IR_VERSION = 8

Shape = Sequence[int | str] | None
Value = tuple[str, int, Shape]
Parts = tuple[list[onnx.NodeProto], list[Value], list[Value]]
"""Nodes, inputs, outputs."""

DTYPES: dict[str, int] = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "half": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}

CONFIG = """
[repository]
path = "models"
poll_seconds = 0
versions = "all"

[[models]]
name = "half_plus"
versions = [1, 2]
labels = { stable = 1, canary = 2 }
aliases = ["deployment-42"]

[[models]]
name = "strict_inverse"
non_finite = "error"

[[models]]
name = "strict_half"
non_finite = "error"
"""


def write_repository(root: Path) -> Path:
    """Every case model under `root/models`; answers the path of the configuration that serves them."""
    models = root / "models"
    for version, offset in ((1, 2.0), (2, 3.0), (10, 10.0)):
        _write(models, "half_plus", version, _half_plus(offset))
    for name, dtype in DTYPES.items():
        _write(models, f"same_{name}", 1, _identity(dtype, None))
    _write(models, "same_bytes", 1, _identity(TensorProto.STRING, ["N"], output="y_bytes"))
    _write(models, "float_bytes", 1, _identity(TensorProto.FLOAT, ["N"], output="y_bytes"))
    _write(models, "four", 1, _identity(TensorProto.FLOAT, ["N", 4]))
    _write(models, "image", 1, _identity(TensorProto.FLOAT, ["N", "height", "width", 3]))
    _write(models, "strict_inverse", 1, _inverse(TensorProto.FLOAT))
    _write(models, "strict_half", 1, _identity(TensorProto.FLOAT16, None))
    _write(models, "pair", 1, _pair())
    _write(models, "scalar", 1, _scalar())
    _write(models, "unequal", 1, _unequal())
    _write(models, "mod!el (1)", 1, _identity(TensorProto.FLOAT, ["N"]))
    broken = models / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"this is no ONNX file")
    config = root / "fastserve.toml"
    config.write_text(CONFIG)
    return config


def _identity(dtype: int, shape: Shape, output: str = "y") -> Parts:
    return [helper.make_node("Identity", ["x"], [output])], [("x", dtype, shape)], [(output, dtype, shape)]


def _half_plus(offset: float) -> Parts:
    """y = x / 2 + offset, of rank 1: upstream's own example."""
    nodes = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Constant", [], ["offset"], value_float=offset),
        helper.make_node("Mul", ["x", "half"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["y"]),
    ]
    return nodes, [("x", TensorProto.FLOAT, ["N"])], [("y", TensorProto.FLOAT, ["N"])]


def _inverse(dtype: int) -> Parts:
    """y = 1 / x: of zero it is infinite."""
    return [helper.make_node("Reciprocal", ["x"], ["y"])], [("x", dtype, ["N"])], [("y", dtype, ["N"])]


def _pair() -> Parts:
    """Two inputs, two outputs: a * 2 and b as it came."""
    nodes = [helper.make_node("Add", ["a", "a"], ["twice"]), helper.make_node("Identity", ["b"], ["text"])]
    inputs: list[Value] = [("a", TensorProto.FLOAT, ["N", 2]), ("b", TensorProto.STRING, ["N"])]
    outputs: list[Value] = [("twice", TensorProto.FLOAT, ["N", 2]), ("text", TensorProto.STRING, ["N"])]
    return nodes, inputs, outputs


def _scalar() -> Parts:
    """The sum of everything: an output without a row axis."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0)]
    return nodes, [("x", TensorProto.FLOAT, ["N"])], [("total", TensorProto.FLOAT, [])]


def _unequal() -> Parts:
    """One output follows the input, the other always has three elements."""
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Constant", [], ["three"], value_floats=[1.0, 2.0, 3.0]),
    ]
    outputs: list[Value] = [("y", TensorProto.FLOAT, ["N"]), ("three", TensorProto.FLOAT, [3])]
    return nodes, [("x", TensorProto.FLOAT, ["N"])], outputs


def _write(models: Path, name: str, version: int, parts: Parts) -> None:
    nodes, inputs, outputs = parts
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    folder = models / name / str(version)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
