"""Errors in the shape of a gRPC gateway, old and new: `code`, `error` and `message` with one text, `details`. Pure.

Texts that the contract gives are given word for word; where something is, and what was expected there, stands in `details`
(google.rpc.BadRequest).
"""

from typing import Any

import msgspec

from fastserve.errors import ErrorCode, FastServeError, Forbidden, ModelForbidden, Unauthenticated
from fastserve.http.message import Headers, Response
from fastserve.http.status import error_headers, status_of
from fastserve.protocols.arize.protojson import Mistake

JSON: Headers = [("content-type", "application/json")]

UNREADABLE_HEADERS = "cannot access request headers"
NO_KEY = "must provide authorization header"
NO_SPACE = "unable to validate authorization header"
WRONG_KEY = "invalid api-key"
OUR_FAULT = "Internal service error, contact Arize"

BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

GRPC_CODES: dict[ErrorCode, int] = {
    ErrorCode.CANCELLED: 1,
    ErrorCode.INVALID_ARGUMENT: 3,
    ErrorCode.DEADLINE_EXCEEDED: 4,
    ErrorCode.NOT_FOUND: 5,
    ErrorCode.PERMISSION_DENIED: 7,
    ErrorCode.RESOURCE_EXHAUSTED: 8,
    ErrorCode.OVERLOADED: 8,
    ErrorCode.UNIMPLEMENTED: 12,
    ErrorCode.INTERNAL: 13,
    ErrorCode.UNAVAILABLE: 14,
    ErrorCode.UNAUTHENTICATED: 7,
    ErrorCode.METHOD_NOT_ALLOWED: 12,
    ErrorCode.PAYLOAD_TOO_LARGE: 8,
    ErrorCode.UNSUPPORTED_MEDIA: 3,
    ErrorCode.REQUEST_TIMEOUT: 4,
    ErrorCode.UNPROCESSABLE: 3,
}
STATUSES = {ErrorCode.UNAUTHENTICATED: 403, ErrorCode.UNSUPPORTED_MEDIA: 400}
"""Where these routes have other ones than the rest of the server: nobody is asked for a password, and no type is wrong."""


class Refused(FastServeError):
    """The caller may not; the text is the table's, `reason` is ours."""

    code = ErrorCode.PERMISSION_DENIED

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def encode_error(error: FastServeError) -> Response:
    """`error` in the shape that this protocol's clients read."""
    text = _text(message_of(error))
    body = {"code": GRPC_CODES[error.code], "error": text, "message": text, "details": _details(error)}
    status = STATUSES.get(error.code) or status_of(error)
    headers = [] if isinstance(error, Unauthenticated) else error_headers(error)
    return Response(status, [*JSON, *headers], msgspec.json.encode(body))


def message_of(error: FastServeError) -> str:
    """What clients are told first."""
    if isinstance(error, Unauthenticated):
        return NO_KEY if error.missing else WRONG_KEY
    if isinstance(error, Forbidden) and not isinstance(error, ModelForbidden):
        return WRONG_KEY
    return OUR_FAULT if error.code is ErrorCode.INTERNAL else str(error)


def _details(error: FastServeError) -> list[dict[str, Any]]:
    if isinstance(error, Mistake):
        violation = {"field": _text(error.path), "description": _text(error.description)}
        return [{"@type": BAD_REQUEST, "fieldViolations": [violation]}]
    reason = error.reason if isinstance(error, Refused) else str(error)
    if reason == message_of(error):
        return []
    return [
        {"@type": ERROR_INFO, "reason": error.code.value, "domain": "fastserve", "metadata": {"why": _text(reason)}}
    ]


def _text(text: str) -> str:
    """What was not UTF-8 may sit in it as lone surrogates, which JSON cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode()
