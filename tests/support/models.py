"""Small ONNX models for everyone's tests: those that serve well, and those that trip servers up.

Each function builds one ModelProto; `save` writes it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper

from tests.support.graphs import Dims, build, node, random, save, tensor, weight

__all__ = ["Dims", "build", "node", "random", "save", "tensor", "weight"]

# --- models that can be batched


def tiny() -> onnx.ModelProto:
    """`x` [N, 4] -> `y` [N, 3]: softmax(x w + b)."""
    return build(
        [node("Gemm", "x w b", "z"), node("Softmax", "z", "y", axis=1)],
        [tensor("x", ["N", 4])],
        [tensor("y", ["N", 3])],
        [weight("w", random(4, 3)), weight("b", random(3, seed=1))],
    )


def mlp() -> onnx.ModelProto:
    """`image` [N, 784] -> `scores` [N, 10], one hidden layer of 128."""
    return build(
        [
            node("Gemm", "image w1 b1", "h"),
            node("Relu", "h", "r"),
            node("Gemm", "r w2 b2", "z"),
            node("Softmax", "z", "scores", axis=1),
        ],
        [tensor("image", ["N", 784])],
        [tensor("scores", ["N", 10])],
        [
            weight("w1", random(784, 128) * 0.05),
            weight("b1", random(128, seed=1)),
            weight("w2", random(128, 10, seed=2) * 0.1),
            weight("b2", random(10, seed=3)),
        ],
    )


def two_inputs() -> onnx.ModelProto:
    """`a` [N, 3] and `b` [N, 3] -> `sum` [N, 3] and `product` [N, 3]."""
    return build(
        [node("Add", "a b", "sum"), node("Mul", "a b", "product")],
        [tensor("a", ["N", 3]), tensor("b", ["N", 3])],
        [tensor("sum", ["N", 3]), tensor("product", ["N", 3])],
    )


def mixed_types() -> onnx.ModelProto:
    """`id` int64 [N], `weight` float [N, 2] -> `double` int64 [N], `total` float [N]."""
    return build(
        [
            node("Add", "id id", "double"),
            node("ReduceSum", "weight axes", "total", keepdims=0),
        ],
        [tensor("id", ["N"], T.INT64), tensor("weight", ["N", 2])],
        [tensor("double", ["N"], T.INT64), tensor("total", ["N"])],
        [weight("axes", np.array([1], dtype=np.int64))],
    )


def identity(dtype: int, dims: Dims = ("N", 2)) -> onnx.ModelProto:
    """`x` -> `y`, the same, in any element type."""
    return build([node("Identity", "x", "y")], [tensor("x", dims, dtype)], [tensor("y", dims, dtype)])


def strings() -> onnx.ModelProto:
    """`text` string [N] -> `column` string [N, 1]."""
    return build(
        [node("Reshape", "text shape", "column")],
        [tensor("text", ["N"], T.STRING)],
        [tensor("column", ["N", 1], T.STRING)],
        [weight("shape", np.array([-1, 1], dtype=np.int64))],
    )


def label_encoder() -> onnx.ModelProto:
    """`animal` string [N] -> `number` int64 [N]: cat 0, dog 1, anything else -1."""
    encode = node("LabelEncoder", "animal", "number", keys_strings=["cat", "dog"], values_int64s=[0, 1])
    encode.domain = "ai.onnx.ml"
    return build([encode], [tensor("animal", ["N"], T.STRING)], [tensor("number", ["N"], T.INT64)])


def free_rows() -> onnx.ModelProto:
    """`x` [N, T] -> `y` [N, T] twice x, `length` [N, 1] the row's sum: row shapes are free."""
    return build(
        [node("Add", "x x", "y"), node("ReduceSum", "x axes", "length", keepdims=1)],
        [tensor("x", ["N", "T"])],
        [tensor("y", ["N", "T"]), tensor("length", ["N", 1])],
        [weight("axes", np.array([1], dtype=np.int64))],
    )


def anonymous_rows() -> onnx.ModelProto:
    """`x` [?, ?] -> `y` [?, ?], the columns doubled: no symbol says how wide the output is."""
    return build([node("Concat", "x x", "y", axis=1)], [tensor("x", [None, None])], [tensor("y", [None, None])])


