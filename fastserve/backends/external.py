"""External data of an ONNX file is checked here before anything opens it: inside the model's folder, or refused.

A model file is input: a location in it such as `../../etc/passwd`, an absolute path, a link that leads out or a device
must not be read as weights. Thread: any. Memory: reads no tensor data.
"""

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import onnx

from fastserve.backends.walk import tensors
from fastserve.errors import LoadFailed, quoted
from fastserve.types import DType

# onnxruntime reads a location with this in it as an address in its own memory.
_MEMORY_TAG = "_ORT_MEM_ADDR_"


def check_external_data(model: onnx.ModelProto, folder: Path) -> None:
    """Raise LoadFailed for the first tensor whose external data is not a plain file inside `folder`."""
    for tensor in tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_tensor(tensor, folder)


def _check_tensor(tensor: onnx.TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")

    def refuse(reason: str) -> LoadFailed:
        return LoadFailed(f"external data of tensor {quoted(tensor.name)} at {quoted(location)} is refused: {reason}")

    if len(entries) != len(tensor.external_data):
        raise refuse("a key is given twice")
    reason = _bad_location(location)
    if reason:
        raise refuse(reason)
    size_bytes = _file_bytes(folder, location, refuse)
    try:
        offset_bytes = int(entries.get("offset", "0"))
        length_bytes = int(entries.get("length", _tensor_bytes(tensor)))
    except ValueError as error:
        raise refuse("offset and length must be whole numbers") from error
    if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > size_bytes:
        raise refuse(f"bytes {offset_bytes} to {offset_bytes + length_bytes} are not in a file of {size_bytes} bytes")


def _bad_location(location: str) -> str:
    """Why the text itself is refused; empty where it may be looked up."""
    if not location:
        return "no location is given"
    if _MEMORY_TAG in location or any(ord(char) < 32 for char in location):
        return "it is not a file name"
    if "\\" in location:
        return "backslashes are not allowed"
    if location.startswith(("/", "~")) or PureWindowsPath(location).drive:
        return "it must be relative to the model's folder"
    if ".." in location.split("/"):
        return "it must not lead out of the model's folder"
    return ""


def _file_bytes(folder: Path, location: str, refuse: Callable[[str], LoadFailed]) -> int:
    """The size of the file at `location`, once it is known to be a plain file inside `folder`."""
    root = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath([root, target]) != root:
        raise refuse("it leads out of the model's folder")
    try:
        status = os.lstat(target)
    except OSError as error:
        raise refuse(f"{error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise refuse("it is not a regular file")
    if status.st_nlink > 1:
        raise refuse("the file has hard links, so it may belong elsewhere; copy it")
    return status.st_size


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the tensor's shape asks for; 0 for types that are not served, which onnxruntime measures itself."""
    if tensor.data_type not in DType.__members__.values():
        return 0
    return math.prod(int(dim) for dim in tensor.dims) * DType(tensor.data_type).numpy.itemsize
