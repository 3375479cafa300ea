"""Requests that are made up and run before a version serves, on every slot.

Thread: the loading thread. Memory: one request's tensors at a time.
"""

import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from fastserve.backends.base import LoadedModel, Runner
from fastserve.config.warming import WarmupConfig, WarmupInput
from fastserve.engine.described import DATATYPES
from fastserve.engine.recorded import NAME, recorded
from fastserve.engine.validate import Validator
from fastserve.errors import FastServeError, LoadFailed
from fastserve.types import DType, InferRequest, Tensor, TensorSpec

_log = logging.getLogger(__name__)

MAX_ELEMENTS = 1 << 28
_SEED = 20_26


def warm_up(samples: Sequence[WarmupConfig], model: LoadedModel, runners: Sequence[Runner]) -> None:
    """Run every sample as often as it says. Raises LoadFailed naming the sample that the model does not take."""
    for number, sample in enumerate(samples, start=1):
        name = f'warm-up request "{sample.name or number}"'
        try:
            inputs = _inputs(sample, model)
            rows = Validator(model.signature, model.batching.batchable, 1).rows(InferRequest(inputs))
            for runner in runners:
                for _ in range(sample.count):
                    runner.run([dict(inputs)], [rows])
        except (FastServeError, OSError, ValueError) as error:
            raise LoadFailed(f"{name}: {error}") from error


def warm_up_as_recorded(name: str, folder: Path, model: LoadedModel, runners: Sequence[Runner], max_rows: int) -> None:
    """Run what TF Serving's users have recorded beside the model in `folder`: for the model as it was before it was ONNX,
    so what does not fit it any more is told, and keeps no version from serving."""
    try:
        requests, others = recorded(folder)
        validator = Validator(model.signature, model.batching.batchable, 1)
        for inputs in requests:
            rows = validator.rows(InferRequest(inputs))
            count = min(rows, max_rows)
            given = {key: tensor[:count] for key, tensor in inputs.items()} if count < rows else inputs
            for runner in runners:
                runner.run([dict(given)], [count])
    except (FastServeError, OSError, ValueError) as error:
        _log.warning("model %s: %s is not applied: %s", name, folder / NAME, error)
        return
    if requests:
        _log.info("model %s: %d recorded warm-up requests were run", name, len(requests))
    if others:
        _log.warning("model %s: %s: %d of other calls than predict not applied", name, folder / NAME, others)


def _inputs(sample: WarmupConfig, model: LoadedModel) -> dict[str, Tensor]:
    specs = {spec.name: spec for spec in model.signature.inputs}
    unknown = [name for name in sample.inputs if name not in specs]
    if unknown:
        raise LoadFailed(f"the model has no input {unknown[0]}; it has {', '.join(specs)}")
    return {name: _tensor(said, specs[name], sample.rows) for name, said in sample.inputs.items()}


def _tensor(said: WarmupInput, spec: TensorSpec, rows: int) -> Tensor:
    if said.datatype and DATATYPES.get(said.datatype) is not spec.dtype:
        raise LoadFailed(f"input {spec.name} is said to be {said.datatype}, and the model takes {spec.dtype.name}")
    if any(dim < 0 for dim in said.shape) or prod(said.shape) * rows > MAX_ELEMENTS:
        raise LoadFailed(f"input {spec.name}: expected sizes, none of them -1, got {list(said.shape)}")
    one = _row(said, spec)
    batched = spec.shape is not None and len(spec.shape) == len(said.shape) + 1
    return np.ascontiguousarray(np.stack([one] * rows)) if batched else one


def _row(said: WarmupInput, spec: TensorSpec) -> Tensor:
    """One row, or the whole where the model has no rows."""
    if said.data == "file":
        return _from_file(Path(said.file), said.shape, spec)
    if spec.dtype is DType.STRING:  # random text would mean nothing more than none
        return np.full(said.shape, "", dtype=object)
    if said.data == "zero":
        return np.zeros(said.shape, dtype=spec.dtype.numpy)
    return _random(said.shape, spec.dtype)


def _random(shape: tuple[int, ...], dtype: DType) -> Tensor:
    generator = np.random.default_rng(_SEED)
    kind = dtype.numpy
    if dtype is DType.BFLOAT16:  # its bits: those of a float32, the upper half
        return (generator.random(shape, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if kind.kind == "f":
        return np.asarray(generator.random(shape)).astype(kind)
    if kind.kind == "b":
        return np.asarray(generator.integers(0, 2, shape)).astype(kind)
    info = np.iinfo(kind)
    return np.asarray(generator.integers(info.min, info.max, shape, dtype=kind, endpoint=True))


def _from_file(path: Path, shape: tuple[int, ...], spec: TensorSpec) -> Tensor:
    """Little-endian elements in row-major order; strings with four bytes of length before each."""
    with path.open("rb") as file:
        data = file.read(MAX_ELEMENTS * 8)
    if spec.dtype is not DType.STRING:
        return np.frombuffer(data, dtype=spec.dtype.numpy.newbyteorder("<")).astype(spec.dtype.numpy).reshape(shape)
    texts: list[str] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            raise ValueError(f"{path.name}: a string at byte {at} ends beyond the file")
        texts.append(data[at + 4 : end].decode())
        at = end
    return np.array(texts, dtype=object).reshape(shape)
