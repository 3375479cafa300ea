"""Values for a model's inputs: made up from its metadata, the same for the same seed; or rows of a NumPy file. Pure but for
reading that file."""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import read_array

from fastserve.loadtest.specs import InputSpec
from fastserve.loadtest.target import LoadTestError

Array = np.ndarray[Any, np.dtype[Any]]
Inputs = dict[str, Array]
"""By name; each with its rows first, where the model has rows."""

DECIMALS = 6
"""Of floats, as what was measured somewhere has them."""

MAX_VALUES = 100_000_000
WORDS = ("low", "medium", "high", "red", "green", "blue", "north", "south")

NUMPY = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "float32",
    "BYTES": "object",
}


def made_up(
    specs: Sequence[InputSpec], *, rows: int, dims: Mapping[str, int], integers_below: int, seed: int, count: int
) -> list[Inputs]:
    """`count` sets of inputs with `rows` rows each. Raises LoadTestError."""
    shapes = {spec.name: shape_of(spec, rows, dims) for spec in specs}
    unused = set(dims) - {key for spec in specs for axis in range(len(spec.shape or ())) for key in _keys(spec, axis)}
    if unused:
        known = [
            key for spec in specs for axis, dim in enumerate(spec.shape or ()) if dim < 0 for key in _keys(spec, axis)
        ]
        raise LoadTestError(f"--dim {', '.join(sorted(unused))}: the free dimensions are {', '.join(known) or 'none'}")
    values = sum(math.prod(shape) for shape in shapes.values())
    if values > MAX_VALUES:
        raise LoadTestError(f"a request of {values:,} values is too large to be made up; give --data, or smaller --dim")
    rand = np.random.default_rng(seed)
    return [{spec.name: _array(spec, shapes[spec.name], rand, integers_below) for spec in specs} for _ in range(count)]


def has_rows(specs: Sequence[InputSpec]) -> bool:
    """Whether every input's first dimension is free, so that rows can be sent."""
    return all(spec.shape is not None and spec.shape[:1] == (-1,) for spec in specs)


def shape_of(spec: InputSpec, rows: int, dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape to send. A free dimension is what `dims` says, by name or `INPUT.AXIS`; else the first: rows, others: 1."""
    if spec.shape is None:
        raise LoadTestError(f"input {spec.name} takes any shape: give --data")
    shape = []
    for axis, dim in enumerate(spec.shape):
        given = next((dims[key] for key in _keys(spec, axis) if key in dims), None)
        free = rows if axis == 0 else 1
        shape.append(dim if dim >= 0 else free if given is None else given)
    return tuple(shape)


def _keys(spec: InputSpec, axis: int) -> list[str]:
    name = spec.dim_names[axis] if axis < len(spec.dim_names) else ""
    return [f"{spec.name}.{axis}", *([name] if name else [])]


def _array(spec: InputSpec, shape: tuple[int, ...], rand: np.random.Generator, integers_below: int) -> Array:
    kind = NUMPY.get(spec.datatype)
    if kind is None:
        raise LoadTestError(f"input {spec.name} is {spec.datatype}, which is not made up: give --data")
    if kind == "object":
        return np.array(WORDS, object)[rand.integers(0, len(WORDS), shape)]
    if kind == "bool":
        return rand.integers(0, 2, shape).astype(bool)
    if kind.startswith("float"):
        return np.round(rand.random(shape), DECIMALS).astype(kind)
    return rand.integers(0, min(integers_below, int(np.iinfo(kind).max) + 1), shape).astype(kind)


def from_numpy(path: Path, specs: Sequence[InputSpec], *, rows: int, count: int) -> list[Inputs]:
    """Sets of `rows` rows, in turn, of an .npy (a model with one input) or .npz file. Raises LoadTestError."""
    try:
        arrays = {specs[0].name: _array_of(path)} if path.suffix == ".npy" else _arrays_of(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise LoadTestError(f"{path} cannot be read: {error}") from None
    if set(arrays) != {spec.name for spec in specs}:
        wanted = ", ".join(spec.name for spec in specs)
        raise LoadTestError(f"{path} has {', '.join(sorted(arrays))}; the model takes {wanted}")
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise LoadTestError(f"{path}: expected arrays with the same number of rows, got {sorted(lengths)}")
    (length,) = lengths
    sets = min(count, max(1, length // rows))
    take = [np.arange(start * rows, (start + 1) * rows) % length for start in range(sets)]
    kinds = {spec.name: NUMPY.get(spec.datatype, "object") for spec in specs}
    return [{name: array[places].astype(kinds[name]) for name, array in arrays.items()} for places in take]


def _array_of(path: Path) -> Array:
    with path.open("rb") as file:
        array: Array = read_array(file, allow_pickle=False)
    return array


def _arrays_of(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
    return {name: read_array(member, allow_pickle=False) for name, member in members.items()}
