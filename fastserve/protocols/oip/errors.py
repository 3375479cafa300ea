"""Errors in this protocol's shape: `{"error": "<text>"}` with every status, since clients show what stands there."""

from fastserve.errors import (
    ErrorCode,
    FastServeError,
    InvalidRequest,
    UnknownPath,
    UnsupportedEncoding,
    WrongMethod,
    quoted,
)
from fastserve.http.message import Headers, Response
from fastserve.http.status import json_error

READ_ENCODINGS: Headers = [("accept-encoding", "gzip, deflate")]
"""What a client that sent another one may send (RFC 9110, 15.5.16)."""


class NotOffered(FastServeError):
    """A part of the protocol that this server leaves out."""

    code = ErrorCode.UNIMPLEMENTED


class NotReady(InvalidRequest):
    """Asked whether a model is ready: it is not. (Running it is another question, with another answer.)"""


class ContentTyped(InvalidRequest):
    """A request with content types: to be read by them. Never told to clients."""


class NoSuchVersion(FastServeError):
    """A path with a version that is no number, and no label of the model."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"model {quoted(model)} has no version {quoted(version)}; expected a number or a label")


def encode_error(error: FastServeError) -> Response:
    """`error` as this protocol's answer."""
    return json_error(error, str(error), READ_ENCODINGS if isinstance(error, UnsupportedEncoding) else None)


def unmatched(method: str, path: str, allowed: list[str]) -> FastServeError:
    """Why no call has that method and path; `allowed`: the methods that the path does take."""
    if allowed:
        return WrongMethod(f"Method Not Allowed: {quoted(path)} takes {' or '.join(allowed)}, got {quoted(method)}")
    return UnknownPath(f"Not Found: nothing is served at {quoted(path)}; inference is POST /v2/models/MODEL/infer")
