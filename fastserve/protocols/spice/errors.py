"""Errors in Spice's shape: plain text. Pure."""

from fastserve.errors import ErrorCode, FastServeError
from fastserve.http.message import Headers, Response
from fastserve.http.status import error_headers, error_text, status_of

TEXT: Headers = [("content-type", "text/plain; charset=utf-8")]
UNAUTHORIZED = b"Unauthorized"


class NotJson(FastServeError):
    """The body is not said to be JSON."""

    code = ErrorCode.UNSUPPORTED_MEDIA

    def __init__(self) -> None:
        super().__init__("Expected request with `Content-Type: application/json`")


class WrongShape(FastServeError):
    """The body is JSON, and of another shape."""

    code = ErrorCode.UNPROCESSABLE

    def __init__(self, reason: str) -> None:
        super().__init__(f"Failed to deserialize the JSON body into the target type: {reason}")


def encode_error(error: FastServeError) -> Response:
    """`error` as text."""
    headers = [*TEXT, *error_headers(error)]
    if error.code is ErrorCode.UNAUTHENTICATED:
        return Response(status_of(error), headers, UNAUTHORIZED)
    return Response(status_of(error), headers, error_text(str(error)))
