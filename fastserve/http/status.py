"""Errors over HTTP: error code to status (the only place that knows both), and the body that most protocols have."""

import math

import msgspec

from fastserve.errors import ErrorCode, FastServeError, Unauthenticated, WrongMethod
from fastserve.http.message import Headers, Response

STATUS: dict[ErrorCode, int] = {
    ErrorCode.CANCELLED: 499,
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.RESOURCE_EXHAUSTED: 429,
    ErrorCode.OVERLOADED: 429,
    ErrorCode.UNIMPLEMENTED: 501,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA: 415,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.UNPROCESSABLE: 422,
}


def status_of(error: FastServeError) -> int:
    """The HTTP status for `error`."""
    return STATUS[error.code]


def error_headers(error: FastServeError) -> list[tuple[str, str]]:
    """What a client is told beside the text: `Retry-After` in whole seconds (RFC 9110, 10.2.3), at least 1, where waiting
    helps; `Allow` where a method is wrong, `WWW-Authenticate` where nobody knows who is calling."""
    if isinstance(error, Unauthenticated):
        return [("www-authenticate", challenge) for challenge in error.challenges]
    if isinstance(error, WrongMethod):
        return [("allow", ", ".join(error.allowed))]
    if error.retry_after_s is None:
        return []
    return [("retry-after", str(max(1, math.ceil(error.retry_after_s))))]


def error_text(text: str) -> bytes:
    """`text` in UTF-8: a path or key that was none may sit in it as lone surrogates, which no body can carry."""
    return text.encode("utf-8", "backslashreplace")


def json_error(error: FastServeError, text: str, more: Headers | None = None) -> Response:
    """`{"error": "<text>"}`, with the status and the headers of `error`, and `more` headers."""
    headers = [("content-type", "application/json"), *error_headers(error), *(more or [])]
    return Response(status_of(error), headers, msgspec.json.encode({"error": error_text(text).decode()}))
