"""What the classes of a classifier are called: as its file's metadata says, else as its nodes do.

Pure; any thread, away from serving.
"""

import ast
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from fastserve.types import CLASSES, encode_classes

Labels = list[str | int]

# Where exporters write names: a list or an object of names by index, in JSON or in Python's spelling, or names and commas.
_KEYS = (CLASSES, "class_names", "names", "labels")
_MAX_CHARS = 1 << 17
_MAX_STEPS = 32

_CLASSIFIERS = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})
_LABEL_ATTRIBUTES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_PASSING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_PICKING = frozenset({"ArrayFeatureExtractor", "Gather"})


def name_classes(metadata: dict[str, str], found: Labels) -> None:
    """Put the names into `metadata` where they are known, in the one form that the server reads; `found`: the nodes'.

    Those of the metadata are somebody's own words, so they count more, if they are as many.
    """
    told = (_parsed(metadata.get(key, "")) for key in _KEYS)
    names = next((names for names in told if names and len(names) == len(found or names)), found)
    metadata.pop(CLASSES, None)
    if names:
        metadata[CLASSES] = encode_classes(names)


def class_labels(node: onnx.NodeProto) -> Labels:
    """The class labels that a node carries as an attribute."""
    for attribute in node.attribute:
        if attribute.name in _LABEL_ATTRIBUTES and (attribute.strings or attribute.ints):
            return [*_texts(attribute.strings), *attribute.ints]
    return []


def traced_labels(graph: onnx.GraphProto) -> Labels:
    """The labels among which the nodes before some output choose; nothing where that is not seen."""
    producers = {name: node for node in graph.node for name in node.output if name}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.output:
        labels = _trace(value.name, producers, constants)
        if labels:
            return labels
    return []


def _trace(name: str, producers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> Labels:
    encoders: list[onnx.NodeProto] = []
    for _ in range(_MAX_STEPS):
        node = producers.get(name)
        if node is None or not node.input:
            return []
        if node.op_type in _CLASSIFIERS:
            return _encoded(class_labels(node), encoders) if name == node.output[0] else []
        if node.op_type in _PICKING:
            return _encoded(_values(node.input[0], producers, constants), encoders)
        if node.op_type == "ArgMax" and encoders:
            return _encoded(list(range(len(_code(encoders[-1])))), encoders)
        if node.op_type == "LabelEncoder":
            encoders.append(node)
        elif node.op_type not in _PASSING:
            return []
        name = node.input[0]
    return []


def _encoded(labels: Labels, encoders: list[onnx.NodeProto]) -> Labels:
    """What the encoders that follow make of the labels; the last one comes first."""
    for encoder in reversed(encoders):
        codes = _code(encoder)
        labels = [codes[label] for label in labels if label in codes]
    return labels


def _code(encoder: onnx.NodeProto) -> dict[str | int, str | int]:
    keys: Labels = []
    values: Labels = []
    for attribute in encoder.attribute:
        if attribute.name in ("keys_strings", "keys_int64s"):
            keys = [*_texts(attribute.strings), *attribute.ints]
        elif attribute.name in ("values_strings", "values_int64s"):
            values = [*_texts(attribute.strings), *attribute.ints]
    return dict(zip(keys, values, strict=False))


def _values(name: str, producers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> Labels:
    """A constant's elements: the classes are picked out of it by index."""
    for _ in range(_MAX_STEPS):
        tensor = constants.get(name)
        if tensor is not None:
            return _elements(tensor)
        node = producers.get(name)
        if node is None or node.op_type not in (*_PASSING, "Constant"):
            return []
        if node.op_type == "Constant":
            return next((_elements(given.t) for given in node.attribute if given.name == "value"), [])
        name = node.input[0]
    return []


def _elements(tensor: onnx.TensorProto) -> Labels:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return []
    if tensor.data_type == onnx.TensorProto.STRING:
        return _texts(tensor.string_data)
    given = tensor.raw_data or tensor.int64_data or tensor.int32_data  # large ones are left out of what is read
    if given and tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
        return [int(number) for number in np.ravel(numpy_helper.to_array(tensor))]
    return []


def _texts(strings: Any) -> Labels:
    return [text.decode("utf-8", "replace") for text in strings]


def _parsed(text: str) -> Labels:
    if not text or len(text) > _MAX_CHARS:
        return []
    if text.lstrip()[:1] not in ("[", "{", "("):
        return [name.strip() for name in text.replace("\n", ",").split(",") if name.strip()]
    readers: tuple[Callable[[str], Any], ...] = (msgspec.json.decode, ast.literal_eval)
    for read in readers:
        try:
            return _listed(read(text))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return []


def _listed(value: Any) -> Labels:
    """Names in the order of their indices. Raises ValueError, TypeError where that is not what `value` is."""
    if isinstance(value, dict):
        by_index = {int(index): name for index, name in value.items()}
        value = [by_index[index] for index in sorted(by_index)] if set(by_index) == set(range(len(by_index))) else []
    return [name if type(name) is int else str(name) for name in value]
