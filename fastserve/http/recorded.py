"""Answers that tell under which id their prediction is kept, where predictions are (see `engine/recording`).

Thread: any. Memory: the request's tensors are held until it is answered.
"""

import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote, unquote

from fastserve.errors import InvalidRequest, quoted
from fastserve.http.message import HeaderMap, Response
from fastserve.limits import MAX_ID_CHARS
from fastserve.types import InferRequest, InferResult

ID_HEADER = "fastserve-prediction-id"
"""Of an answer; in a request: the id that the client wants. Percent-encoded."""

Encode = Callable[..., Response]

_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""What percent-encoding leaves as it is."""


class Recording(Protocol):
    """What keeps predictions."""

    def begin(self, asked: InferRequest, given: str, /) -> str:
        """The id that it will be kept under; empty: it will not."""

    def note(self, prediction_id: str, asked: InferRequest, result: InferResult, /) -> None:
        """It was answered."""


def told_id(prediction_id: str) -> tuple[str, str]:
    """The header that tells it."""
    if _PLAIN.fullmatch(prediction_id):
        return ID_HEADER, prediction_id
    return ID_HEADER, quote(prediction_id.encode("utf-8", "backslashreplace"), safe="")


def recorded(recording: Recording, asked: InferRequest, headers: HeaderMap, encode: Encode, given: str = "") -> Encode:
    """`encode`, which also keeps what it encodes, and tells the id. `given`: an id that the body gives.

    Raises InvalidRequest for an id in a header that is none.
    """
    prediction_id = recording.begin(asked, given_id(headers) or given)
    if not prediction_id:
        return encode
    told = told_id(prediction_id)

    def encode_and_note(result: InferResult, *arguments: Any) -> Response:
        response = encode(result, *arguments)
        recording.note(prediction_id, asked, result)
        return Response(response.status, [*response.headers, told], response.body)

    return encode_and_note


def given_id(headers: HeaderMap) -> str:
    """The id that a client wants; empty where it wants none. Raises InvalidRequest."""
    text = headers.get(ID_HEADER)
    if not text:
        return ""
    try:
        given = unquote(text, errors="strict")
    except UnicodeDecodeError:
        given = ""
    if not 0 < len(given) <= MAX_ID_CHARS or "\0" in given:
        expected = f"{ID_HEADER}: expected 1 to {MAX_ID_CHARS} characters of percent-encoded UTF-8 without NUL"
        raise InvalidRequest(f"{expected}, got {quoted(text)}")
    return given
