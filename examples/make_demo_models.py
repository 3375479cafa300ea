"""Trains the embedded demo models on data that scikit-learn ships, and writes them with their golden answers.

    pip install 'fastserve[dev]' && python examples/make_demo_models.py [FOLDER]

Each model becomes `FOLDER/<name>/1/model.onnx` (default: fastserve/demo/models) with `golden.json` beside it: instances
as a client sends them, and what the model answers. Every random choice is seeded; every graph is checked against the
scikit-learn model it came from before it is written.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import (
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

SEED = 0
OPSET = 17
IR_VERSION = 8
FOLDER = Path(__file__).resolve().parent.parent / "fastserve" / "demo" / "models"
DIABETES_INPUTS = {"age": 0, "bmi": 2, "blood_pressure": 3, "triglycerides_log": 8, "glucose": 9}
WINE_INPUTS = {"alcohol": "alcohol", "colour": "color_intensity", "hue": "hue", "flavanoids": "flavanoids"}
LEVELS = ["low", "medium", "high"]

Built = tuple[onnx.ModelProto, dict[str, np.ndarray]]
"""A model, and the inputs of its golden rows."""


def iris() -> Built:
    """Four measurements of a flower -> its species and the probability of each."""
    data = load_iris()
    features = data.data.astype(np.float32)
    species = data.target_names[data.target]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, species)
    model = to_onnx(
        fitted,
        initial_types=[("features", FloatTensorType([None, 4]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    rename_outputs(model, {"output_label": "label", "output_probability": "probabilities"})
    inputs = {"features": features[[0, 75, 149]]}
    answers = run(model, inputs)
    np.testing.assert_allclose(answers["probabilities"], fitted.predict_proba(inputs["features"]), rtol=1e-4, atol=1e-6)
    return model, inputs


def digits() -> Built:
    """An 8x8 image of a handwritten digit, 0 (white) to 16 (black) -> the digit and the probability of each."""
    data = load_digits()
    pixels = (data.data / 16).astype(np.float32)
    fitted = MLPClassifier((32,), solver="lbfgs", alpha=1.0, max_iter=3000, random_state=SEED).fit(pixels, data.target)
    (first, second), (first_bias, second_bias) = fitted.coefs_, fitted.intercepts_
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"], axis=1),
        helper.make_node("Gemm", ["pixels", "hidden_weights", "hidden_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "digit_weights", "digit_bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["digit"], axis=1, keepdims=0),
    ]
    weights = {
        "hidden_weights": first / 16,  # the client sends the images as they are, 0 to 16
        "hidden_bias": first_bias,
        "digit_weights": second,
        "digit_bias": second_bias,
    }
    model = build(
        "digits",
        nodes,
        inputs=[helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 8, 8])],
        outputs=[
            helper.make_tensor_value_info("digit", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10]),
        ],
        initializers=[tensor(name, value) for name, value in weights.items()],
    )
    inputs = {"image": data.images[[0, 1, 1796]].astype(np.float32)}
    answers = run(model, inputs)
    expected = fitted.predict_proba(inputs["image"].reshape(-1, 64) / 16)
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)
    return model, inputs


def diabetes() -> Built:
    """Five measurements of a patient, each an input of its own -> disease progression one year later."""
    data = load_diabetes(scaled=False)
    columns = data.data[:, list(DIABETES_INPUTS.values())].astype(np.float32)
    fitted = GradientBoostingRegressor(n_estimators=60, max_depth=2, learning_rate=0.1, random_state=SEED)
    fitted.fit(columns, data.target)
    trees = to_onnx(
        fitted,
        initial_types=[("columns", FloatTensorType([None, columns.shape[1]]))],
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    as_columns = [helper.make_node("Unsqueeze", [name, "one"], [f"{name}_column"]) for name in DIABETES_INPUTS]
    nodes = [
        *as_columns,
        helper.make_node("Concat", [f"{name}_column" for name in DIABETES_INPUTS], ["columns"], axis=1),
        *trees.graph.node,
        helper.make_node("Squeeze", [trees.graph.output[0].name, "one"], ["progression"]),
    ]
    model = build(
        "diabetes",
        nodes,
        inputs=[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in DIABETES_INPUTS],
        outputs=[helper.make_tensor_value_info("progression", TensorProto.FLOAT, ["rows"])],
        initializers=[numpy_helper.from_array(np.array([1], np.int64), "one"), *trees.graph.initializer],
    )
    rows = [0, 1, 441]
    inputs = {name: columns[rows, i] for i, name in enumerate(DIABETES_INPUTS)}
    np.testing.assert_allclose(run(model, inputs)["progression"], fitted.predict(columns[rows]), rtol=1e-4)
    return model, inputs


def wine() -> Built:
    """What a taster says, low, medium or high of each trait -> the grower (of three) and the probability of each."""
    data = load_wine()
    columns = data.data[:, [data.feature_names.index(name) for name in WINE_INPUTS.values()]]
    third, two_thirds = np.quantile(columns, [1 / 3, 2 / 3], axis=0)
    said = np.array(LEVELS, dtype=object)[(columns > third).astype(int) + (columns > two_thirds)]
    encoder = OneHotEncoder(categories=[LEVELS] * len(WINE_INPUTS))
    fitted = LogisticRegression(max_iter=1000).fit(encoder.fit_transform(said), data.target)
    nodes = [
        *(
            helper.make_node("OneHotEncoder", [name], [f"{name}_is"], domain="ai.onnx.ml", cats_strings=LEVELS, zeros=1)
            for name in WINE_INPUTS
        ),
        helper.make_node("Concat", [f"{name}_is" for name in WINE_INPUTS], ["traits"], axis=1),
        helper.make_node("Gemm", ["traits", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "best"], ["grower"]),
    ]
    model = build(
        "wine",
        nodes,
        inputs=[helper.make_tensor_value_info(name, TensorProto.STRING, ["rows"]) for name in WINE_INPUTS],
        outputs=[
            helper.make_tensor_value_info("grower", TensorProto.STRING, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 3]),
        ],
        initializers=[
            tensor("weights", fitted.coef_.T),
            tensor("bias", fitted.intercept_),
            helper.make_tensor("names", TensorProto.STRING, [3], [f"grower {letter}" for letter in "ABC"]),
        ],
    )
    rows = [0, 70, 177]
    inputs = {name: said[rows, i] for i, name in enumerate(WINE_INPUTS)}
    answers = run(model, inputs)
    expected = fitted.predict_proba(encoder.transform(said[rows]))
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)
    return model, inputs


def tensor(name: str, value: np.ndarray) -> TensorProto:
    """A float32 initializer."""
    return numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)


def build(
    name: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: list[Any]
) -> onnx.ModelProto:
    """A model of one graph, in versions of the format that onnxruntime has read for years."""
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def rename_outputs(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Gives the graph's outputs other names."""
    current = [value.name for value in model.graph.output]
    wanted = dict(zip(current, names.values(), strict=True))
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            node.output[i] = wanted.get(name, name)
        for i, name in enumerate(node.input):
            node.input[i] = wanted.get(name, name)
    for value in model.graph.output:
        value.name = wanted[value.name]


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime answers."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def rows_of(tensors: dict[str, np.ndarray]) -> list[Any]:
    """As TF Serving writes rows: the bare value where there is one tensor, else an object by name."""
    columns = {name: shortest(array) for name, array in tensors.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def shortest(array: np.ndarray) -> list[Any]:
    """Nested lists whose float32 values are written as shortly as they can be read back."""
    if array.dtype != np.float32:
        return array.tolist()
    return np.vectorize(lambda value: float(str(np.float32(value))), otypes=[object])(array).tolist()


def write(name: str, describe: Callable[[], Built], folder: Path) -> None:
    """Builds one model and writes it with its golden answers."""
    model, inputs = describe()
    model.producer_name, model.producer_version = "fastserve examples/make_demo_models.py", ""
    model.graph.name, model.ir_version = name, IR_VERSION
    model.doc_string = model.graph.doc_string = describe.__doc__ or ""
    onnx.checker.check_model(model, full_check=True)
    target = folder / name / "1"
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    golden = {"instances": rows_of(inputs), "predictions": rows_of(run(model, inputs))}
    (target / "golden.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(f"{target / 'model.onnx'}: {(target / 'model.onnx').stat().st_size} bytes")


def main() -> None:
    """Writes every demo model."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for describe in (iris, digits, diabetes, wine):
        write(describe.__name__, describe, folder)


if __name__ == "__main__":
    main()