def free_width() -> onnx.ModelProto:
    """`x` [N, ?] -> `y` [N, 3] through weights [6, 3]: only 6 columns run, and the signature does not say so."""
    return build(
        [node("MatMul", "x w", "y")], [tensor("x", ["N", None])], [tensor("y", ["N", 3])], [weight("w", random(6, 3))]
    )


def wrongly_declared() -> onnx.ModelProto:
    """`x` [N, 4] -> `y`, declared [1, 3] as careless exporters do, and [N, 3] in truth."""
    model = tiny()
    model.graph.output[0].CopyFrom(tensor("y", [1, 3]))
    return model


def no_width() -> onnx.ModelProto:
    """`x` [N, 0] -> `y` [N, 0]: rows without elements."""
    return identity(T.FLOAT, ("N", 0))


def lookup() -> onnx.ModelProto:
    """`index` int64 [N] -> `row` [N, 2] of a table of 8: the model refuses other indices."""
    return build(
        [node("Gather", "table index", "row", axis=0)],
        [tensor("index", ["N"], T.INT64)],
        [tensor("row", ["N", 2])],
        [weight("table", np.arange(16, dtype=np.float32).reshape(8, 2))],
    )


def pairs() -> onnx.ModelProto:
    """`x` [N, T] -> `y` [N, 2, ?]: a Reshape that fails at run time where T is odd."""
    return build(
        [node("Reshape", "x shape", "y")],
        [tensor("x", ["N", "T"])],
        [tensor("y", ["N", 2, None])],
        [weight("shape", np.array([0, 2, -1], dtype=np.int64))],
    )


def ranks() -> onnx.ModelProto:
    """`x` [N, 2] -> `y` of a rank that is not declared."""
    return build([node("Identity", "x", "y")], [tensor("x", ["N", 2])], [tensor("y", None)])


def zipmap(int_labels: bool = False) -> onnx.ModelProto:
    """What skl2onnx makes of a classifier: `x` [N, 4] -> `label` and `probabilities`, a sequence of maps."""
    labels = {"classlabels_int64s": [0, 1, 2]} if int_labels else {"classlabels_strings": ["red", "green", "blue"]}
    key = T.INT64 if int_labels else T.STRING
    mapping = node("ZipMap", "p", "probabilities", **labels)
    mapping.domain = "ai.onnx.ml"
    maps = helper.make_map_type_proto(key, helper.make_tensor_type_proto(T.FLOAT, None))
    return build(
        [
            node("Gemm", "x w b", "z"),
            node("Softmax", "z", "p", axis=1),
            node("ArgMax", "p", "label", axis=1, keepdims=0),
            mapping,
        ],
        [tensor("x", ["N", 4])],
        [
            tensor("label", ["N"], T.INT64),
            helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps)),
        ],
        [weight("w", random(4, 3)), weight("b", random(3, seed=1))],
    )


def classical(op: str, dims: Dims = ("N", None), passing: Sequence[str] = (), **attributes: Any) -> onnx.ModelProto:
    """`x` -> operators of ai.onnx.ml that leave its width alone -> `op` -> `y` [N, ?]."""
    steps = ["x", *[f"x{at}" for at in range(len(passing))]]
    nodes = [node(kind, before, after) for kind, before, after in zip(passing, steps, steps[1:], strict=False)]
    outputs = "label y" if op.endswith("Classifier") else "y"
    nodes.append(node(op, steps[-1], outputs, **attributes))
    for each in nodes:
        each.domain = "" if each.op_type in ("Cast", "Identity") else "ai.onnx.ml"
    return build(nodes, [tensor("x", dims)], [tensor("y", ["N", None])])


def case_folder(**attributes: Any) -> onnx.ModelProto:
    """`text` string [N] -> `upper` string [N]."""
    fold = node("StringNormalizer", "text", "upper", case_change_action="UPPER", **attributes)
    return build([fold], [tensor("text", ["N"], T.STRING)], [tensor("upper", ["N"], T.STRING)])


# --- models that must not be batched, though they look like it or not


def scalar_parameter() -> onnx.ModelProto:
    """`x` [N, 3], `k` [] -> `y` [N, 3]: x times k."""
    return build([node("Mul", "x k", "y")], [tensor("x", ["N", 3]), tensor("k", [])], [tensor("y", ["N", 3])])


