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

[log]
directory = "log"

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

[[models]]
name = "named"
features = ["a", "b c", "d"]

[[models]]
name = "typed"
features = ["a", "b"]
content_type = "pd"

[[models]]
name = "channels_first"
image = { mean = [10, 20, 30], scale = 0.5 }

[[models]]
name = "flat_image"
image = { size = [2, 2] }

[[models]]
name = "choice_configured"
classes = ["low", "middle", "high"]
"""


def _predicted(name: str, dataset: str, more: str = "") -> str:
    return f'[[models]]\nname = "{name}"\ndataset = "{dataset}"\n{more}\n'


PREDICTED = (
    '[[datasets]]\nname = "points"\nfrom = "data/points.csv"\n'
    '[[datasets]]\nname = "sums"\nsql = "select a + b as total, a from points"\n'
    '[[datasets]]\nname = "nothing"\nsql = "select * from points where a > 100"\n'
    '[[datasets]]\nname = "typed"\nfrom = "file:data/typed.jsonl"\n'
    '[[datasets]]\nname = "gone"\nfrom = "data/gone.parquet"\n'
    + _predicted("spice_rows", "points", 'aliases = ["spice_alias"]')
    + _predicted("spice_picked", "points", 'features = ["b", "a"]\nversion_name = "v1"')
    + _predicted("spice_sums", "sums")
    + _predicted("spice_none", "nothing")
    + _predicted("spice_window", "points", 'params = { layout = "spice" }')
    + _predicted("spice_latest", "points")
    + _predicted("spice_y", "points", 'output = "y"')
    + _predicted("spice_double", "points", 'params = { layout = "spice" }')
    + _predicted("spice_halves", "points")
    + _predicted("spice_integers", "points")
    + _predicted("spice_narrow", "points")
    + _predicted("spice_named", "typed", 'output = "red"')
    + _predicted("spice_gone", "gone")
    + _predicted("broken", "points")
)
"""Models that are predicted from datasets, for Spice's cases."""


def write_predicted(root: Path, models: Path) -> None:
    """Those models, and the files of their datasets."""
    rows: Shape = ["N", 2]
    for name in ("spice_rows", "spice_picked", "spice_sums", "spice_none", "spice_gone"):
        _write(models, name, 1, _identity(TensorProto.FLOAT, rows))
    for name in ("spice_window", "spice_latest"):
        _write(models, name, 1, _identity(TensorProto.FLOAT, [1, 2, 2]))
    _write(models, "spice_y", 1, _identity(TensorProto.FLOAT, rows, output="z"))
    _write(models, "spice_double", 1, _identity(TensorProto.DOUBLE, [1, 2, 2]))
    _write(models, "spice_halves", 1, _identity(TensorProto.FLOAT16, rows))
    _write(models, "spice_integers", 1, _identity(TensorProto.INT64, rows))
    _write(models, "spice_narrow", 1, _identity(TensorProto.FLOAT, ["N", 3]))
    _write(models, "spice_named", 1, _named_columns())
    data = root / "data"
    data.mkdir()
    (data / "points.csv").write_text("ts,a,b\n2024-01-03,3,0.1\n2024-01-01,1,0.45\n2024-01-02,,0.3\n")
    (data / "typed.jsonl").write_text('{"colour": "red", "count": 1}\n{"colour": "blue", "count": 2}\n')


def _named_columns() -> Parts:
    """A text and a whole number, each of its own column; one output tells which colours were red, the other counts."""
    nodes = [
        helper.make_node(
            "LabelEncoder", ["colour"], ["red"], domain="ai.onnx.ml", keys_strings=["red"], values_floats=[1.0]
        ),
        helper.make_node("Identity", ["count"], ["counted"]),
    ]
    inputs: list[Value] = [("colour", TensorProto.STRING, ["N"]), ("count", TensorProto.INT64, ["N"])]
    return nodes, inputs, [("counted", TensorProto.INT64, ["N"]), ("red", TensorProto.FLOAT, ["N"])]


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
    _write(models, "named", 1, _identity(TensorProto.FLOAT, ["N", 3]))
    _write(models, "told", 1, _identity(TensorProto.INT64, ["N", 2]), {"feature_names": '["p", "q"]'})
    _write(models, "typed", 1, _identity(TensorProto.FLOAT, ["N", 2]))
    _write(models, "columns", 1, _columns())
    _write(models, "channels_first", 1, _identity(TensorProto.FLOAT, ["N", 3, 2, 2]))
    _write(models, "flat_image", 1, _identity(TensorProto.UINT8, ["N", 4]))
    _write(models, "grey", 1, _identity(TensorProto.UINT8, ["N", 1, 2, "width"]))
    _write(models, "image", 1, _identity(TensorProto.FLOAT, ["N", "height", "width", 3]))
    _write(models, "strict_inverse", 1, _inverse(TensorProto.FLOAT))
    _write(models, "strict_half", 1, _identity(TensorProto.FLOAT16, None))
    _write(models, "pair", 1, _pair())
    _write(models, "scalar", 1, _scalar())
    _write(models, "unequal", 1, _unequal())
    _write(models, "unasked", 1, _identity(TensorProto.FLOAT, ["N"]))
    _write(models, "scores", 1, _identity(TensorProto.FLOAT, ["N", 3]))
    _write(models, "eight", 1, _identity(TensorProto.INT8, ["N", 3]))
    _write(models, "wide", 1, _identity(TensorProto.FLOAT, ["N", "width"]))
    _write(models, "column", 1, _identity(TensorProto.DOUBLE, ["N", 1]))
    _write(models, "once", 1, _identity(TensorProto.FLOAT, [1, 2]))
    _write(models, "choice", 1, _choice())
    _write(models, "choice_configured", 1, _choice())
    _write(models, "choice_told", 1, _choice(), {"names": "{0: 'cat', 1: 'dog', 2: 'fish'}"})
    _write(models, "choice_named", 1, _choice(["red", "green", "blue"]))
    _write(models, "choice_columns", 1, _choice_columns())
    _write(models, "labelled", 1, _labelled())
    _write(models, "features", 1, _features())
    _write(models, "cube", 1, _cube())
    _write(models, "positive", 1, _positive(["y"]))
    _write(models, "positive_twice", 1, _positive(["y", "z"]))
    _write(models, "m!#$&'()*+,;=?@[]", 1, _identity(TensorProto.FLOAT, ["N"]))
    _write(models, "mod\u00e8le", 1, _identity(TensorProto.FLOAT, ["N"]))
    _write(models, "mod!el (1)", 1, _identity(TensorProto.FLOAT, ["N"]))
    broken = models / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"this is no ONNX file")
    config = root / "fastserve.toml"
    config.write_text(CONFIG + PREDICTED)
    write_predicted(root, models)
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


