"""What a prediction came to, as JSON, in the order of Spice's own fields.

Pure. Memory: numbers are written from their array; no Python object is made of them.
"""

from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from fastserve._ext import jsonwrite
from fastserve.errors import ErrorCode, FastServeError
from fastserve.http.message import Headers, Response
from fastserve.http.recorded import ID_HEADER, told_id
from fastserve.http.status import STATUS, error_headers
from fastserve.types import DType, Tensor

JSON: Headers = [("content-type", "application/json")]

Status = Literal["Success", "BadRequest", "InternalError"]
HTTP_STATUS: dict[Status, int] = {"Success": 200, "BadRequest": 400, "InternalError": 500}

MAX_IDS = 32
"""Of more predictions no ids are told: they stand in a header."""

PASSING = (
    ErrorCode.RESOURCE_EXHAUSTED,
    ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
    ErrorCode.DEADLINE_EXCEEDED,
)
"""What may be well a moment later: told by its own status, so that balancers and clients see it."""


class Prediction(Struct, frozen=True):
    """One prediction, or why there is none. `error`: what was wrong inside, for the answer's status.
    `prediction_id`: that it is kept under."""

    status: Status
    model_name: str
    duration_ms: int
    model_version: str | None = None
    values: tuple[Tensor, ...] = ()
    error_message: str | None = None
    error: FastServeError | None = None
    prediction_id: str = ""


def encode_one(prediction: Prediction) -> Response:
    """The answer to GET MODEL/predict."""
    error = prediction.error
    if error is not None and error.code in PASSING:
        return Response(STATUS[error.code], [*JSON, *error_headers(error)], encoded(prediction))
    headers = [*JSON, told_id(prediction.prediction_id)] if prediction.prediction_id else JSON
    return Response(HTTP_STATUS[prediction.status], headers, encoded(prediction))


def encode_many(predictions: list[Prediction], duration_ms: int) -> Response:
    """The answer to POST predict: 200 whatever the single ones came to."""
    body = b",".join(map(encoded, predictions))
    ids = [told_id(prediction.prediction_id)[1] for prediction in predictions]
    headers = [*JSON, (ID_HEADER, ",".join(ids))] if any(ids) and len(ids) <= MAX_IDS else JSON
    return Response(200, headers, b'{"predictions":[%b],"duration_ms":%d}' % (body, duration_ms))


def encoded(prediction: Prediction) -> bytes:
    """One prediction; what it has not is left out."""
    parts = [b'{"status":"%b"' % prediction.status.encode()]
    if prediction.error_message is not None:
        parts.append(b',"error_message":' + _text(prediction.error_message))
    parts.append(b',"model_name":' + _text(prediction.model_name))
    if prediction.model_version is not None:
        parts.append(b',"model_version":' + _text(prediction.model_version))
    if prediction.status == "Success":
        parts.append(b',"prediction":' + _numbers(prediction.values))
    parts.append(b',"duration_ms":%d}' % prediction.duration_ms)
    return b"".join(parts)


def _text(text: str) -> bytes:
    """A path that was not UTF-8 may sit in it as lone surrogates, which JSON cannot carry."""
    return msgspec.json.encode(text.encode("utf-8", "backslashreplace").decode())


def _numbers(arrays: tuple[Tensor, ...]) -> bytes:
    """All of them in one list, each as short as float32 allows; null for what is no number."""
    parts = []
    for array in arrays:
        text = jsonwrite.tensor(b"", array, DType.FLOAT, False, b"")
        if not np.isfinite(array).all():
            text = text.replace(b"NaN", b"null").replace(b"-Infinity", b"null").replace(b"Infinity", b"null")
        parts.append(text.strip()[1:-1])
    return b"[%b]" % b",".join(part for part in parts if part)
