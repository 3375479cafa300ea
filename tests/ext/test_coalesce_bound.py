"""One request on bound buffers: what fits is copied in, run and copied out, anything else touches no run."""

import gc
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.coalesce import Bound
from fastserve.types import Tensor
from tests.reference import coalesce as reference


def doubling(buffer: Tensor, output: Tensor) -> Callable[[], None]:
    """A run: the output is twice the input."""
    return lambda: np.multiply(buffer, 2, out=output)  # type: ignore[return-value]


def doubler(shape: tuple[int, ...] = (2, 3), dtype: str = "f4") -> Bound:
    """`y` is twice `x`."""
    buffer, output = np.zeros(shape, dtype), np.zeros(shape, dtype)
    return Bound(doubling(buffer, output), (("x", buffer),), (("y", output),))


class Runs:
    """Counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class Kept(np.ndarray[Any, Any]):
    """An array of another class."""


def test_a_request_is_copied_in_run_and_copied_out() -> None:
    bound = doubler()
    request = {"x": np.arange(6, dtype="f4").reshape(2, 3)}
    answer = bound.answer(request)
    assert answer is not None
    assert {name: array.tolist() for name, array in answer.items()} == {"y": [[0, 2, 4], [6, 8, 10]]}
    assert request["x"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_answers_are_copies_that_own_their_memory() -> None:
    bound = doubler((2,))
    first = bound.answer({"x": np.array([1, 2], "f4")})
    second = bound.answer({"x": np.array([3, 4], "f4")})
    assert first is not None
    assert second is not None
    bound.outputs[0][1][:] = -1
    assert (first["y"].tolist(), second["y"].tolist()) == ([2, 4], [6, 8])
    for array in (first["y"], second["y"]):
        assert array.base is None
        assert array.flags.owndata
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_all_outputs_come_in_their_order_and_names_of_no_input_are_passed_over() -> None:
    buffers = {name: np.zeros((1, 2), dtype) for name, dtype in (("a", "f4"), ("b", "i8"))}
    outputs = {name: np.full((1, 1), place, "f8") for place, name in enumerate("zyx")}
    bound = Bound(Runs(), tuple(buffers.items()), tuple(outputs.items()))
    answer = bound.answer({"other": None, "b": np.full((1, 2), 7), "a": np.ones((1, 2), "f4")})  # type: ignore[dict-item]
    assert answer is not None
    assert [(name, array.tolist()) for name, array in answer.items()] == [("z", [[0]]), ("y", [[1]]), ("x", [[2]])]
    assert (buffers["a"].tolist(), buffers["b"].tolist()) == ([[1, 1]], [[7, 7]])


def test_nothing_bound_is_run_all_the_same() -> None:
    runs = Runs()
    assert Bound(runs, (), ()).answer({}) == {}
    assert runs.count == 1


def test_every_bit_arrives() -> None:
    nans = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000], "u4").view("f4")
    buffer = np.zeros(4, "f4")
    answer = Bound(Runs(), (("x", buffer),), (("y", buffer),)).answer({"x": nans})
    assert answer is not None
    assert answer["y"].tobytes() == nans.tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)])
def test_tensors_without_elements_fit_buffers_without(shape: tuple[int, ...]) -> None:
    answer = doubler(shape).answer({"x": np.zeros(shape, "f4")})
    assert answer is not None
    assert answer["y"].shape == shape


GOOD = np.ones((2, 3), "f4")


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"y": GOOD},
        {"X": GOOD},
        {"x": None},
        {"x": GOOD.tolist()},
        {"x": GOOD.tobytes()},
        {"x": memoryview(GOOD)},
        {"x": np.float32(1)},
        {"x": np.array(1, "f4")},
        {"x": GOOD[0]},
        {"x": GOOD[:1]},
        {"x": GOOD[:0]},
        {"x": GOOD[:, :2].copy()},
        {"x": np.ones((3, 3), "f4")},
        {"x": np.ones((3, 2), "f4")},
        {"x": np.ones(6, "f4")},
        {"x": np.ones((1, 2, 3), "f4")},
        {"x": np.ones((2, 3, 1), "f4")},
        {"x": np.ones((1,) * 64, "f4")},
        {"x": np.ones((0, 2**40), "f4")},
        {"x": GOOD.astype("f8")},
        {"x": GOOD.astype("f2")},
        {"x": GOOD.astype("i4")},
        {"x": GOOD.astype(">f4")},
        {"x": GOOD.astype(object)},
        {"x": GOOD.astype("S4")},
        {"x": GOOD.view("V4")},
        {"x": np.asfortranarray(GOOD)},
        {"x": np.ones((4, 3), "f4")[::2]},
        {"x": GOOD[::-1]},
        {"x": np.broadcast_to(np.float32(1), (2, 3))},
    ],
)
def test_what_does_not_fill_its_buffer_is_not_run(request_: Any) -> None:
    runs, output = Runs(), np.full((2, 1), 9, "f4")
    bound = Bound(runs, (("x", np.zeros((2, 3), "f4")),), (("y", output),))
    assert bound.answer(request_) is None
    assert runs.count == 0
    assert output.tolist() == [[9], [9]]


@pytest.mark.parametrize("bad", ["a", "b"])
def test_every_input_must_fit(bad: str) -> None:
    runs = Runs()
    bound = Bound(runs, (("a", np.zeros((2, 1))), ("b", np.zeros((2, 1)))), ())
    good = {"a": np.ones((2, 1)), "b": np.ones((2, 1))}
    assert bound.answer({**good, bad: np.ones((1, 1))}) is None
    assert bound.answer({name: array for name, array in good.items() if name != bad}) is None
    assert runs.count == 0
    assert bound.answer(good) == {}
    assert runs.count == 1


def test_an_array_of_a_subclass_fits() -> None:
    answer = doubler().answer({"x": GOOD.view(Kept)})
    assert answer is not None
    assert answer["y"].tolist() == [[2, 2, 2], [2, 2, 2]]


def test_views_of_the_buffers_themselves_are_taken() -> None:
    bound = doubler((2,))
    buffer, output = bound.inputs[0][1], bound.outputs[0][1]
    buffer[:] = [1, 2]
    for request in ({"x": buffer}, {"x": buffer[:]}, {"x": output}):
        answer = bound.answer(request)
        assert answer is not None
    assert answer["y"].tolist() == [4, 8]


def test_what_the_run_raises_passes_through_and_the_next_request_is_answered() -> None:
    broken = RuntimeError("out of memory")
    failures: list[BaseException] = [broken, KeyboardInterrupt()]

    def run() -> None:
        if failures:
            raise failures.pop(0)

    bound = Bound(run, (), (("y", np.ones(1)),))
    with pytest.raises(RuntimeError) as raised:
        bound.answer({})
    assert raised.value is broken
    with pytest.raises(KeyboardInterrupt):
        bound.answer({})
    assert bound.answer({}) == {"y": np.ones(1)}


READ_ONLY = np.zeros((2, 2), "f4")
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("buffer", "reason"),
    [
        (np.array(1.0), "expected x of rank 1"),
        (np.zeros((4, 4))[:, :2], "contiguous x"),
        (np.zeros((2, 2), "f4", "F"), "contiguous x"),
        (np.full((2, 2), "a", object), "Python objects"),
        (np.zeros(2, [("a", "f4"), ("b", object)]), "Python objects"),
    ],
)
def test_buffers_that_cannot_be_bound_are_refused(buffer: Tensor, reason: str) -> None:
    for inputs, outputs in ((("x", buffer),), ()), ((), (("x", buffer),)):
        with pytest.raises(ValueError, match=reason):
            Bound(Runs(), inputs, outputs)


def test_only_inputs_must_be_writable() -> None:
    with pytest.raises(ValueError, match="writable buffer for x"):
        Bound(Runs(), (("x", READ_ONLY),), ())
    answer = Bound(Runs(), (), (("x", READ_ONLY),)).answer({})
    assert answer is not None
    answer["x"][:] = 1
    assert READ_ONLY.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "pair", [("x", None), ("x", [1.0]), ("x", 1.0), (None, np.zeros(2)), (b"x", np.zeros(2)), None]
)
def test_pairs_of_another_type_are_refused(pair: Any) -> None:
    for inputs, outputs in ((pair,), ()), ((), (pair,)):
        with pytest.raises(TypeError):
            Bound(Runs(), inputs, outputs)


@pytest.mark.parametrize("arguments", [(Runs(), None, ()), (Runs(), (), None), (Runs(), [], ()), (Runs(),), ()])
def test_arguments_of_another_type_are_refused(arguments: Any) -> None:
    with pytest.raises(TypeError):
        Bound(*arguments)
    with pytest.raises(TypeError):
        Bound.__new__(Bound, *arguments)


def test_requests_of_another_type_are_refused() -> None:
    for request in (None, [], "x", [("x", GOOD)]):
        with pytest.raises(TypeError):
            doubler().answer(request)  # type: ignore[arg-type]


def test_what_is_bound_can_be_read_and_not_replaced() -> None:
    runs, pairs = Runs(), (("x", np.zeros(2)),)
    bound = Bound(runs, pairs, pairs)
    assert bound.run is runs
    assert bound.inputs[0][1] is bound.outputs[0][1] is pairs[0][1]
    for name in ("run", "inputs", "outputs"):
        with pytest.raises(AttributeError):
            setattr(bound, name, ())


def test_requests_answers_and_buffers_are_given_back() -> None:
    bound = doubler()
    buffer, output = bound.inputs[0][1], bound.outputs[0][1]
    request, other = {"x": GOOD.copy()}, {"x": GOOD[:1]}
    watched = (bound.run, buffer, output, request, request["x"], other["x"], GOOD.dtype)
    before = [sys.getrefcount(each) for each in watched]
    for _ in range(100):
        bound.answer(request)
        bound.answer(other)
        bound.answer({})
    assert [sys.getrefcount(each) for each in watched] == before
    del bound, watched
    assert sys.getrefcount(buffer) <= before[1] - 2


def test_a_run_that_holds_its_own_buffers_is_collected() -> None:
    run = Runs()
    run.bound = Bound(run, (), ())  # type: ignore[attr-defined]
    watched = weakref.ref(run)
    del run
    gc.collect()
    assert watched() is None


def test_big_requests_are_copied_by_several_threads_at_once() -> None:
    def round_trip(value: int) -> bool:
        bound, request = doubler((300, 400), "f8"), {"x": np.full((300, 400), float(value))}
        answers = [bound.answer(request) for _ in range(5)]
        return all(answer is not None and (answer["y"] == 2 * value).all() for answer in answers)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(round_trip, range(8)))


SHAPES = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)
DTYPES = st.sampled_from(["f4", "f8", "f2", "i8", "i1", "u2", "?"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Buffers by name, and a request that fills them or nearly does."""
    buffers, request = {}, {}
    for name in draw(st.sets(st.sampled_from("abc"))):
        shape, dtype = draw(SHAPES), draw(DTYPES)
        buffers[name] = np.zeros(shape, dtype)
        other = draw(st.integers(0, 9))
        shape, dtype = (draw(SHAPES) if other == 0 else shape), (draw(DTYPES) if other == 1 else dtype)
        tensor = (np.arange(np.prod(shape, dtype=int)) % 100 + draw(st.integers(0, 20))).astype(dtype).reshape(shape)
        tensor = np.asfortranarray(tensor) if other == 2 else tensor
        request[name] = tensor.tolist() if other == 3 else tensor
        if other == 4:
            del request[name]
    return buffers, request


@given(requests())
def test_answers_agree_with_the_twin(case: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    buffers, request = case
    runs, twin_runs = Runs(), Runs()
    # The inputs' buffers are bound as outputs too: what was copied in must come out.
    native = Bound(runs, tuple(buffers.items()), tuple(buffers.items())).answer(request)
    plain = tuple((name, buffer.copy()) for name, buffer in buffers.items())
    expected = reference.Bound(twin_runs, plain, plain).answer(request)
    assert runs.count == twin_runs.count
    assert (native is None) == (expected is None)
    for name, array in (expected or {}).items():
        assert native is not None
        assert (native[name].dtype, native[name].shape) == (array.dtype, array.shape)
        assert native[name].tobytes() == array.tobytes()
