"""A row of the prediction log: one part (prediction, actual, importances or document) of one record, whatever it came as.

Memory: a row owns what is in it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from fastserve.store.frames import Frame

Value = int | float | str | list[str] | list[float]
"""What a feature or tag is; a list of floats is an embedding's vector."""

Part = Literal["prediction", "actual", "importance", "document"]


class Row(Struct, frozen=True, kw_only=True):
    """One part of one record, in the one form that every spelling ends in.

    `ts_ns`: when it happened; `ingest_ns`: when it came here. `seq` grows over all workers: the last one wins.
    `label_json`: labels that are neither a number nor a category (ranking, boxes, several classes), in one normal form.
    `extras`: what is beside a value, by its feature's name: an embedding's link and raw text. `digest`: of the part's
    content; the same part sent twice is one.
    """

    space: str
    model_id: str
    version: str
    environment: str
    batch_id: str
    prediction_id: str
    ts_ns: int
    ingest_ns: int
    seq: int
    kind: Part
    label_num: float | None = None
    label_cat: str | None = None
    score: float | None = None
    label_json: str | None = None
    features: dict[str, Value] = {}
    tags: dict[str, Value] = {}
    importances: dict[str, float] = {}
    extras: dict[str, Any] = {}
    digest: bytes = b""


Readers = Mapping[int, Callable[[Frame], Iterable[Row]]]
"""Who knows what a frame of a kind holds."""