def recurrent(symbols: bool = True) -> onnx.ModelProto:
    """`x` [N, T, 3], `h0` [1, N, 5], `lengths` [N] -> `last` [1, N, 5]: a GRU whose state has its batch on axis 1."""
    batch, steps = ("N", "T") if symbols else (None, None)
    return build(
        [
            node("Transpose", "x", "steps", perm=[1, 0, 2]),
            node("GRU", "steps w r b lengths h0", "all last", hidden_size=5),
        ],
        [tensor("x", [batch, steps, 3]), tensor("h0", [1, batch, 5]), tensor("lengths", [batch], T.INT32)],
        [tensor("last", [1, batch, 5])],
        [weight("w", random(1, 15, 3)), weight("r", random(1, 15, 5, seed=1)), weight("b", random(1, 30, seed=2))],
    )


def fixed_first_axis(rows: int = 1) -> onnx.ModelProto:
    """`x` [rows, 3] -> `y` [rows, 3]."""
    return build([node("Neg", "x", "y")], [tensor("x", [rows, 3])], [tensor("y", [rows, 3])])


def batch_mean() -> onnx.ModelProto:
    """`x` [N, 3] -> `mean` [1, 3] over all rows: the output does not follow the batch."""
    return build([node("ReduceMean", "x", "mean", axes=[0])], [tensor("x", ["N", 3])], [tensor("mean", [1, 3])])


def softmax_over_rows() -> onnx.ModelProto:
    """`x` [N, 3] -> `y` [N, 3]: every row depends on the others."""
    return build([node("Softmax", "x", "y", axis=0)], [tensor("x", ["N", 3])], [tensor("y", ["N", 3])])


def running_sum() -> onnx.ModelProto:
    """`x` [N, 3] -> `y` [N, 3]: a row depends on those before it."""
    return build(
        [node("CumSum", "x axis", "y")],
        [tensor("x", ["N", 3])],
        [tensor("y", ["N", 3])],
        [weight("axis", np.array(0, dtype=np.int64))],
    )


def batch_scaled() -> onnx.ModelProto:
    """`x` [N, 4] -> `y` [N, 4] through 8 bits scaled by the whole batch, as dynamic quantization does."""
    return build(
        [node("DynamicQuantizeLinear", "x", "q scale zero"), node("DequantizeLinear", "q scale zero", "y")],
        [tensor("x", ["N", 4])],
        [tensor("y", ["N", 4])],
    )


def differing_outputs() -> onnx.ModelProto:
    """`x` [N, 2] -> `y` [N, 2] and `total` [1]: only one output follows the batch."""
    return build(
        [node("Identity", "x", "y"), node("ReduceSum", "x", "sum", keepdims=0), node("Reshape", "sum one", "total")],
        [tensor("x", ["N", 2])],
        [tensor("y", ["N", 2]), tensor("total", [1])],
        [weight("one", np.array([1], dtype=np.int64))],
    )


def scalar_output() -> onnx.ModelProto:
    """`x` [N, 2] -> `sum` []."""
    return build([node("ReduceSum", "x", "sum", keepdims=0)], [tensor("x", ["N", 2])], [tensor("sum", [])])


def square() -> onnx.ModelProto:
    """`x` [N, N] -> `y` [N, N] transposed."""
    return build([node("Transpose", "x", "y")], [tensor("x", ["N", "N"])], [tensor("y", ["N", "N"])])


def unknown_rank() -> onnx.ModelProto:
    """`x` of a rank that is not declared -> `y`, its negative."""
    return build([node("Neg", "x", "y")], [tensor("x", None)], [tensor("y", None)])


def noise() -> onnx.ModelProto:
    """`x` [N, 3] -> `y` [N, 3], random each time."""
    return build(
        [node("RandomNormalLike", "x", "n"), node("Add", "x n", "y")], [tensor("x", ["N", 3])], [tensor("y", ["N", 3])]
    )


# --- models to measure with


def encoder(
    layers: int = 2, width: int = 192, heads: int = 4, tokens: int = 32, vocabulary: int = 1000
) -> onnx.ModelProto:
    """`tokens` int64 [N, 32] -> `embedding` [N, 192]: a transformer encoder of about 1 ms a row on one core."""
    weights = [weight("table", random(vocabulary, width) * 0.1), weight("places", random(tokens, width, seed=1) * 0.1)]
    nodes = [node("Gather", "table tokens", "embedded"), node("Add", "embedded places", "x0")]
    for layer in range(layers):
        more_nodes, more_weights = _encoder_layer(layer, width, heads, tokens)
        nodes += more_nodes
        weights += more_weights
    nodes.append(node("ReduceMean", f"x{layers}", "embedding", axes=[1], keepdims=0))
    return build(nodes, [tensor("tokens", ["N", tokens], T.INT64)], [tensor("embedding", ["N", width])], weights)


