"""What an ONNX file says of itself: inputs, outputs, metadata. No weights outside the file are opened.

Thread: any, away from serving. Memory: the file's structure until it returns; its weights only where it is edited.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from msgspec import Struct

from fastserve.backends.classes import Labels, name_classes, traced_labels
from fastserve.backends.edits import drop_zipmaps, use_builtin_locale
from fastserve.backends.external import check_external_data
from fastserve.backends.skeleton import read_skeleton
from fastserve.backends.widths import fixed_widths, least_widths
from fastserve.errors import Fault, LoadFailed, quoted
from fastserve.types import DType, Signature, TensorSpec

# Sizes tried for free dimensions come from weights' shapes too; a few of them are enough.
_MAX_SIZES = 12
# Protocol buffers end there.
_MAX_FILE_BYTES = 2**31
_MAX_SIZE = 4096
_LFS_POINTER = b"version https://git-lfs.github.com/"
_SHOWN_BYTES = 24
# What fields run into that no exporter writes so: names that are not UTF-8 (which come as bytes), nodes without outputs.
_UNSOUND = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Graph(Struct, frozen=True):
    """What was read. `edited`: the model's bytes where it had to be changed to be served, else None.

    `sizes`: dimensions of its weights, likeliest first: what a free dimension of an input may have to be.
    `external`: files beside it that hold weights, checked. `file_bytes`: of it and of them.
    """

    signature: Signature
    metadata: dict[str, str]
    sizes: tuple[int, ...]
    external: tuple[str, ...] = ()
    edited: bytes | None = None
    file_bytes: int = 0


def read_graph(path: Path) -> Graph:
    """Read the model in `path`; raises LoadFailed where it cannot be served."""
    try:
        return _read_graph(path)
    except _UNSOUND as error:
        raise LoadFailed(f"{path.name} is not a sound ONNX file: {error}") from error


def _read_graph(path: Path) -> Graph:
    model, complete = _parse(path)
    external = check_external_data(model, path.parent)
    metadata = {
        entry.key: entry.value
        for entry in model.metadata_props
        if isinstance(entry.key, str) and isinstance(entry.value, str)
    }
    mapped, edited = _edit(model)
    name_classes(metadata, mapped or traced_labels(model.graph))
    if edited and not complete:
        model = _parsed(path, _whole(path))
        _edit(model)
    return Graph(
        signature=_signature(model.graph),
        metadata=metadata,
        sizes=_sizes(model.graph),
        external=external,
        edited=model.SerializeToString() if edited else None,
        file_bytes=_file_bytes(path, external),
    )


def _file_bytes(path: Path, external: tuple[str, ...]) -> int:
    try:
        return sum(file.stat().st_size for file in (path, *(path.parent / location for location in external)))
    except OSError as error:  # they were read a moment ago
        raise LoadFailed.unread(path.name, error) from error


def _edit(model: onnx.ModelProto) -> tuple[Labels, bool]:
    """Change what has to be changed for it to be served: the class labels found by that, and whether anything was."""
    labels = drop_zipmaps(model.graph)
    localized = use_builtin_locale(model)
    return labels, bool(labels) or localized


def _parse(path: Path) -> tuple[onnx.ModelProto, bool]:
    """The file's structure, and whether all of its contents are there too."""
    try:
        if path.stat().st_size >= _MAX_FILE_BYTES:
            raise LoadFailed(
                f"{path.name} is larger than 2 GiB; save its weights as external data", Fault.RESOURCE_EXHAUSTED
            )
        skeleton = read_skeleton(path)
    except OSError as error:
        raise LoadFailed.unread(path.name, error) from error
    return _parsed(path, skeleton.data), skeleton.complete


def _whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadFailed.unread(path.name, error) from error


