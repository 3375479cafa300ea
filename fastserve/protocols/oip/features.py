"""What the columns of a model are called: as configured, as its file's metadata says, or as its inputs are named.

Pure.
"""

from collections.abc import Sequence

from fastserve.engine.feature_names import names_told
from fastserve.engine.lease import Lease
from fastserve.protocols.oip.plan import InputPlan


def feature_names(lease: Lease, inputs: Sequence[InputPlan]) -> tuple[tuple[str, ...], bool]:
    """The names of a row's columns, empty if unknown, and whether they are the columns of one wide input."""
    told = names_told(lease.config, lease.metadata)
    if len(inputs) != 1:
        return (told if len(told) == len(inputs) else tuple(known.name for known in inputs)), False
    shape = inputs[0].shape
    if shape is not None and len(shape) == 2 and shape[0] in (-1, 1) and told and shape[1] in (-1, len(told)):
        return told, True
    if shape in ((-1,), (-1, 1)):
        return (told if len(told) == 1 else (inputs[0].name,)), False
    return (), False