def _encoder_layer(
    layer: int, width: int, heads: int, tokens: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    def at(names: str) -> str:
        return " ".join(name if name[0] == "x" and name[1:].isdigit() else f"l{layer}_{name}" for name in names.split())

    def op(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
        return node(kind, at(inputs), at(outputs), **attributes)

    head = width // heads
    seed = 100 * layer
    matrices = {
        "wq": (width, width), "wk": (width, width), "wv": (width, width), "wo": (width, width),
        "w1": (width, 4 * width), "w2": (4 * width, width),
    }  # fmt: skip
    weights = [
        weight(at(name), random(*shape, seed=seed + at_) / np.sqrt(shape[0]).astype(np.float32))
        for at_, (name, shape) in enumerate(matrices.items())
    ]
    weights += [
        weight(at("ones"), np.ones(width, dtype=np.float32)),
        weight(at("zeros"), np.zeros(width, dtype=np.float32)),
        weight(at("root"), np.array(np.sqrt(head), dtype=np.float32)),
        weight(at("split"), np.array([0, tokens, heads, head], dtype=np.int64)),
        weight(at("join"), np.array([0, tokens, width], dtype=np.int64)),
    ]
    nodes: list[onnx.NodeProto] = []
    for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            op("MatMul", f"x{layer} w{part}", f"{part}m"),
            op("Reshape", f"{part}m split", f"{part}s"),
            op("Transpose", f"{part}s", part, perm=order),
        ]
    nodes += [
        op("MatMul", "q k", "raw"),
        op("Div", "raw root", "scores"),
        op("Softmax", "scores", "shares", axis=-1),
        op("MatMul", "shares v", "mixed"),
        op("Transpose", "mixed", "turned", perm=[0, 2, 1, 3]),
        op("Reshape", "turned join", "joined"),
        op("MatMul", "joined wo", "out"),
        op("Add", f"x{layer} out", "added"),
        op("LayerNormalization", "added ones zeros", "normed", axis=-1),
        op("MatMul", "normed w1", "wide"),
        op("Relu", "wide", "active"),
        op("MatMul", "active w2", "narrow"),
        op("Add", "normed narrow", "residual"),
        op("LayerNormalization", "residual ones zeros", f"x{layer + 1}", axis=-1),
    ]
    return nodes, weights


def cnn(width: int = 16) -> onnx.ModelProto:
    """`image` [N, 224, 224, 3] -> `scores` [N, 10]: three strided convolutions, the first of `width` channels."""
    sizes = [(3, width), (width, 2 * width), (2 * width, 4 * width)]
    nodes = [node("Transpose", "image", "c0", perm=[0, 3, 1, 2])]
    for at in range(len(sizes)):
        nodes += [
            node("Conv", f"c{at} k{at}", f"v{at}", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Relu", f"v{at}", f"c{at + 1}"),
        ]
    nodes += [
        node("GlobalAveragePool", "c3", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Gemm", "flat w", "z"),
        node("Softmax", "z", "scores", axis=1),
    ]
    weights = [weight(f"k{at}", random(out, into, 3, 3, seed=at) * 0.1) for at, (into, out) in enumerate(sizes)]
    return build(
        nodes,
        [tensor("image", ["N", 224, 224, 3])],
        [tensor("scores", ["N", 10])],
        [*weights, weight("w", random(4 * width, 10, seed=9))],
    )


# --- external data


def external(location: str, length_bytes: int | None = 48, offset_bytes: int = 0) -> onnx.ModelProto:
    """`tiny` whose weights `w` (48 bytes, see `external_bytes`) lie in the file `location` beside it."""
    model = tiny()
    w = model.graph.initializer[0]
    w.ClearField("raw_data")
    point_at(w, location, length_bytes, offset_bytes)
    return model


def point_at(w: onnx.TensorProto, location: str, length_bytes: int | None, offset_bytes: int = 0) -> None:
    w.data_location = T.EXTERNAL
    entries = {"location": location, "offset": str(offset_bytes)}
    if length_bytes is not None:
        entries["length"] = str(length_bytes)
    for key, value in entries.items():
        w.external_data.add(key=key, value=value)


def external_bytes() -> bytes:
    return random(4, 3).tobytes()