def _parsed(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise LoadFailed(f"{path.name} is not an ONNX file: {_said_of(data)}", Fault.DATA_LOSS) from error
    if not model.graph.node and not model.graph.output:
        raise LoadFailed(f"{path.name} is not an ONNX file, or has no graph: {_said_of(data)}", Fault.DATA_LOSS)
    return model


def _said_of(data: bytes) -> str:
    """What there is instead of a model."""
    if not data:
        return "it is empty"
    if data.startswith(_LFS_POINTER):
        return "it is a pointer of Git LFS; `git lfs pull` fetches the file itself"
    start = data[:_SHOWN_BYTES].decode("utf-8", "replace")
    if start.isprintable():
        return f"it begins with {quoted(start)}"
    return "it is cut short, or something else"


def _signature(graph: onnx.GraphProto) -> Signature:
    # Before IR version 4 every initializer is listed as an input; those with a value are not asked of clients.
    given = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    widths = fixed_widths(graph)
    asked = [_spec("input", value) for value in graph.input if value.name not in given]
    inputs = tuple(_with_width(spec, widths.get(spec.name)) for spec in asked)
    if not inputs:
        raise LoadFailed("the graph has no inputs")
    if not graph.output:
        raise LoadFailed("the graph has no outputs")
    return Signature(inputs=inputs, outputs=tuple(_spec("output", value) for value in graph.output))


def _spec(role: str, value: onnx.ValueInfoProto) -> TensorSpec:
    if not isinstance(value.name, str):
        raise LoadFailed(f"the name of an {role} is not UTF-8: {value.name!r}")
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise LoadFailed(f"{role} {quoted(value.name)} {_not_a_tensor(kind)}")
    tensor = value.type.tensor_type
    if tensor.elem_type not in DType.__members__.values():
        name = _element_name(tensor.elem_type)
        raise LoadFailed(
            f"{role} {quoted(value.name)} has element type {name}, which cannot be served; cast it in the graph"
        )
    if not tensor.HasField("shape"):
        return TensorSpec(name=value.name, dtype=DType(tensor.elem_type), shape=None)
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else -1 for dim in tensor.shape.dim]
    names = [dim.dim_param if isinstance(dim.dim_param, str) else "" for dim in tensor.shape.dim]
    return TensorSpec(
        name=value.name,
        dtype=DType(tensor.elem_type),
        shape=tuple(dims),
        dim_names=tuple(names) if any(names) else (),
    )


def _with_width(spec: TensorSpec, width: int | None) -> TensorSpec:
    """The spec of a table with its number of columns, where only its use in the graph tells it."""
    if width is None or spec.shape is None or len(spec.shape) != 2 or spec.shape[1] != -1:
        return spec
    return TensorSpec(spec.name, spec.dtype, (spec.shape[0], width), spec.dim_names and (spec.dim_names[0], ""))


def _element_name(number: int) -> str:
    names: Sequence[str] = onnx.TensorProto.DataType.keys()
    return names[number] if 0 <= number < len(names) else str(number)


def _not_a_tensor(kind: str | None) -> str:
    match kind:
        case None:
            return "has no type; export the model with typed inputs and outputs"
        case "sequence_type":
            return "is a sequence, not a tensor; export it as one tensor (a classifier's probabilities: zipmap=False)"
        case "map_type":
            return "is a map, not a tensor; export it as tensors of keys and of values"
        case "optional_type":
            return "is optional; export the model with it always there"
        case _:
            return "is sparse; export it as a dense tensor"


def _sizes(graph: onnx.GraphProto) -> tuple[int, ...]:
    """Widths that trees need, and dimensions of the first weights in use: what reaches them is likely to be as wide."""
    found = dict.fromkeys(least_widths(graph))
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer if len(tensor.dims) > 1}
    for node in graph.node:
        for name in node.input:
            found |= dict.fromkeys(dim for dim in shapes.get(name, ()) if 1 < dim <= _MAX_SIZE)
        if len(found) >= _MAX_SIZES:
            break
    return tuple(found)[:_MAX_SIZES]
