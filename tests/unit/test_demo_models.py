"""The embedded models answer what their golden files say, one row at a time and together."""

import math
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fastserve import demo

MAX_MODEL_BYTES = 32_768


def session_of(model: str) -> Any:
    return onnxruntime.InferenceSession(str(demo.MODELS / model / "1" / "model.onnx"))


def feed_of(session: Any, instances: list[Any]) -> dict[str, Any]:
    """Instances as TF Serving's rows: bare values where there is one input, else objects by name."""
    kinds = {"tensor(float)": np.float32, "tensor(string)": object}
    inputs = session.get_inputs()
    columns = {each.name: [row[each.name] if len(inputs) > 1 else row for row in instances] for each in inputs}
    return {each.name: np.array(columns[each.name], dtype=kinds[each.type]) for each in inputs}


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return len(got) == len(expected) and all(same(a, b) for a, b in zip(got, expected, strict=True))
    if isinstance(expected, float):
        return math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-6)
    return bool(got == expected)


@pytest.mark.parametrize("model", demo.names())
@pytest.mark.parametrize("together", [True, False])
def test_model_answers_its_golden_rows(model: str, together: bool) -> None:
    session, golden = session_of(model), demo.golden(model)
    rows = zip(golden.instances, golden.predictions, strict=True)
    parts = [(golden.instances, golden.predictions)] if together else [([i], [p]) for i, p in rows]
    for instances, predictions in parts:
        outputs = [output.tolist() for output in session.run(None, feed_of(session, instances))]
        names = [output.name for output in session.get_outputs()]
        for number, expected in enumerate(predictions):
            named = expected if len(names) > 1 else {names[0]: expected}
            for name, column in zip(names, outputs, strict=True):
                assert same(column[number], named[name]), f"row {number}, output {name}"


@pytest.mark.parametrize("model", demo.names())
def test_model_takes_any_number_of_rows_and_is_small(model: str) -> None:
    session = session_of(model)
    assert all(value.shape[0] == "rows" for value in (*session.get_inputs(), *session.get_outputs()))
    assert (demo.MODELS / model / "1" / "model.onnx").stat().st_size < MAX_MODEL_BYTES


def test_there_are_the_kinds_that_are_promised() -> None:
    assert {"iris", "digits"} <= set(demo.names())
    kinds = {each.type for model in demo.names() for each in session_of(model).get_inputs()}
    assert kinds == {"tensor(float)", "tensor(string)"}
    assert any(len(session_of(model).get_inputs()) > 1 for model in demo.names())
