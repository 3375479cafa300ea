"""ONNX models through onnxruntime itself: what is found at load, and that a batched answer is the answer alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T

from fastserve.backends.runners import PlainRunner
from fastserve.errors import RunFailed, RunRefused
from fastserve.types import Tensor
from tests.support import models
from tests.support.zoo import ALONE, BATCHED, BUILDERS, assert_same, load, loaded, rows_of, runner


@pytest.mark.parametrize("name", BATCHED)
def test_a_model_whose_rows_are_independent_is_batched(name: str) -> None:
    assert loaded(name).batching.batchable, loaded(name).batching.reason
    assert type(loaded(name).runner()) is BATCHED[name][1]
    assert all(spec.shape is None or spec.shape[0] == -1 for spec in loaded(name).signature.outputs)


@pytest.mark.parametrize("name", ALONE)
def test_any_other_model_is_served_alone_and_says_why(name: str) -> None:
    batching = loaded(name).batching
    assert (batching.batchable, batching.reason) == (False, ALONE[name][1])
    assert type(loaded(name).runner()) is ALONE[name][2]


@pytest.mark.parametrize("name", BUILDERS)
def test_the_example_runs_and_the_answer_is_as_the_signature_says(name: str) -> None:
    model = loaded(name)
    example = model.example(2)
    assert example is not None
    for spec in model.signature.inputs:
        assert example[spec.name].dtype == spec.dtype.numpy
        assert example[spec.name].flags.c_contiguous
    (answer,) = runner(name).run([example], [2])
    assert list(answer) == [spec.name for spec in model.signature.outputs]
    for spec in model.signature.outputs:
        assert answer[spec.name].dtype == spec.dtype.numpy
        if spec.shape is not None:
            wanted = tuple(
                size if dim == -1 else dim for dim, size in zip(spec.shape, answer[spec.name].shape, strict=True)
            )
            assert answer[spec.name].shape == wanted


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(set(BATCHED) - {"encoder"})),
    st.lists(st.integers(1, 9), min_size=1, max_size=7),
    st.integers(0, 99),
)
def test_any_mix_of_row_counts_answers_as_each_request_alone(name: str, rows: list[int], seed: int) -> None:
    requests = [rows_of(name, count, seed + at) for at, count in enumerate(rows)]
    alone = [loaded(name).runner().run([request], [count])[0] for request, count in zip(requests, rows, strict=True)]
    together = runner(name).run(requests, rows)
    for got, expected in zip(together, alone, strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize("name", sorted(set(BATCHED) - {"pairs"}))
def test_an_empty_batch_has_an_empty_answer(name: str) -> None:
    (answer,) = runner(name).run([rows_of(name, 0, 0)], [0])
    assert all(len(array) == 0 for array in answer.values())


def test_an_empty_batch_that_the_graph_does_not_take_is_refused() -> None:
    with pytest.raises(RunRefused, match="the model takes no empty batch"):
        runner("pairs").run([rows_of("pairs", 0, 0)], [0])


def test_requests_without_rows_ride_along() -> None:
    requests = [rows_of("tiny", count, count) for count in (0, 2, 0, 1)]
    answers = runner("tiny").run(requests, [0, 2, 0, 1])
    assert [len(answer["y"]) for answer in answers] == [0, 2, 0, 1]


@pytest.mark.parametrize("name", ["tiny", "fixed_first_axis", "anonymous_rows", "identity_BFLOAT16"])
def test_an_answer_is_never_touched_again(name: str) -> None:
    example = loaded(name).example(1)
    assert example is not None
    (first,) = runner(name).run([example], [1])
    kept = {key: array.copy() for key, array in first.items()}
    other = {key: array[::-1].copy() + array.dtype.type(1) for key, array in example.items()}
    (second,) = runner(name).run([other], [1])
    assert_same(first, kept)
    for key, array in first.items():
        array[...] = 0
        assert not np.shares_memory(array, second[key])
    assert_same(runner(name).run([example], [1])[0], kept)


def test_rows_beyond_the_first_buffer_and_back() -> None:
    requests = [rows_of("mlp", count, count) for count in (1, 3, 64, 2, 33)]
    fresh = [loaded("mlp").runner().run([request], [len(request["image"])])[0] for request in requests]
    for request, expected in zip(requests, fresh, strict=True):
        assert_same(runner("mlp").run([request], [len(request["image"])])[0], expected)


def test_more_row_shapes_than_are_kept_bound() -> None:
    for width in [*range(300), *range(300)]:
        x = np.arange(2 * width, dtype=np.float32).reshape(2, width)
        (answer,) = runner("free_rows").run([{"x": x}], [2])
        np.testing.assert_array_equal(answer["y"], x + x)
        np.testing.assert_allclose(answer["length"], x.sum(axis=1, keepdims=True), rtol=1e-6)


def test_bfloat16_passes_as_its_bits() -> None:
    bits = np.array([[0x3F80, 0xFFFF], [0x0001, 0x7F80]], dtype=np.uint16)
    for run in (runner("identity_BFLOAT16"), PlainRunner(loaded("identity_BFLOAT16")._session, True)):  # type: ignore[attr-defined]
        (answer,) = run.run([{"x": bits}], [2])
        np.testing.assert_array_equal(answer["y"], bits)


def test_strings_pass_whole() -> None:
    texts = np.array(["", "a\0b", "\N{GRINNING FACE}", "x" * 10_000], dtype=object)
    (answer,) = runner("strings").run([{"text": texts}], [4])
    assert answer["column"].ravel().tolist() == texts.tolist()


def test_recurrent_state_goes_in_and_comes_out() -> None:
    batch = 2
    inputs = {
        "x": np.ones((batch, 4, 3), dtype=np.float32),
        "h0": np.zeros((1, batch, 5), dtype=np.float32),
        "lengths": np.full(batch, 4, dtype=np.int32),
    }
    (answer,) = runner("recurrent").run([inputs], [batch])
    assert answer["last"].shape == (1, batch, 5)
    np.testing.assert_allclose(answer["last"][0, 0], answer["last"][0, 1])


# --- failures


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        (
            "lookup",
            {"index": np.array([3, 99])},
            "Gather: indices element out of data bounds, idx=99 must be within the inclusive range [-8,7]",
        ),
        (
            "pairs",
            {"x": np.ones((2, 3), dtype=np.float32)},
            "Reshape: The input tensor cannot be reshaped to the requested shape. "
            "Input shape:{2,3}, requested shape:{2,2,-1}",
        ),
        ("free_width", {"x": np.ones((2, 5), dtype=np.float32)}, "MatMul: MatMul dimension mismatch"),
        (
            "tiny",
            {"x": np.ones((2, 5), dtype=np.float32)},
            "Got invalid dimensions for input: x for the following indices index: 1 Got: 5 Expected: 4",
        ),
        ("tiny", {"x": np.ones(2, dtype=np.float32)}, "Invalid rank for input: x Got: 1 Expected: 2"),
        (
            "fixed_first_axis",
            {"x": np.ones((2, 3), dtype=np.float32)},
            "Got invalid dimensions for input: x for the following indices index: 0 Got: 2 Expected: 1",
        ),
        ("strings", {"text": np.array(["fine", "\ud800"], dtype=object)}, "a string is not valid Unicode"),
    ],
)
def test_input_that_the_graph_does_not_take_is_refused_in_plain_words(
    name: str, inputs: dict[str, Tensor], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunRefused) as refused:
        runner(name).run([inputs], [2])
    assert str(refused.value) == f"the model refused this input: {message}"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["lookup", "free_width", "tiny", "fixed_first_axis", "strings"])
def test_a_runner_works_on_after_a_failure(name: str) -> None:
    bad: dict[str, dict[str, Tensor]] = {
        "lookup": {"index": np.array([99, 1, 2])},
        "free_width": {"x": np.ones((3, 5), dtype=np.float32)},
        "tiny": {"x": np.ones((3, 5), dtype=np.float32)},
        "fixed_first_axis": {"x": np.ones((3, 5), dtype=np.float32)},
        "strings": {"text": np.array(["\udfff"] * 3, dtype=object)},
    }
    good = loaded(name).example(3)
    assert good is not None
    (before,) = runner(name).run([good], [3])
    with pytest.raises(RunRefused):
        runner(name).run([bad[name]], [3])
    assert_same(runner(name).run([good], [3])[0], before)


def test_a_request_with_fewer_rows_than_it_says_never_sees_rows_of_another() -> None:
    runner("tiny").run([rows_of("tiny", 5, 0)], [5])
    with pytest.raises((RunFailed, RunRefused), match="rows"):
        runner("tiny").run([rows_of("tiny", 4, 0)], [5])


def test_a_division_by_zero_is_refused(tmp_path: Path) -> None:
    divide = models.build(
        [models.node("Div", "a b", "c")],
        [models.tensor(name, ["N"], T.INT64) for name in "ab"],
        [models.tensor("c", ["N"], T.INT64)],
    )
    model = load(divide, tmp_path)
    assert model.batching.batchable
    with pytest.raises(RunRefused, match="Div: Integer division by zero"):
        model.runner().run([{"a": np.array([1]), "b": np.array([0])}], [1])


def test_an_output_declared_with_the_wrong_symbol_is_answered_all_the_same(tmp_path: Path) -> None:
    lying = models.build(
        [models.node("Slice", "x start end axis", "y")],
        [models.tensor("x", ["N", "T"])],
        [models.tensor("y", ["N", "T"])],
        [models.weight(name, np.array([at])) for name, at in (("start", 0), ("end", 9), ("axis", 1))],
    )
    model = load(lying, tmp_path)
    x = np.arange(24, dtype=np.float32).reshape(2, 12)
    (answer,) = model.runner().run([{"x": x}], [2])
    np.testing.assert_array_equal(answer["y"], x[:, :9])
