"""Errors in TensorFlow Serving's words and shape: `{"error": "<message>"}`, quoted values cut short.

The core says what is wrong; which words this protocol has for it is decided here, by the error's class.
"""

import re

from fastserve.errors import (
    MAX_QUOTED_CHARS,
    DeadlineExceeded,
    ErrorCode,
    FastServeError,
    InvalidRequest,
    LabelNotFound,
    ModelNotFound,
    VersionNotFound,
)
from fastserve.http.message import Response
from fastserve.http.status import json_error

OWNED = re.compile(r"(?i:/v1/models|/model-serving)(?:/.*)?\Z", re.DOTALL)
"""Every path of this protocol, right or wrong; as upstream, the fixed parts are read in any case."""

_OWNED_PARTS = re.compile(r"(?i:/v1/models|/model-serving)/([^/]*)(.*)", re.DOTALL)
_KNOWN_TAIL = re.compile(r"(?i:/(?:versions?|labels?|metadata|predict|classify|regress)(?:/.*)?|/+)", re.DOTALL)

VERBS = ("predict", "classify", "regress")

_VERBS = 'POST on a path that ends in ":predict", ":classify" or ":regress"'
_SHAPE = 'expecting MODEL, then perhaps "/versions/<whole number>" or "/labels/<label>"'


class StatusNotFound(FastServeError):
    """Status has other words for what it cannot find than predict and metadata have."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, model: str, version: int | None = None, found: str = "") -> None:
        """`found`: what there is in the model's folder instead."""
        what = "any versions" if version is None else f"version {version}"
        super().__init__(f"Could not find {what} of model {_cut(model)}" + (f": {found}" if found else ""))


def encode_error(error: FastServeError) -> Response:
    """`error` as this protocol's answer."""
    return json_error(error, wording(error))


def wording(error: FastServeError) -> str:
    """Upstream's words for `error`, where it has some of its own."""
    match error:
        case LabelNotFound():
            return f"Unrecognized servable version label: {_cut(error.label)}"
        case VersionNotFound(version=int()):
            return f"Servable not found for request: Specific({_cut(error.model)}, {error.version})"
        case VersionNotFound():
            return f"Servable not found for request: Latest({_cut(error.model)}); its status says why"
        case ModelNotFound():
            return f"Servable not found for request: Latest({_cut(error.model)})"
        case DeadlineExceeded():
            return f"Timed out waiting for notification: {error}"
        case _:
            return str(error)


def unmatched(method: str, path: str) -> FastServeError:
    """Why no call of this protocol has that method and path."""
    whole = _OWNED_PARTS.match(path)
    name, tail = whole.groups() if whole else ("", "")
    if not name:
        return InvalidRequest("Missing model name in request.")
    target, colon, verb = (name + tail).rpartition(":")
    if colon and "/" not in verb:
        return _unmatched_verb(method, path, target, verb)
    if method != "GET":
        return _malformed(method, path, f"it takes GET; inference is {_VERBS}")
    if not tail or _KNOWN_TAIL.fullmatch(tail):
        return _malformed(method, path, f'{_SHAPE}, then perhaps "/metadata"; inference is POST MODEL:predict')
    return StatusNotFound(name + tail)


def _unmatched_verb(method: str, path: str, target: str, verb: str) -> FastServeError:
    if verb not in VERBS:
        return _malformed(method, path, f'the verb after ":" must be predict, classify or regress, got "{_cut(verb)}"')
    if method != "POST":
        return _malformed(method, path, f'":{verb}" takes POST')
    name, slash, tail = target.partition("/")
    if not name:
        return InvalidRequest("Missing model name in request.")
    if slash and _KNOWN_TAIL.fullmatch(slash + tail):
        return _malformed(method, path, f'{_SHAPE}, then ":{verb}"')
    # Paths are matched once decoded: this asked for a model whose name holds "/" or ":", and no model's name may.
    return ModelNotFound(target)


def _malformed(method: str, path: str, hint: str) -> InvalidRequest:
    return InvalidRequest(f"Malformed request: {_cut(method)} {_cut(path)} - {hint}")


def _cut(value: str) -> str:
    return value if len(value) <= MAX_QUOTED_CHARS else value[:MAX_QUOTED_CHARS] + "..."
