"""What runners keep, and when they bind anew: over a session that only doubles its input."""

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from fastserve.backends import runners
from fastserve.backends.base import Runner
from fastserve.backends.runners import BoundRunner, FixedRunner, PlainRunner, output_dims, runner_for
from fastserve.errors import RunFailed, RunRefused
from fastserve.types import DType, Signature, Tensor, TensorSpec

X = TensorSpec(name="x", dtype=DType.FLOAT, shape=(-1, 2), dim_names=("N", ""))
Y = TensorSpec(name="y", dtype=DType.FLOAT, shape=(-1, 2), dim_names=("N", ""))


class Options:
    terminate = False


class Doubling:
    """`y` is twice `x`. `binds` has the shapes of each binding made, `plain_runs` those of each plain run."""

    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError)

    def __init__(self, inputs: tuple[TensorSpec, ...] = (X,), outputs: tuple[TensorSpec, ...] = (Y,)) -> None:
        self.signature = Signature(inputs=inputs, outputs=outputs)
        self.binds: list[tuple[int, ...]] = []
        self.plain_runs: list[tuple[int, ...]] = []
        self.bound_fails = False
        self.plain_fails = False

    def options(self) -> runners.RunOptions:
        return Options()

    def run(self, feed: dict[str, Tensor], options: runners.RunOptions) -> list[Tensor]:
        if self.plain_fails:
            raise RunFailed("it failed")
        self.plain_runs.append(feed["x"].shape)
        return [feed["x"] * 2]

    def bind(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: runners.RunOptions
    ) -> runners.BoundRun:
        self.binds.append(inputs[0].shape)

        def run() -> None:
            if self.bound_fails:
                raise RuntimeError("shapes differ")
            np.multiply(inputs[0], 2, out=outputs[0])

        return run


def x(rows: int, width: int = 2, start: float = 0) -> dict[str, Tensor]:
    return {"x": np.arange(start, start + rows * width, dtype=np.float32).reshape(rows, width)}


def bound(session: Doubling, max_batch_rows: int = 64) -> BoundRunner:
    runner = runner_for(session, True, max_batch_rows)
    assert isinstance(runner, BoundRunner)
    return runner


def check(runner: Runner, requests: list[dict[str, Tensor]]) -> None:
    rows = [len(request["x"]) for request in requests]
    for request, answer in zip(requests, runner.run(requests, rows), strict=True):
        np.testing.assert_array_equal(answer["y"], request["x"] * 2)


def test_each_number_of_rows_is_bound_once() -> None:
    session = Doubling()
    runner = bound(session)
    check(runner, [x(64)])
    for _ in range(3):
        for rows in (1, 2, 3):
            check(runner, [x(rows)])
    check(runner, [x(1), x(2)])
    assert session.binds == [(64, 2), (1, 2), (2, 2), (3, 2)]
    assert session.plain_runs == []


def test_buffers_grow_by_doubling_up_to_the_largest_batch() -> None:
    runner = bound(Doubling(), max_batch_rows=6)
    sizes = []
    for rows in (1, 2, 3, 4, 5, 6, 1):
        check(runner, [x(rows)])
        sizes.append(runner._buffers[0].size // 2)
    assert sizes == [1, 2, 4, 4, 6, 6, 6]


def test_bindings_of_an_outgrown_buffer_go() -> None:
    session = Doubling()
    runner = bound(session)
    for rows in (1, 2, 1):
        check(runner, [x(rows)])
    assert session.binds == [(1, 2), (2, 2), (1, 2)]


def test_buffers_start_on_a_cache_line() -> None:
    runner = bound(Doubling())
    check(runner, [x(3)])
    assert all(buffer.ctypes.data % 64 == 0 for buffer in runner._buffers.values())


def test_only_so_many_bindings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "MAX_BINDINGS", 3)
    session = Doubling()
    runner = bound(session)
    for rows in (8, 1, 2, 3):
        check(runner, [x(rows)])
    assert list(runner._bound) == [1, 2, 3]
    check(runner, [x(1)])
    check(runner, [x(8)])
    assert session.binds == [(8, 2), (1, 2), (2, 2), (3, 2), (8, 2)]


def test_free_row_shapes_are_bound_apart() -> None:
    free = TensorSpec(name="x", dtype=DType.FLOAT, shape=(-1, -1), dim_names=("N", "T"))
    session = Doubling((free,), (TensorSpec("y", DType.FLOAT, (-1, -1), ("N", "T")),))
    runner = bound(session)
    for width in (9, 3, 0, 3):
        check(runner, [x(1, width), x(2, width)])
        check(runner, [x(3, width)])
    assert session.binds == [(3, 9), (3, 3), (3, 0)]


