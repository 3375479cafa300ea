"""Names and JSON of metadata answers, as the Open Inference Protocol has them."""

from msgspec import Struct

from fastserve.types import DType, Signature, TensorSpec

DATATYPES: dict[DType, str] = {
    DType.BOOL: "BOOL",
    DType.UINT8: "UINT8",
    DType.UINT16: "UINT16",
    DType.UINT32: "UINT32",
    DType.UINT64: "UINT64",
    DType.INT8: "INT8",
    DType.INT16: "INT16",
    DType.INT32: "INT32",
    DType.INT64: "INT64",
    DType.FLOAT16: "FP16",
    DType.FLOAT: "FP32",
    DType.DOUBLE: "FP64",
    DType.BFLOAT16: "BF16",
    DType.STRING: "BYTES",
}
"""Element types by their names on the wire."""

PLATFORM = "onnxruntime_onnx"

MAX_DESCRIBED_CHARS = 1024


class ServerMetadata(Struct):
    """GET /v2. `extensions`: only what works, since clients branch on it."""

    name: str
    version: str
    extensions: tuple[str, ...]


class TensorMetadata(Struct):
    """One input or output; -1 is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(Struct):
    """GET /v2/models/M: `versions` are those that serve, by number; `version` the one that this is of, as MLRun has it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    version: str


def model_metadata(name: str, version: int, versions: list[int], signature: Signature) -> ModelMetadata:
    """The metadata answer for `signature`."""
    return ModelMetadata(
        name=name,
        versions=[str(version) for version in sorted(versions)],
        platform=PLATFORM,
        inputs=[_tensor_metadata(spec) for spec in signature.inputs],
        outputs=[_tensor_metadata(spec) for spec in signature.outputs],
        version=str(version),
    )


def describe(specs: tuple[TensorSpec, ...]) -> str:
    """Names, types and shapes as metadata gives them, cut short for models with very many."""
    text = ", ".join(f"{spec.name}: {DATATYPES[spec.dtype]} {shape_text(spec.shape)}" for spec in specs) or "no inputs"
    return text if len(text) <= MAX_DESCRIBED_CHARS else text[:MAX_DESCRIBED_CHARS] + "..."


def shape_text(shape: tuple[int, ...] | None) -> str:
    """`[-1,4]`."""
    return "of any shape" if shape is None else f"[{','.join(map(str, shape))}]"


def fits(shape: tuple[int, ...], declared: tuple[int, ...] | None) -> bool:
    """Whether a tensor of `shape` has the rank and the fixed dimensions that are declared."""
    if declared is None:
        return True
    return len(shape) == len(declared) and all(dim in (-1, size) for dim, size in zip(declared, shape, strict=True))


def _tensor_metadata(spec: TensorSpec) -> TensorMetadata:
    # Of an unknown rank the protocol cannot speak; one free dimension comes nearest.
    return TensorMetadata(spec.name, DATATYPES[spec.dtype], (-1,) if spec.shape is None else spec.shape)
