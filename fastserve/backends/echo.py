"""Answers every input as the output of the same name: measures and tests all but onnxruntime.

An `.echo` file is JSON: {"inputs": [{"name": "x", "dtype": "FLOAT", "shape": [-1, 4]}]}. Rows are its first axis.
Thread: any. Memory: every answer is a copy.
"""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from fastserve.backends.base import LoadOptions
from fastserve.errors import LoadFailed
from fastserve.types import Batching, DType, Metadata, Signature, Tensor, TensorSpec


class EchoInput(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an `.echo` file."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class EchoFile(Struct, frozen=True, forbid_unknown_fields=True):
    """An `.echo` file."""

    inputs: tuple[EchoInput, ...]


class EchoRunner:
    """Copies; needs no buffers."""

    def run(self, requests: list[dict[str, Tensor]], rows: list[int]) -> list[dict[str, Tensor]]:
        """Answer a copy of each request's inputs."""
        return [self.run_one(request, count) for request, count in zip(requests, rows, strict=True)]

    def run_one(self, request: dict[str, Tensor], rows: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Answer a copy of the request's inputs."""
        return {name: array.copy() for name, array in request.items()}

    def stop(self) -> None:
        """No run takes long."""

    def go_on(self) -> None:
        """Nothing was stopped."""


class EchoModel:
    """The identity over its inputs."""

    def __init__(self, specs: tuple[TensorSpec, ...]) -> None:
        self.signature = Signature(inputs=specs, outputs=specs)
        fixed = next((spec for spec in specs if not spec.shape or spec.shape[0] != -1), None)
        reason = f'first axis of input "{fixed.name}" is fixed' if fixed else "every row is answered as it came"
        self.batching = Batching(batchable=fixed is None, reason=reason)
        self.metadata: Metadata = {}
        self.providers: tuple[str, ...] = ("echo",)
        self.file_bytes = 0

    def example(self, rows: int) -> dict[str, Tensor] | None:
        """Zeros (for strings: empty ones) of the declared shapes; free dimensions other than rows are 1."""
        return {spec.name: _zeros(spec, rows if self.batching.batchable else 1) for spec in self.signature.inputs}

    def runner(self) -> EchoRunner:
        """Make a runner; it shares nothing."""
        return EchoRunner()

    def close(self) -> None:
        """Nothing is held."""


def _zeros(spec: TensorSpec, rows: int) -> Tensor:
    shape = [1 if dim == -1 else dim for dim in spec.shape or ()]
    if spec.shape and spec.shape[0] == -1:
        shape[0] = rows
    if spec.dtype is DType.STRING:
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=spec.dtype.numpy)


class EchoBackend:
    """Loads `.echo` files."""

    suffixes: tuple[str, ...] = (".echo",)

    def load(self, path: Path, options: LoadOptions) -> EchoModel:
        """Read the signature; there is nothing else to load."""
        try:
            file = msgspec.json.decode(path.read_bytes(), type=EchoFile)
        except (OSError, msgspec.DecodeError) as error:
            raise LoadFailed(f"{path.name} is not an echo model: {error}") from error
        if not file.inputs:
            raise LoadFailed(f"{path.name}: an echo model needs at least one input")
        model = EchoModel(tuple(_spec(path, line) for line in file.inputs))
        if options.alone:
            model.batching = Batching(False, options.alone)
        return model


def _spec(path: Path, line: EchoInput) -> TensorSpec:
    if line.dtype not in DType.__members__:
        known = ", ".join(DType.__members__)
        raise LoadFailed(f'{path.name}: input "{line.name}" has unknown dtype "{line.dtype}"; known: {known}')
    if any(dim < -1 for dim in line.shape):
        raise LoadFailed(f'{path.name}: input "{line.name}" has a negative dimension; -1 means free')
    return TensorSpec(name=line.name, dtype=DType[line.dtype], shape=line.shape)