def _columns() -> Parts:
    """Two columns of one type and their sum."""
    nodes = [
        helper.make_node("Constant", [], ["last"], value_ints=[-1]),
        helper.make_node("Unsqueeze", ["first", "last"], ["column"]),
        helper.make_node("Add", ["column", "second"], ["sum"]),
    ]
    inputs: list[Value] = [("first", TensorProto.DOUBLE, ["N"]), ("second", TensorProto.DOUBLE, ["N", 1])]
    return nodes, inputs, [("sum", TensorProto.DOUBLE, ["N", 1])]


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


def _positive(outputs: list[str]) -> Parts:
    """Of the values those above zero, once or several times: as many rows as there are."""
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Greater", ["x", "zero"], ["kept"]),
        *(helper.make_node("Compress", ["x", "kept"], [name], axis=0) for name in outputs),
    ]
    return nodes, [("x", TensorProto.FLOAT, ["N"])], [(name, TensorProto.FLOAT, ["M"]) for name in outputs]


def _choice(names: list[str] | None = None) -> Parts:
    """Scores as they came, and the label of the best: of `names`, else ten times its place."""
    nodes = [helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0)]
    if names:
        nodes += [
            helper.make_node(
                "LabelEncoder", ["best"], ["label"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=names
            ),
        ]
    else:
        nodes += [
            helper.make_node("Constant", [], ["ten"], value_int=10),
            helper.make_node("Mul", ["best", "ten"], ["label"]),
        ]
    nodes.append(helper.make_node("Identity", ["x"], ["probabilities"]))
    kind = TensorProto.STRING if names else TensorProto.INT64
    return (
        nodes,
        [("x", TensorProto.FLOAT, ["N", 3])],
        [("label", kind, ["N"]), ("probabilities", TensorProto.FLOAT, ["N", 3])],
    )


def _choice_columns() -> Parts:
    """The same with an output for each score, named as scikit-learn's converter does."""
    nodes, inputs, outputs = _choice()
    columns = ["i0", "i10", "i20"]
    nodes.append(helper.make_node("Split", ["probabilities"], [f"{name}_column" for name in columns], axis=1))
    nodes.append(helper.make_node("Constant", [], ["flat"], value_ints=[-1]))
    nodes += [helper.make_node("Reshape", [f"{name}_column", "flat"], [name]) for name in columns]
    return nodes, inputs, [outputs[0], *((name, TensorProto.FLOAT, ["N"]) for name in columns)]


def _labelled() -> Parts:
    """Labels and scores, both as they came."""
    nodes = [
        helper.make_node("Identity", ["labels"], ["classes"]),
        helper.make_node("Identity", ["values"], ["scores"]),
    ]
    inputs: list[Value] = [("labels", TensorProto.STRING, ["N", 2]), ("values", TensorProto.FLOAT, ["N", 2])]
    return nodes, inputs, [("classes", TensorProto.STRING, ["N", 2]), ("scores", TensorProto.FLOAT, ["N", 2])]


def _features() -> Parts:
    """Four columns of four types, each as a score of its own: what was read can be seen."""
    nodes = [
        helper.make_node("Constant", [], ["last"], value_ints=[-1]),
        helper.make_node("Unsqueeze", ["count", "last"], ["counts"]),
        helper.make_node("Unsqueeze", ["flag", "last"], ["flags"]),
        helper.make_node("Cast", ["counts"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["flags"], ["d"], to=TensorProto.FLOAT),
        helper.make_node(
            "LabelEncoder",
            ["colour"],
            ["c"],
            domain="ai.onnx.ml",
            keys_strings=["red"],
            values_floats=[1.0],
            default_float=0.0,
        ),
        helper.make_node("Concat", ["height", "b", "c", "d"], ["scores"], axis=1),
    ]
    inputs: list[Value] = [
        ("height", TensorProto.FLOAT, ["N", 1]),
        ("count", TensorProto.INT32, ["N"]),
        ("colour", TensorProto.STRING, ["N", 1]),
        ("flag", TensorProto.BOOL, ["N"]),
    ]
    return nodes, inputs, [("scores", TensorProto.FLOAT, ["N", 4])]


def _cube() -> Parts:
    """A flat list of values makes an example's other dimensions; the scores are the same values."""
    nodes = [helper.make_node("Flatten", ["x"], ["y"], axis=1)]
    return nodes, [("x", TensorProto.FLOAT, ["N", 2, "width"])], [("y", TensorProto.FLOAT, ["N", "M"])]


def _write(models: Path, name: str, version: int, parts: Parts, metadata: dict[str, str] | None = None) -> None:
    nodes, inputs, outputs = parts
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(model, metadata or {})
    folder = models / name / str(version)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
