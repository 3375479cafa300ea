"""A loaded model as its configuration describes it: what the graph leaves open is filled in, what disagrees is refused.

Thread: `describe` on the loading thread; the runners as those that they stand before.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from msgspec.structs import replace

from fastserve.backends.base import LoadedModel, Runner
from fastserve.config import ModelConfig
from fastserve.config.fields import TensorConfig
from fastserve.errors import LoadFailed
from fastserve.types import DType, Signature, Tensor, TensorSpec

DATATYPES = {
    "BOOL": DType.BOOL,
    "UINT8": DType.UINT8,
    "UINT16": DType.UINT16,
    "UINT32": DType.UINT32,
    "UINT64": DType.UINT64,
    "INT8": DType.INT8,
    "INT16": DType.INT16,
    "INT32": DType.INT32,
    "INT64": DType.INT64,
    "FP16": DType.FLOAT16,
    "FP32": DType.FLOAT,
    "FP64": DType.DOUBLE,
    "BF16": DType.BFLOAT16,
    "BYTES": DType.STRING,
}
MAX_EXAMPLE_ELEMENTS = 1 << 27

Shape = tuple[int, ...]
Reshapes = Mapping[str, tuple[bool, Shape]]
"""By name, whether the batch's dimension stands before it, and the shape of a row, else of all; at most one -1."""


def alone(config: ModelConfig) -> str:
    """Why requests are not to share a run, as far as the configuration says so."""
    if not config.batching:
        return "switched off in the configuration"
    for one in config.inputs:
        if one.batched is False and (one.reshape is not None or (one.shape and one.shape[0] >= 0)):
            return f"the configuration gives {one.name} no free first dimension for rows"
    return ""


def describe(model: LoadedModel, config: ModelConfig) -> LoadedModel:
    """`model` itself where nothing is said of it. Raises LoadFailed naming what disagrees, and where that is said."""
    if not config.inputs and not config.outputs:
        return model
    inputs, takes = _described("input", model.signature.inputs, config.inputs)
    outputs, gives = _described("output", model.signature.outputs, config.outputs)
    return _Described(model, Signature(inputs, outputs), takes, gives)


def _described(
    what: str, specs: Sequence[TensorSpec], said: Sequence[TensorConfig]
) -> tuple[tuple[TensorSpec, ...], Reshapes]:
    """The specs as requests see them; and the graph's own shapes of those that are reshaped on the way."""
    found = {spec.name: spec for spec in specs}
    reshapes: dict[str, tuple[bool, Shape]] = {}
    for one in said:
        spec = found.get(one.name)
        if spec is None:
            raise _refused(one, f"the model has no {what} of that name; it has {', '.join(found)}")
        _check_datatype(one, spec)
        if one.reshape is not None:
            found[one.name] = _reshaped(one, spec, reshapes)
        elif one.shape is not None:
            found[one.name] = _narrowed(one, spec)
    return tuple(found.values()), reshapes


def _refused(said: TensorConfig, reason: str) -> LoadFailed:
    return LoadFailed(f'{said.where + ": " if said.where else ""}"{said.name}": {reason}')


def _check_datatype(said: TensorConfig, spec: TensorSpec) -> None:
    if not said.datatype:
        return
    wanted = DATATYPES.get(said.datatype)
    if wanted is None:
        raise _refused(said, f"there is no datatype {said.datatype}; expected one of {', '.join(DATATYPES)}")
    if wanted is not spec.dtype:
        has = next((name for name, dtype in DATATYPES.items() if dtype is spec.dtype), spec.dtype.name)
        raise _refused(said, f"said to be {said.datatype}, and the graph has {has}")


def _narrowed(said: TensorConfig, spec: TensorSpec) -> TensorSpec:
    """The spec with the dimensions that the graph leaves open as they are said to be."""
    shape = _whole(said, said.shape or (), spec)
    if spec.shape is None:
        return replace(spec, shape=shape, dim_names=())
    _check_dims(said, shape, spec)
    dims = tuple(has if has >= 0 else wanted for has, wanted in zip(spec.shape, shape, strict=True))
    if said.batched is None:  # what stands there may be the shape of an example
        dims = (*spec.shape[:1], *dims[1:])
    names = tuple(name if dim < 0 else "" for name, dim in zip(spec.dim_names, dims, strict=False))
    return replace(spec, shape=dims, dim_names=names)


def _whole(said: TensorConfig, dims: Shape, spec: TensorSpec) -> Shape:
    """`dims` with the batch's dimension, where there is one."""
    batched = said.batched
    if batched is None:
        batched = spec.shape is not None and len(spec.shape) == len(dims) + 1
    return (-1, *dims) if batched else dims


