"""What a model takes, as the running server says: from the metadata of TF Serving or of the Open Inference Protocol."""

from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from fastserve.loadtest.target import LoadTestError, NotYet, Target

TFSERVING, V2, V2_BINARY, LOG, HTTP = "tfserving", "v2", "v2-binary", "log", "http"
PROTOCOLS = (TFSERVING, V2, V2_BINARY, LOG, HTTP)

DATATYPES = {
    "DT_FLOAT": "FP32",
    "DT_DOUBLE": "FP64",
    "DT_HALF": "FP16",
    "DT_BFLOAT16": "BF16",
    "DT_INT8": "INT8",
    "DT_INT16": "INT16",
    "DT_INT32": "INT32",
    "DT_INT64": "INT64",
    "DT_UINT8": "UINT8",
    "DT_UINT16": "UINT16",
    "DT_UINT32": "UINT32",
    "DT_UINT64": "UINT64",
    "DT_BOOL": "BOOL",
    "DT_STRING": "BYTES",
}


class InputSpec(Struct, frozen=True):
    """One input: its name, v2 datatype, and shape (-1: free; None: of any rank) with the names of free dimensions."""

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    dim_names: tuple[str, ...] = ()


def served_models(target: Target) -> list[str]:
    """The names of what is served, as far as the server tells; sorted."""
    found: set[str] = set()
    for method, path, body in (("POST", "/v2/repository/index", b"{}"), ("GET", "/v1/models", None)):
        answer = target.ask(method, path, body)
        listed = decoded(answer.body) if answer.is_good else None
        rows = listed.get("data", []) if isinstance(listed, dict) else listed
        if isinstance(rows, list):
            found |= {str(row.get("name") or row.get("id")) for row in rows if isinstance(row, dict)}
        if found:
            break
    return sorted(found)


def chosen_model(target: Target, model: str | None) -> str:
    """`model`, or the only one that there is. Raises LoadTestError."""
    if model:
        return model
    names = served_models(target)
    if len(names) == 1:
        return names[0]
    listed = f"{target.url} serves {', '.join(names)}" if names else f"{target.url} does not say what it serves"
    raise LoadTestError(f"{listed}: choose one with --model")


def model_inputs(target: Target, model: str, version: str | None, protocol: str) -> list[InputSpec]:
    """The inputs of `model`. Raises LoadTestError."""
    name, of = quote(model, safe=""), f"/versions/{version}" if version else ""
    ways = [(f"/v1/models/{name}{of}/metadata", _tfserving_specs), (f"/v2/models/{name}{of}", _v2_specs)]
    refusals = []
    for path, read in ways if protocol == TFSERVING else ways[::-1]:
        answer = target.ask("GET", path)
        if answer.is_good:
            try:
                specs = read(decoded(answer.body))
            except (KeyError, TypeError, ValueError, AttributeError):
                specs = []
            if specs:
                return specs
        refusals.append(answer)
    refusal = refusals[0]
    if refusal.status in (401, 403):
        raise LoadTestError(
            f"{target.url} answers {refusal.status}: {refusal.text()}; set FASTSERVE_API_KEY or --header"
        )
    if refusal.status == 503:
        raise NotYet(f"{target.url} answers 503: {refusal.text()}")
    others = [other for other in served_models(target) if other != model]
    which = f"; it serves {', '.join(others)} (--model)" if others else ""
    raise LoadTestError(f"{target.url} says nothing of the inputs of {model}: {refusal.text()}{which}; or give --data")


def decoded(body: bytes) -> Any:
    """JSON, or None."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _tfserving_specs(metadata: Any) -> list[InputSpec]:
    tensors = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    return [_tfserving_spec(name, tensor) for name, tensor in tensors.items()]


def _tfserving_spec(name: str, tensor: Any) -> InputSpec:
    datatype = DATATYPES[tensor["dtype"]]
    if tensor["tensor_shape"].get("unknown_rank"):
        return InputSpec(name, datatype, None)
    dims = tensor["tensor_shape"].get("dim", [])
    names = tuple(str(dim.get("name", "")) for dim in dims)
    return InputSpec(name, datatype, tuple(int(dim["size"]) for dim in dims), names)


def _v2_specs(metadata: Any) -> list[InputSpec]:
    return [
        InputSpec(str(tensor["name"]), str(tensor["datatype"]), tuple(int(dim) for dim in tensor["shape"]))
        for tensor in metadata["inputs"]
    ]