def test_a_large_request_alone_is_run_where_it_lies() -> None:
    session = Doubling()
    runner = bound(session, 1 << 20)
    rows = runners.IN_PLACE_BYTES // 8
    check(runner, [x(rows)])
    assert (session.binds, session.plain_runs) == ([], [(rows, 2)])
    check(runner, [x(rows // 2), x(rows // 2)])
    check(runner, [x(rows)])
    assert (session.binds, session.plain_runs) == ([(rows, 2)], [(rows, 2)] * 2)


def test_no_buffer_is_kept_for_the_very_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "MAX_BOUND_BYTES", 64)
    session = Doubling()
    runner = bound(session)
    check(runner, [x(4), x(4)])
    assert session.plain_runs == []
    check(runner, [x(4), x(5)])
    assert session.plain_runs == [(9, 2)]


def test_an_array_that_starts_anywhere_is_run() -> None:
    raw = np.zeros(8 * 100 + 1, dtype=np.uint8)
    request = {"x": raw[1:].view(np.float32).reshape(100, 2)}
    assert not request["x"].flags.aligned
    session = Doubling()
    check(PlainRunner(session, True), [request])
    check(bound(session), [request])
    check(bound(session), [request, request])


def test_a_model_whose_outputs_are_not_as_declared_is_not_bound_any_more(caplog: pytest.LogCaptureFixture) -> None:
    session = Doubling()
    session.bound_fails = True
    runner = bound(session)
    with caplog.at_level(logging.WARNING):
        for requests in ([x(2)], [x(2)], [x(1), x(3)]):
            check(runner, requests)
    assert session.binds == [(2, 2)]
    assert len(caplog.records) == 1


def test_input_that_fails_both_ways_does_not_stop_binding() -> None:
    session = Doubling()
    runner = bound(session)
    session.bound_fails = session.plain_fails = True
    with pytest.raises(RunFailed, match="it failed"):
        runner.run([x(2), x(1)], [2, 1])
    session.bound_fails = session.plain_fails = False
    check(runner, [x(2), x(1)])
    assert session.plain_runs == []


def test_an_array_of_another_shape_than_the_buffers_is_the_graphs_to_judge() -> None:
    session = Doubling()
    runner = bound(session)
    check(runner, [x(2, 3)])
    check(runner, [x(2, 3), x(1, 3)])
    assert session.plain_runs == [(2, 3), (3, 3)]
    check(runner, [x(2)])
    assert session.binds == [(2, 2), (3, 2), (2, 2)]


def test_an_output_that_leaves_the_batch_is_an_error() -> None:
    with pytest.raises(RunRefused, match=r'output "y" has shape \[2, 2\] for these 3 rows'):
        PlainRunner(Doubling(), True).run_one(x(2), 3)


def spec(name: str, *dims: int | str) -> TensorSpec:
    shape = tuple(-1 if isinstance(dim, str) else dim for dim in dims)
    return TensorSpec(name, DType.FLOAT, shape, tuple("" if isinstance(dim, int) else dim for dim in dims))


@pytest.mark.parametrize(
    ("inputs", "output", "dims"),
    [
        ([spec("x", "N", 4)], spec("y", "N", 3), [(0, 0), 3]),
        ([spec("x", "N", 4)], spec("y", "M"), [(0, 0)]),
        ([spec("x", "N", "T")], spec("y", "N", "T", 2), [(0, 0), (0, 1), 2]),
        ([spec("x", "N", 4), spec("z", "N", 2, "T")], spec("y", "N", "T"), [(0, 0), (1, 2)]),
        ([spec("x", "N", "T")], spec("y", "N", "U"), None),
        ([spec("x", "N", "T")], spec("y", "N", "N"), None),
        ([spec("x", "N", "")], spec("y", "N", ""), None),
        ([spec("x", "N", 4)], TensorSpec("y", DType.FLOAT, None), None),
    ],
)
def test_where_output_dimensions_come_from(
    inputs: list[TensorSpec], output: TensorSpec, dims: list[runners.OutputDim] | None
) -> None:
    found = output_dims(Signature(inputs=tuple(inputs), outputs=(output,)))
    assert found == (None if dims is None else [dims])


FIXED = spec("x", 1, 3)
TEXT = TensorSpec("x", DType.STRING, (-1,))
LARGE = spec("x", 1, runners.IN_PLACE_BYTES)


@pytest.mark.parametrize(
    ("specs", "batchable", "kind"),
    [
        ((X, Y), True, BoundRunner),
        ((X, Y), False, PlainRunner),
        ((FIXED, FIXED), False, FixedRunner),
        ((FIXED, Y), False, PlainRunner),
        ((LARGE, FIXED), False, PlainRunner),
        ((TEXT, Y), True, PlainRunner),
        ((X, TEXT), True, PlainRunner),
        ((X, spec("y", "N", "U")), True, PlainRunner),
    ],
)
def test_every_model_has_the_fastest_runner_that_is_right_for_it(
    specs: tuple[TensorSpec, TensorSpec], batchable: bool, kind: type
) -> None:
    assert type(runner_for(Doubling(specs[:1], specs[1:]), batchable, 64)) is kind
