"""What the columns of a model are called: as configured, as its file's metadata says, or as its inputs are named.

Pure.
"""

from collections.abc import Sequence

import msgspec

from fastserve.engine.lease import Lease
from fastserve.protocols.oip.plan import InputPlan
from fastserve.types import Metadata

METADATA_KEYS = ("features", "feature_names", "feature_names_in_", "input_features")
"""Where exporters write them: a list in JSON, or names and commas."""

MAX_CHARS = 1 << 17


def feature_names(lease: Lease, inputs: Sequence[InputPlan]) -> tuple[tuple[str, ...], bool]:
    """The names of a row's columns, empty if unknown, and whether they are the columns of one wide input."""
    told = lease.config.features or _from_metadata(lease.metadata)
    if len(inputs) != 1:
        return (told if len(told) == len(inputs) else tuple(known.name for known in inputs)), False
    shape = inputs[0].shape
    if shape is not None and len(shape) == 2 and shape[0] in (-1, 1) and told and shape[1] in (-1, len(told)):
        return told, True
    if shape in ((-1,), (-1, 1)):
        return (told if len(told) == 1 else (inputs[0].name,)), False
    return (), False


def _from_metadata(metadata: Metadata) -> tuple[str, ...]:
    for key in METADATA_KEYS:
        text = metadata.get(key, "")
        names = _parsed(text) if len(text) <= MAX_CHARS else ()
        if names and len(set(names)) == len(names):
            return names
    return ()


def _parsed(text: str) -> tuple[str, ...]:
    if not text.lstrip().startswith("["):
        return tuple(name.strip() for name in text.split(",") if name.strip())
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError:
        return ()
