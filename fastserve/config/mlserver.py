"""MLServer's `model-settings.json`: the fields that mean something here, each as one of ModelConfig's; the rest by name.

Thread: the repository's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from fastserve.config.fields import TensorConfig, bounded
from fastserve.config.folder import FolderSettings, inside
from fastserve.config.prototext import read_text
from fastserve.errors import ConfigError

_UNAPPLIED = {
    "implementation": "ONNX models are served, by onnxruntime",
    "platform": "a model's file says what it is",
    "parallel_workers": "see --workers",
    "warm_workers": "see --workers",
    "versions": "versions are those that are there",
    "cache_enabled": "answers are not kept",
    "inference_pool_gid": "see --workers",
}
_UNAPPLIED_PARAMETERS = {
    "format": "a model's file says what it is",
    "environment_tarball": "no Python of the model's runs",
    "environment_path": "no Python of the model's runs",
    "inference_pool_gid": "see --workers",
    "extra": "no Python of the model's runs",
}
_UNAPPLIED_TENSOR = {"tags": "a content type says what a tensor means"}


class _TensorParameters(Struct):
    content_type: str | None = None


class _Tensor(Struct):
    name: str = ""
    datatype: str = ""
    shape: tuple[int, ...] | None = None
    parameters: _TensorParameters | None = None


class _Parameters(Struct):
    uri: str | None = None
    version: str | int | None = None
    content_type: str | None = None


class _Settings(Struct):
    """Those fields that are applied."""

    name: str = ""
    parameters: _Parameters | None = None
    max_batch_size: int = 0
    max_batch_time: float = 0.0
    inputs: tuple[_Tensor, ...] | None = field(default=None)
    outputs: tuple[_Tensor, ...] | None = field(default=None)


def read_settings(path: Path) -> FolderSettings:
    """The file at `path`, of the model in its folder. Raises ConfigError with the file and the key."""
    text = read_text(path)
    try:
        raw: Any = msgspec.json.decode(text.encode())
        settings = msgspec.convert(raw, _Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}{_line(text, str(error))}: not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    parameters = settings.parameters or _Parameters()
    notes = _unapplied(path, text, raw)
    version, labels = _version(path, parameters.version, notes)
    values: dict[str, Any] = {"labels": labels} if labels else {}
    if settings.max_batch_size < 0 or settings.max_batch_time < 0:
        raise ConfigError(f"{path}: expected max_batch_size and max_batch_time of at least 0")
    if settings.max_batch_size:
        bounded(values, "max_batch_rows", settings.max_batch_size, notes, str(path))
    if settings.max_batch_size > 1 and settings.max_batch_time:  # as there: neither does anything without the other
        bounded(values, "max_queue_delay_us", round(settings.max_batch_time * 1e6), notes, str(path))
    if parameters.content_type:
        values["content_type"] = parameters.content_type
    for target, tensors in (("inputs", settings.inputs), ("outputs", settings.outputs)):
        if tensors:
            values[target] = tuple(_tensor(tensor, f"{path}: {target}") for tensor in tensors)
    return FolderSettings(
        file=str(path),
        name=settings.name,
        renames=bool(settings.name),
        values=values,
        model_path=_model_path(path, parameters.uri),
        version=version,
        read=(str(path),),
        declared=raw,
        notes=tuple(notes),
    )


def _tensor(tensor: _Tensor, where: str) -> TensorConfig:
    if not tensor.name:
        raise ConfigError(f"{where}: each needs a name")
    return TensorConfig(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=tensor.shape or None,
        batched=None,
        content_type=(tensor.parameters and tensor.parameters.content_type) or "",
        where=where,
    )


def _model_path(path: Path, uri: str | None) -> str:
    """The model's file or folder; empty where it is to be found in the folder."""
    if not uri:
        return ""
    if "://" in uri and not uri.startswith("file://"):
        raise ConfigError(f'{path}: parameters.uri "{uri}": models are read from this machine only')
    return str(inside(path.parent, uri.removeprefix("file://"), f"{path}: parameters.uri"))


def _version(path: Path, version: str | int | None, notes: list[str]) -> tuple[int, dict[str, int]]:
    """`v2` and `2` are 2; what is no number is 1, and said. With it the label that such a version is asked for by."""
    text = "" if version is None else str(version)
    digits = text.removeprefix("v")
    is_number = digits.isdecimal() and digits.isascii() and len(digits) < len(str(1 << 63))
    if text and not is_number:
        notes.append(f'{path}: parameters.version "{text}" is no whole number; it is version 1, and has that label')
    number = int(digits) if is_number else 1
    return number, {text: number} if text and not (is_number and text == digits) else {}


def _unapplied(path: Path, text: str, raw: dict[str, Any]) -> list[str]:
    notes: list[str] = []

    def look(kind: type[Struct], said: dict[str, Any] | None, where: str, reasons: Mapping[str, str]) -> None:
        for name in said or {}:
            if name not in kind.__struct_fields__:
                notes.append(_note(path, text, where + name, name, reasons.get(name, "unknown")))

    look(_Settings, raw, "", _UNAPPLIED)
    look(_Parameters, raw.get("parameters"), "parameters.", _UNAPPLIED_PARAMETERS)
    for field_name in ("inputs", "outputs"):
        for i, tensor in enumerate(raw.get(field_name) or ()):
            look(_Tensor, tensor, f"{field_name}[{i}].", _UNAPPLIED_TENSOR)
            look(_TensorParameters, tensor.get("parameters"), f"{field_name}[{i}].parameters.", _UNAPPLIED_TENSOR)
    return notes


def _note(path: Path, text: str, shown: str, key: str, reason: str) -> str:
    at = text.find(f'"{key}"')
    line = f", line {text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
    return f"{path}{line}: {shown} is not applied: {reason}"


def _line(text: str, reason: str) -> str:
    """`, line 3` where the parser says at which byte it stopped."""
    _, found, at = reason.rpartition("(byte ")
    if not found or not at.rstrip(")").isdecimal():
        return ""
    return f", line {text.encode()[: int(at.rstrip(')'))].count(10) + 1}"
