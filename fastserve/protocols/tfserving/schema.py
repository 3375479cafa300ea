"""The JSON of status and metadata answers, field by field as TensorFlow Serving's protos print it.

Every 64-bit integer is a string (proto3's JSON mapping); names stay in snake_case; no field is ever left out.
"""

from typing import Literal

from msgspec import Struct

from fastserve.types import DType, Signature, TensorSpec, VersionState, VersionStatus

SIGNATURE_NAME = "serving_default"
METHOD_NAME = "tensorflow/serving/predict"

DTYPE_NAMES: dict[DType, str] = {
    DType.FLOAT: "DT_FLOAT",
    DType.DOUBLE: "DT_DOUBLE",
    DType.FLOAT16: "DT_HALF",
    DType.BFLOAT16: "DT_BFLOAT16",
    DType.INT8: "DT_INT8",
    DType.INT16: "DT_INT16",
    DType.INT32: "DT_INT32",
    DType.INT64: "DT_INT64",
    DType.UINT8: "DT_UINT8",
    DType.UINT16: "DT_UINT16",
    DType.UINT32: "DT_UINT32",
    DType.UINT64: "DT_UINT64",
    DType.BOOL: "DT_BOOL",
    DType.STRING: "DT_STRING",
}

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]

# Upstream has no state for "failed": it says END and the status tells why.
STATES: dict[VersionState, State] = {
    VersionState.UNLOADED: "END",
    VersionState.LOADING: "LOADING",
    VersionState.READY: "AVAILABLE",
    VersionState.DRAINING: "UNLOADING",
    VersionState.FAILED: "END",
}


class Condition(Struct):
    """How loading went: a gRPC code's name, and the reason where it is not OK."""

    error_code: str
    error_message: str


class VersionLine(Struct):
    """One version in a status answer."""

    version: str
    state: State
    status: Condition


class StatusBody(Struct):
    """GET /v1/models/M: the highest version first."""

    model_version_status: list[VersionLine]


class Dim(Struct):
    """One dimension; "-1" is free, and `name` then carries its symbol."""

    size: str
    name: str


class TensorShape(Struct):
    """Dimensions, or the word that even their number is unknown."""

    dim: list[Dim]
    unknown_rank: bool


class TensorInfo(Struct):
    """One input or output."""

    dtype: str
    tensor_shape: TensorShape
    name: str


class SignatureDef(Struct):
    """Inputs and outputs by name."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: str
    defaults: dict[str, str]


class SignatureDefMap(Struct):
    """Signatures by name; an ONNX graph has one."""

    signature_def: dict[str, SignatureDef]


class MetadataMap(Struct):
    """The one kind of metadata there is. (`signature_def` really stands twice.)"""

    signature_def: SignatureDefMap


class ModelSpec(Struct):
    """Which version answers."""

    name: str
    signature_name: str
    version: str


class MetadataBody(Struct):
    """GET /v1/models/M/metadata."""

    model_spec: ModelSpec
    metadata: MetadataMap


def status_body(lines: list[VersionStatus]) -> StatusBody:
    """The status answer for `lines`, which come newest first."""
    return StatusBody([_version_line(line) for line in lines])


def metadata_body(model: str, version: int, signature: Signature) -> MetadataBody:
    """The metadata answer for one version."""
    definition = SignatureDef(
        inputs={spec.name: _tensor_info(spec) for spec in signature.inputs},
        outputs={spec.name: _tensor_info(spec) for spec in signature.outputs},
        method_name=METHOD_NAME,
        defaults={},
    )
    return MetadataBody(
        ModelSpec(name=model, signature_name="", version=str(version)),
        MetadataMap(SignatureDefMap({SIGNATURE_NAME: definition})),
    )


def _version_line(line: VersionStatus) -> VersionLine:
    failed = line.state is VersionState.FAILED
    return VersionLine(
        str(line.version), STATES[line.state], Condition(line.fault.value if failed else "OK", line.reason)
    )


def _tensor_info(spec: TensorSpec) -> TensorInfo:
    return TensorInfo(DTYPE_NAMES[spec.dtype], _tensor_shape(spec), spec.name)


def _tensor_shape(spec: TensorSpec) -> TensorShape:
    if spec.shape is None:
        return TensorShape([], unknown_rank=True)
    names = spec.dim_names or ("",) * len(spec.shape)
    return TensorShape([Dim(str(size), name) for size, name in zip(spec.shape, names, strict=True)], unknown_rank=False)