def _check_dims(said: TensorConfig, wanted: Shape, spec: TensorSpec) -> None:
    has = spec.shape or ()
    agree = len(wanted) == len(has) and all(w == h or -1 in (w, h) for w, h in zip(wanted, has, strict=True))
    if not agree:
        raise _refused(said, f"said to be {list(wanted)}, and the graph has {list(has)}")
    if said.batched and has[0] >= 0:
        raise _refused(said, f"said to have a free first dimension for batches, and the graph has {list(has)}")


def _reshaped(said: TensorConfig, spec: TensorSpec, reshapes: dict[str, tuple[bool, Shape]]) -> TensorSpec:
    """As requests see it; what the graph has goes into `reshapes`, both ways the same number of elements."""
    outside, inside = said.shape or (), said.reshape or ()
    free = outside.count(-1), inside.count(-1)
    if free not in ((0, 0), (1, 1)) or prod(d for d in outside if d >= 0) != prod(d for d in inside if d >= 0):
        raise _refused(said, f"{list(outside)} cannot be reshaped to {list(inside)}: they differ in elements, or in -1")
    graph = _whole(said, inside, spec)
    if spec.shape is not None:
        _check_dims(said, graph, spec)
    batched = len(graph) > len(inside)
    reshapes[said.name] = (batched, inside)
    return replace(spec, shape=(-1, *outside) if batched else outside, dim_names=())


class _Described:
    """A loaded model behind another signature."""

    def __init__(self, model: LoadedModel, signature: Signature, takes: Reshapes, gives: Reshapes) -> None:
        self._model = model
        self.signature = signature
        self.batching = model.batching
        self.metadata = model.metadata
        self.providers = model.providers
        self.file_bytes = model.file_bytes
        self._takes = takes
        outside = {spec.name: spec.shape or () for spec in signature.outputs}
        self._gives = {name: (batched, outside[name][batched:]) for name, (batched, _) in gives.items()}

    def example(self, rows: int) -> dict[str, Tensor] | None:
        """The model's own, at the sizes that are said: what runs take is measured at those."""
        found = self._model.example(rows)
        if found is None:
            return None
        fitted = {spec.name: _fitted(found[spec.name], spec) for spec in self.signature.inputs}
        return (
            None
            if any(tensor is None for tensor in fitted.values())
            else {n: t for n, t in fitted.items() if t is not None}
        )

    def runner(self) -> Runner:
        """Make a runner."""
        runner = self._model.runner()
        return _Reshaping(runner, self._takes, self._gives) if self._takes or self._gives else runner

    def close(self) -> None:
        """Let go of the model's memory."""
        self._model.close()


def _fitted(tensor: Tensor, spec: TensorSpec) -> Tensor | None:
    """The example's values over and over, in the spec's shape; None where that is too large to try."""
    dims = spec.shape or ()
    if len(dims) == tensor.ndim:
        shape = tuple(has if dim < 0 else dim for dim, has in zip(dims, tensor.shape, strict=True))
    else:  # reshaped: the first dimension is the batch's
        shape = tuple(
            dim if dim >= 0 else (tensor.shape[0] if i == 0 and tensor.ndim else 1) for i, dim in enumerate(dims)
        )
    if prod(shape) > MAX_EXAMPLE_ELEMENTS:
        return None
    return tensor if shape == tensor.shape else np.resize(tensor, shape)


class _Reshaping:
    """A runner whose tensors have other shapes outside than inside. Shapes only: no element is copied."""

    def __init__(self, runner: Runner, takes: Reshapes, gives: Reshapes) -> None:
        self._runner = runner
        self._takes = takes
        self._gives = gives

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer each request, in their order."""
        answers = self._runner.run([_as(self._takes, request) for request in requests], rows)
        return [_as(self._gives, answer) for answer in answers]

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """`run` for a single request."""
        return _as(self._gives, self._runner.run_one(_as(self._takes, request), rows))

    def stop(self) -> None:
        """End the run under way, and those until `go_on`."""
        self._runner.stop()

    def go_on(self) -> None:
        """Take runs again."""
        self._runner.go_on()


def _as(shapes: Reshapes, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with those in `shapes` reshaped."""
    return {name: _one_as(*shapes[name], tensor) if name in shapes else tensor for name, tensor in tensors.items()}


def _one_as(batched: bool, shape: Shape, tensor: Tensor) -> Tensor:
    """The batch's dimension is the tensor's own; one other may follow from the number of elements."""
    if tensor.size == 0:  # from which nothing follows
        shape = tuple(max(dim, 0) for dim in shape)
    return tensor.reshape((tensor.shape[0], *shape) if batched else shape)
