"""Whole HTTP requests, as bytes, before anything is timed: one protocol each. Pure but for reading `--data`."""

import datetime
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
from msgspec import Struct

from fastserve.loadtest import specs as protocols
from fastserve.loadtest.specs import InputSpec, decoded
from fastserve.loadtest.target import LoadTestError, Target
from fastserve.loadtest.values import Array, Inputs, has_rows

LENGTH_HEADER = "Inference-Header-Content-Length"
JSON_TYPE = "application/json"
LOG_FEATURES = 15
MAX_TOTAL_BYTES = 256 << 20
"""All bodies together: more of them than fit are not made."""


class Sent(Struct, frozen=True):
    """One request: below the target's path, what is sent there."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"


Encode = Callable[[str, Sequence[InputSpec], Inputs], Sent]


def paths(model: str, version: str | None) -> dict[str, str]:
    """Where each protocol asks."""
    name, of = quote(model, safe=""), f"/versions/{version}" if version else ""
    return {
        protocols.TFSERVING: f"/v1/models/{name}{of}:predict",
        protocols.V2: f"/v2/models/{name}{of}/infer",
        protocols.V2_BINARY: f"/v2/models/{name}{of}/infer",
        protocols.LOG: "/v1/log",
        protocols.HTTP: "",
    }


def encoded(protocol: str, path: str, specs: Sequence[InputSpec], inputs: Inputs) -> Sent:
    """The request for one set of inputs."""
    return _ENCODE[protocol](path, specs, inputs)


def _tfserving(path: str, specs: Sequence[InputSpec], inputs: Inputs) -> Sent:
    lists = {name: plain(array) for name, array in inputs.items()}
    if not has_rows(specs):
        body: dict[str, Any] = {"inputs": lists}
    elif len(lists) == 1:
        body = {"instances": next(iter(lists.values()))}
    else:
        names = list(lists)
        body = {"instances": [dict(zip(names, row, strict=True)) for row in zip(*lists.values(), strict=True)]}
    return Sent(path, msgspec.json.encode(body))


def _v2(path: str, specs: Sequence[InputSpec], inputs: Inputs) -> Sent:
    entries = [{**_entry(spec, inputs[spec.name]), "data": plain(inputs[spec.name].reshape(-1))} for spec in specs]
    return Sent(path, msgspec.json.encode({"inputs": entries}))


def _v2_binary(path: str, specs: Sequence[InputSpec], inputs: Inputs) -> Sent:
    """As Triton's own clients send it."""
    entries, tensors = [], []
    for spec in specs:
        tensors.append(binary(spec.datatype, inputs[spec.name]))
        size = {"binary_data_size": len(tensors[-1])}
        entries.append({**_entry(spec, inputs[spec.name]), "parameters": size})
    head = msgspec.json.encode({"inputs": entries, "parameters": {"binary_data_output": True}})
    return Sent(path, head + b"".join(tensors), ((LENGTH_HEADER, str(len(head))),))


_ENCODE: dict[str, Encode] = {protocols.TFSERVING: _tfserving, protocols.V2: _v2, protocols.V2_BINARY: _v2_binary}


def _entry(spec: InputSpec, array: Array) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype}


def plain(array: Array) -> Any:
    """Lists as they go into JSON; a float32 in as few digits as tell it apart."""
    if array.dtype in (np.dtype("float32"), np.dtype("float16")):
        array = np.array([float(str(value)) for value in array.reshape(-1)]).reshape(array.shape)
    return array.tolist()


def binary(datatype: str, array: Array) -> bytes:
    """A tensor's bytes: little-endian; strings with their lengths."""
    if datatype == "BYTES":
        texts = [str(text).encode() for text in array.reshape(-1)]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if datatype == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def log_records(model: str, count: int, seed: int, now: datetime.datetime) -> list[Sent]:
    """Records for /v1/log: predictions with some features, each with an id of its own."""
    rand = np.random.default_rng(seed)
    time = now.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    run = f"{rand.integers(1 << 60):x}"
    return [
        Sent("/v1/log", msgspec.json.encode(_record(model, f"bench-{run}-{at}", time, rand))) for at in range(count)
    ]


def _record(model: str, prediction_id: str, time: str, rand: np.random.Generator) -> dict[str, Any]:
    numbers = np.round(rand.random(LOG_FEATURES), 6).tolist()
    return {
        "model_id": model,
        "prediction_id": prediction_id,
        "prediction": {
            "timestamp": time,
            "model_version": "1",
            "features": {f"feature_{at}": {"double": number} for at, number in enumerate(numbers)},
            "prediction_label": {"score_categorical": {"score_category": {"category": "yes", "score": numbers[0]}}},
        },
        "environment_params": {"production": {}},
    }


def from_file(protocol: str, path: str, file: Path, content_type: str | None) -> list[Sent]:
    """Bodies as they stand in a file: a line each of .jsonl, else the whole. Raises LoadTestError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise LoadTestError(f"{file} cannot be read: {error.strerror}") from None
    pieces = [line for line in data.splitlines() if line.strip()] if file.suffix == ".jsonl" else [data]
    if not pieces or not pieces[0]:
        raise LoadTestError(f"{file} is empty")
    headers = (("Content-Type", content_type),) if content_type else ()
    if protocol == protocols.HTTP:
        return [Sent(path, piece, headers) for piece in pieces]
    return [Sent(path, _whole(protocol, piece, file), headers) for piece in pieces]


def _whole(protocol: str, piece: bytes, file: Path) -> bytes:
    """A body; for TF Serving also one instance, as `fastserve predict --data` takes it."""
    value = decoded(piece)
    if protocol == protocols.TFSERVING and value is not None:
        whole = isinstance(value, dict) and ("instances" in value or "inputs" in value)
        return piece if whole else b'{"instances": [' + piece + b"]}"
    if value is None and protocol != protocols.V2_BINARY:
        raise LoadTestError(f"{file} is not JSON; bodies of other kinds are sent with --protocol http")
    return piece


def request_bytes(target: Target, sent: Sent, *, keep_alive: bool) -> bytes:
    """The HTTP request; headers that were given win over ours."""
    ours = [("Host", target.host_header), ("User-Agent", "fastserve-bench"), ("Content-Type", JSON_TYPE)]
    if sent.body or sent.method != "GET":
        ours.append(("Content-Length", str(len(sent.body))))
    if not keep_alive:
        ours.append(("Connection", "close"))
    given = [*sent.headers, *target.headers]
    names = {name.lower() for name, _ in given}
    lines = [f"{name}: {value}" for name, value in [*(one for one in ours if one[0].lower() not in names), *given]]
    head = "\r\n".join([f"{sent.method} {target.path + sent.path or '/'} HTTP/1.1", *lines, "", ""])
    return head.encode("latin-1") + sent.body
