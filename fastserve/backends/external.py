"""External data of an ONNX file is checked here before anything opens it: inside the model's folder, or refused.

A model file is input: a location in it such as `../../etc/passwd`, an absolute path, a link that leads out or a device
must not be read as weights. Thread: any. Memory: the check reads no tensor data, `contents` all of it.
"""

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np
import numpy.typing as npt
import onnx

from fastserve.backends.walk import tensors
from fastserve.errors import LoadFailed, quoted
from fastserve.types import DType

Bytes = npt.NDArray[np.uint8]

MAX_HELD_BYTES = 1 << 31
"""External data beyond this is mapped: such files are to be replaced by renaming, never written over."""

# onnxruntime reads a location with this in it as an address in its own memory.
_MEMORY_TAG = "_ORT_MEM_ADDR_"


def check_external_data(model: onnx.ModelProto, folder: Path) -> tuple[str, ...]:
    """The locations in use. Raises LoadFailed for the first tensor whose data is not a plain file inside `folder`."""
    outside = (tensor for tensor in tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)
    return tuple(dict.fromkeys(_check_tensor(tensor, folder) for tensor in outside))


def contents(folder: Path, locations: tuple[str, ...]) -> dict[str, Bytes]:
    """What lies at checked `locations`; nothing where it is too much to be held twice while a session is made of it.

    onnxruntime maps such files for as long as it serves them: a file that is written over would change the answers, and
    one that is cut short would end the process.
    """
    files = {location: folder / location for location in locations}
    try:
        if sum(file.stat().st_size for file in files.values()) > MAX_HELD_BYTES:
            return {}
        return {location: np.fromfile(file, dtype=np.uint8) for location, file in files.items()}
    except OSError as error:
        raise LoadFailed.unread(f"external data at {error.filename}", error) from error


def _check_tensor(tensor: onnx.TensorProto, folder: Path) -> str:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location: str = entries.get("location", "")

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
    return location


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
