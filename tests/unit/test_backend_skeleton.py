"""A file read without the contents of its large tensors says all that the whole file says."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from fastserve.backends.base import LoadOptions
from fastserve.backends.graph import read_graph
from fastserve.backends.ort import OrtBackend
from fastserve.backends.skeleton import LARGE_BYTES, read_skeleton
from fastserve.backends.walk import tensors
from tests.support import models

SIZES = st.integers(1, 3 * LARGE_BYTES)


def values(name: str, count: int, dtype: type = np.uint8) -> onnx.TensorProto:
    return numpy_helper.from_array(np.resize(np.arange(251), count).astype(dtype), name)


def everywhere(sizes: list[int]) -> onnx.ModelProto:
    """Tensors at every place that holds some, of so many bytes."""
    first, second, third, fourth, fifth = sizes
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=values("inner", second))],
        "then",
        [],
        [helper.make_tensor_value_info("c", T.UINT8, None)],
        [values("body", third)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["choice"], ["y"], then_branch=body, else_branch=body),
            helper.make_node("Listed", ["x"], ["z"], several=[values("a", fourth), values("b", 3)], domain="own"),
        ],
        "main",
        [helper.make_tensor_value_info("x", T.UINT8, ["N", 4])],
        [helper.make_tensor_value_info("y", T.UINT8, None)],
        [values("w", first), numpy_helper.from_array(np.ones(fifth, dtype=np.float32), "unpacked")],
    )
    graph.initializer.append(helper.make_tensor("listed", T.FLOAT, [fifth % 1000], [0.5] * (fifth % 1000)))
    function = helper.make_function(
        "own", "Own", ["p"], ["q"], [helper.make_node("Constant", [], ["q"], value=values("f", second))], []
    )
    return helper.make_model(graph, functions=[function])


def without_large(model: onnx.ModelProto) -> onnx.ModelProto:
    """The slow, obvious way."""
    left = onnx.ModelProto()
    left.CopyFrom(model)
    for tensor in tensors(left):
        if len(tensor.raw_data) > LARGE_BYTES:
            tensor.ClearField("raw_data")
    return left


@given(st.lists(SIZES, min_size=5, max_size=5))
def test_it_is_the_file_without_large_contents(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    model = everywhere(sizes)
    path = tmp_path_factory.mktemp("skeleton") / "model.onnx"
    onnx.save_model(model, path)
    skeleton = read_skeleton(path)
    left = without_large(model)
    assert onnx.load_model_from_string(skeleton.data) == left
    assert skeleton.complete == (left == model)


@given(st.integers(0, 4 * LARGE_BYTES), st.binary(max_size=12), st.booleans())
def test_what_is_no_model_is_left_to_the_parser(
    tmp_path_factory: pytest.TempPathFactory, at: int, garbage: bytes, cut: bool
) -> None:
    data = everywhere([LARGE_BYTES + 1, 10, 2 * LARGE_BYTES, 7, 3]).SerializeToString()
    at %= len(data)
    broken = data[:at] + garbage + (b"" if cut else data[at + len(garbage) :])
    path = tmp_path_factory.mktemp("skeleton") / "model.onnx"
    path.write_bytes(broken)
    skeleton = read_skeleton(path)
    assert skeleton.data == broken or not skeleton.complete
    whole, left = parsed(broken), parsed(skeleton.data)
    assert (whole is None) == (left is None)
    assert whole is None or left == without_large(whole)


def parsed(data: bytes) -> onnx.ModelProto | None:
    try:
        return onnx.load_model_from_string(data)
    except DecodeError:
        return None


def test_nesting_without_end_is_left_to_the_parser(tmp_path: Path) -> None:
    data = b"\0" * (LARGE_BYTES + 1)
    for field in (b"\x0a", b"\x2a", b"\x32") * 200:  # a node's attribute's graph
        data = field + _length(len(data)) + data
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + _length(len(data)) + data)
    assert read_skeleton(tmp_path / "model.onnx").data.endswith(b"\0" * LARGE_BYTES)


def _length(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def wide(zipmap: bool = False) -> onnx.ModelProto:
    """`x` [N, 512] -> `y` [N, 512], a megabyte of weights; with a ZipMap the graph has to be changed to be served."""
    weights = [models.weight("w", models.random(512, 512))]
    outputs = [models.tensor("y", ["N", 512])]
    nodes = [models.node("MatMul", "x w", "p" if zipmap else "y")]
    if zipmap:
        nodes.append(helper.make_node("ZipMap", ["p"], ["y"], domain="ai.onnx.ml", classlabels_int64s=list(range(512))))
        outputs = [helper.make_tensor_sequence_value_info("y", T.FLOAT, None)]
    model = models.build(nodes, [models.tensor("x", ["N", 512])], outputs, weights)
    if zipmap:
        kind = onnx.TypeProto()
        kind.sequence_type.elem_type.map_type.key_type = T.INT64
        kind.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = T.FLOAT
        model.graph.output[0].type.CopyFrom(kind)
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


@pytest.mark.parametrize("zipmap", [False, True])
def test_a_large_model_is_served_whole(tmp_path: Path, zipmap: bool) -> None:
    path = models.save(wide(zipmap), tmp_path)
    assert os.path.getsize(path) > 1 << 20
    graph = read_graph(path)
    assert 512 in graph.sizes
    assert (graph.edited is not None) == zipmap
    x = models.random(2, 512, seed=5)
    (answer,) = OrtBackend().load(path, LoadOptions()).runner().run([{"x": x}], [2])
    np.testing.assert_allclose(answer["y"], x @ models.random(512, 512), rtol=1e-3, atol=1e-4)


def test_what_is_parsed_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    # Parsing holds the GIL, and with it every other model's requests: no timing tells that on a busy machine, this does.
    assert len(read_skeleton(models.save(wide(), tmp_path)).data) < 2000
