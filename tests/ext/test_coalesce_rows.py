"""Rows of a request where every row's shape is fixed: the quick count, the slow check and the twin are of one mind."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.coalesce import RowShapes
from fastserve.engine.validate import Validator
from fastserve.types import DType, InferRequest, Signature, Tensor, TensorSpec
from tests.reference import coalesce as reference

Inputs = tuple[tuple[str, Any, tuple[int, ...]], ...]
TWO: Inputs = (("x", np.dtype("f4"), (3,)), ("ids", np.dtype("i8"), ()))


class Kept(np.ndarray[Any, Any]):
    """An array of another class."""


def tensors(rows: int = 2) -> dict[str, Any]:
    return {"x": np.zeros((rows, 3), "f4"), "ids": np.zeros(rows, "i8")}


@pytest.mark.parametrize("rows", [0, 1, 2, 100_000])
def test_rows_are_counted(rows: int) -> None:
    assert RowShapes(TWO).rows(tensors(rows)) == rows
    assert RowShapes(TWO[:1]).rows({"x": tensors(rows)["x"]}) == rows
    assert RowShapes(TWO[::-1]).rows(tensors(rows)) == rows


def test_any_memory_layout_and_any_array_class_has_rows() -> None:
    shapes = RowShapes(TWO[:1])
    for tensor in (
        np.zeros((2, 3), "f4", "F"),
        np.zeros((4, 6), "f4")[::2, ::2],
        np.broadcast_to(np.float32(1), (2, 3)),
        np.zeros((2, 3), "f4").view(Kept),
        np.ma.zeros((2, 3), "f4"),
    ):
        assert shapes.rows({"x": tensor}) == 2


def test_rows_without_elements_are_counted() -> None:
    assert RowShapes((("x", "f4", (0, 3)),)).rows({"x": np.zeros((5, 0, 3), "f4")}) == 5


def test_strings_have_rows() -> None:
    assert RowShapes((("x", object, ()),)).rows({"x": np.array(["a", "b"], object)}) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"x": None},
        {"x": [[0, 0, 0]] * 2},
        {"x": "ab"},
        {"x": memoryview(np.zeros((2, 3), "f4"))},
        {"x": np.float32(0)},
        {"ids": np.int64(2)},
        {"x": np.array(0, "f4")},
        {"ids": np.array(2)},
        {"x": np.array(0, "f4").view(Kept)},
        {"x": np.zeros(2, "f4")},
        {"x": np.zeros((3,), "f4")},
        {"x": np.zeros((2, 3, 1), "f4")},
        {"x": np.zeros((1, 2, 3), "f4")},
        {"x": np.zeros((2,) + (1,) * 63, "f4")},
        {"ids": np.zeros((2, 1), "i8")},
        {"x": np.zeros((2, 2), "f4")},
        {"x": np.zeros((2, 4), "f4")},
        {"x": np.zeros((2, 0), "f4")},
        {"x": np.zeros((3, 2), "f4")},
        {"x": np.zeros((2, 4), "f4").view(Kept)},
        {"x": np.zeros((2, 3), "f8").view(Kept)},
        {"x": np.zeros((1, 3), "f4")},
        {"x": np.zeros((0, 3), "f4")},
        {"ids": np.zeros(0, "i8")},
        {"ids": np.zeros(3, "i8")},
        {"x": np.zeros((2, 3), "f8")},
        {"x": np.zeros((2, 3), "f2")},
        {"x": np.zeros((2, 3), "u4")},
        {"x": np.zeros((2, 3), ">f4")},
        {"x": np.zeros((2, 3), object)},
        {"x": np.zeros((2, 3), "V4")},
        {"ids": np.zeros(2, "u8")},
        {"ids": np.zeros(2, "m8[s]")},
        {"other": np.zeros((2, 3), "f4")},
    ],
)
def test_every_misfit_is_told_by_minus_one(changed: dict[str, Any]) -> None:
    request = {**tensors(), **changed}
    assert RowShapes(TWO).rows(request) == reference.RowShapes(TWO).rows(request) == -1


@pytest.mark.parametrize(
    "names", [(), ("x",), ("ids",), ("x", "other"), ("X", "ids"), (b"x", "ids"), (None, "ids"), ("x", "ids", "")]
)
def test_names_are_those_of_the_inputs_and_no_others(names: tuple[Any, ...]) -> None:
    request = {name: tensors()["ids" if name == "ids" else "x"] for name in names}
    assert RowShapes(TWO).rows(request) == reference.RowShapes(TWO).rows(request) == -1


def test_a_signature_without_inputs_has_no_rows_to_count() -> None:
    assert RowShapes(()).rows({}) == -1
    assert RowShapes(()).rows({"x": np.zeros(1)}) == -1


def test_shapes_that_no_array_has_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 64 dimensions for x, got 64"):
        RowShapes((("x", "f4", (1,) * 64),))
    with pytest.raises(OverflowError):
        RowShapes((("x", "f4", (2**63,)),))
    assert RowShapes((("x", "f4", (1,) * 63),)).rows({"x": np.zeros((7,) + (1,) * 63, "f4")}) == 7
    # A free dimension fits nothing here: whoever has one asks elsewhere.
    assert RowShapes((("x", "f4", (-1,)),)).rows({"x": np.zeros((1, 1), "f4")}) == -1


@pytest.mark.parametrize(
    "inputs", [None, [], (None,), (("x", "f4"),), (("x", "f4", 3),), (("x", "f4", ("3",)),), (("x", "no type", ()),)]
)
def test_inputs_of_another_type_are_refused(inputs: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        RowShapes(inputs)


def test_requests_of_another_type_are_refused() -> None:
    for request in (None, [], "x"):
        with pytest.raises(TypeError):
            RowShapes(TWO).rows(request)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        RowShapes.__new__(RowShapes)


def test_requests_are_given_back() -> None:
    shapes, good, bad = RowShapes(TWO), tensors(), {**tensors(), "ids": np.zeros(1, "i8")}
    watched = [good, bad, *good.values(), *bad.values(), TWO[0][1]]
    before = [sys.getrefcount(each) for each in watched]
    for _ in range(100):
        shapes.rows(good)
        shapes.rows(bad)
    assert [sys.getrefcount(each) for each in watched] == before


# ---- the slow check ---------------------------------------------------------------------------------------------------

ROW_SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
SPECS = st.lists(
    st.builds(
        lambda name, dtype, row: TensorSpec(name, dtype, (-1, *row)),
        st.sampled_from("abcd"),
        st.sampled_from(list(DType)),
        ROW_SHAPES,
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda spec: spec.name,
)
ARRAYS = {
    "plain": lambda tensor: tensor,
    "fortran": np.asfortranarray,
    "subclass": lambda tensor: tensor.view(Kept),
    "swapped": lambda tensor: tensor.astype(tensor.dtype.newbyteorder()),
    "deeper": lambda tensor: tensor[..., np.newaxis],
    "flat": lambda tensor: tensor.reshape(-1),
    "scalar": lambda tensor: np.zeros((), tensor.dtype)[()],
    "zero rank": lambda tensor: np.zeros((), tensor.dtype),
    "list": lambda tensor: tensor.tolist(),
    "none": lambda tensor: None,
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[Signature, dict[str, Any]]:
    """A signature and a request that fits it or nearly does."""
    specs, rows = draw(SPECS), draw(st.integers(0, 3))
    request: dict[str, Any] = {}
    for spec in specs:
        assert spec.shape is not None
        shape = (rows, *spec.shape[1:])
        kind, dtype = "plain", spec.dtype
        if draw(st.integers(0, 4)) == 0:
            shape = draw(st.sampled_from([(rows + 1, *shape[1:]), (rows, *draw(ROW_SHAPES)), shape[1:]]))
            dtype = draw(st.sampled_from([spec.dtype, spec.dtype, *DType]))
            kind = draw(st.sampled_from(list(ARRAYS)))
        request[spec.name] = ARRAYS[kind](np.zeros(shape, dtype.numpy))
    if draw(st.integers(0, 9)) == 0:
        del request[draw(st.sampled_from(list(request)))]
    if draw(st.integers(0, 9)) == 0:
        request[draw(st.sampled_from("abcde"))] = np.zeros((rows, 1), "f4")
    return Signature(tuple(specs), ()), request


def slow_rows(signature: Signature, request: dict[str, Tensor]) -> int:
    """What the step by step check says; -1 where it refuses."""
    try:
        return Validator(signature, True, 1)._checked_rows(InferRequest(request), request)
    except Exception:
        return -1


@given(requests())
def test_the_quick_count_accepts_what_the_slow_check_accepts_and_nothing_else(
    case: tuple[Signature, dict[str, Any]],
) -> None:
    signature, request = case
    inputs = tuple((spec.name, spec.dtype.numpy, (spec.shape or ())[1:]) for spec in signature.inputs)
    rows = RowShapes(inputs).rows(request)
    assert rows == slow_rows(signature, request)
    assert rows == reference.RowShapes(inputs).rows(request)
